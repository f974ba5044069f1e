import {
  CONTENT_ENCRYPTIONS,
  ENCRYPTION_ALGORITHMS,
  type Names,
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

/** The settings of a back-channel endpoint in the ledger. */
export const BackchannelSettings = Type.Object(
  {
    subject_claims: oneOf(['sid', 'sub', 'both']),
    session_required: Type.Boolean(),
    algorithm: oneOf(TOKEN_ALGORITHMS),
    encryption: Type.Union([StoredEncryption, Type.Null()]),
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
}: Pick<BackchannelSettings, 'subject_claims' | 'session_required'>): { names: Names; widens: boolean } {
  if (session_required) return { names: 'session', widens: true }
  return { names: subject_claims === 'sub' ? 'subject' : 'either', widens: true }
}

export function toEncryption({ alg, enc, jwks = null, jwks_uri: uri }: StoredEncryption): TokenEncryption {
  return { alg, enc, jwks, jwksUri: jwks === null ? (uri ?? null) : null }
}
