import {
  type Binding,
  CONTENT_ENCRYPTIONS,
  ENCRYPTION_ALGORITHMS,
  TOKEN_ALGORITHMS,
  type TokenEncryption,
} from '@curfew/domain'
import { type Static, Type } from 'typebox'
import { oneOf } from '../schemas.ts'

/** The encryption of tokens, with a key from `jwks` or from the set at `jwks_uri`. */
const StoredEncryption = Type.Object(
  {
    alg: oneOf(ENCRYPTION_ALGORITHMS),
    enc: oneOf(CONTENT_ENCRYPTIONS),
    jwks: Type.Optional(Type.Unknown()),
    jwks_uri: Type.Optional(Type.String()),
  },
  { additionalProperties: false },
)
export type StoredEncryption = Static<typeof StoredEncryption>

/** The values of `curfew.token_type`: the `typ` of a token's header, or none. */
export const TOKEN_TYPES = ['logout+jwt', 'JWT', 'none'] as const
export type TokenType = (typeof TOKEN_TYPES)[number]

/** The settings of a back-channel endpoint in the ledger. */
export const BackchannelSettings = Type.Object(
  {
    subject_claims: oneOf(['sid', 'sub', 'both']),
    session_required: Type.Boolean(),
    algorithm: oneOf(TOKEN_ALGORITHMS),
    encryption: Type.Union([StoredEncryption, Type.Null()]),
    token_type: oneOf(TOKEN_TYPES),
    /** The values of `error` in a 400 that mean that the session is already over. */
    already_ended_errors: Type.Array(Type.String()),
  },
  { additionalProperties: false },
)
export type BackchannelSettings = Static<typeof BackchannelSettings>

/**
 * The kinds of names that a logout token can have. An RP that uses only `sub` ends every session of the user, even for a logout
 * of one session.
 */
export function namesOf({
  subject_claims,
  session_required,
}: Pick<BackchannelSettings, 'subject_claims' | 'session_required'>): Pick<
  Binding,
  'names' | 'widens' | 'always'
> {
  if (session_required) return { names: 'session', widens: true, always: false }
  return { names: subject_claims === 'sub' ? 'subject' : 'either', widens: true, always: false }
}

/** The `typ` of a token's header; null for a header without it. */
export function typOf(type: TokenType): string | null {
  return type === 'none' ? null : type
}

export function toEncryption({ alg, enc, jwks = null, jwks_uri: uri }: StoredEncryption): TokenEncryption {
  return { alg, enc, jwks, jwksUri: jwks === null ? (uri ?? null) : null }
}
