/**
 * The signature of a token that a relying party should take or refuse. `other_key` has the issuer's `kid` and another key. The `public_key`
 * ones are HS256, keyed with what everybody can read of the issuer's key, in the form named (RFC 8725 2.1).
 */
export type TokenSignature =
  | 'issuer'
  | 'corrupted'
  | 'other_key'
  | 'none'
  | 'public_key_pem'
  | 'public_key_jwk'
