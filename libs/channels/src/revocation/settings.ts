import type { Binding } from '@curfew/domain'
import { type Static, type TProperties, Type } from 'typebox'
import { oneOf } from '../schemas.ts'

/** The ways in which a client authenticates (RFC 7591 section 2, RFC 8705 section 2). */
export const METHODS = [
  'client_secret_basic',
  'client_secret_post',
  'client_secret_jwt',
  'private_key_jwt',
  'tls_client_auth',
  'self_signed_tls_client_auth',
  'none',
] as const
export type Method = (typeof METHODS)[number]

const Names = Type.Array(Type.String({ minLength: 1, maxLength: 64 }), { minItems: 1, maxItems: 32 })
const printable = (description: string) =>
  Type.Optional(Type.String({ pattern: '^[\\x20-\\x7e]{1,1000}$', description }))

/** The members of `curfew.channels.revocation` in a registration. Members with long names are those of RFC 8414. */
export const registration = {
  revocation_endpoint: Type.Optional(
    Type.String({
      minLength: 1,
      maxLength: 2_048,
      description:
        "The endpoint, as in the metadata of the authorization server. Default: the revocation_endpoint of the client's metadata.",
    }),
  ),
  revocation_endpoint_auth_methods_supported: Type.Optional({
    ...Names,
    description:
      'The methods that the endpoint takes, as in the metadata of the authorization server. Default: client_secret_basic.',
  }),
  revocation_endpoint_auth_signing_alg_values_supported: Type.Optional({
    ...Names,
    description: 'The algorithms that the endpoint takes for client_secret_jwt and private_key_jwt.',
  }),
  method: Type.Optional(
    oneOf(METHODS, {
      description:
        "How Curfew authenticates as the client. Default: the client's token_endpoint_auth_method if the endpoint takes it, otherwise the first supported method that Curfew has.",
    }),
  ),
  client_id: Type.Optional(
    Type.String({
      pattern: '^[\\x20-\\x7e]{1,255}$',
      description:
        'The client that Curfew authenticates as. Default: the client_id of the relying party. An authorization server lets a client revoke its own tokens, and those of others only if it is configured to.',
    }),
  ),
  signing_alg: Type.Optional(
    Type.String({
      pattern: '^[A-Za-z0-9]{1,16}$',
      description:
        'The algorithm for client_secret_jwt and private_key_jwt. Default: HS256, or that of the private JWK.',
    }),
  ),
  audience: printable(
    'The aud for client_secret_jwt and private_key_jwt. Default: the iss of the issuer (RFC 7523 section 3).',
  ),
} satisfies TProperties

const Own = Type.Object(registration)
export type Own = Static<typeof Own>

const TextOrNull = Type.Union([Type.String(), Type.Null()])

/** The settings of an endpoint in the ledger. */
export const RevocationSettings = Type.Object(
  {
    method: oneOf(METHODS),
    /** Null: the `client_id` of the relying party. */
    client_id: TextOrNull,
    /** The algorithm of an assertion. Null: that of the private JWK. */
    algorithm: TextOrNull,
    /** The `aud` of an assertion. Null: the `iss` of the issuer. */
    audience: TextOrNull,
  },
  { additionalProperties: false },
)
export type RevocationSettings = Static<typeof RevocationSettings>

/** See `Channel.names`. Only the session index has tokens. */
export function namesOf(): Pick<Binding, 'names' | 'widens' | 'always' | 'posted'> {
  return { names: 'session', widens: true, always: false, posted: true }
}
