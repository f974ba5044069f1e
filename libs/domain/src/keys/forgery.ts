/**
 * The signature of a probe's token, which a relying party should accept (`issuer`) or refuse (the others). `other_key` has the
 * issuer's `kid` and another key. The `public_key` kinds are HS256 with the issuer's public key as the secret, in the named form
 * (RFC 8725 2.1).
 */
export type TokenSignature =
  | 'issuer'
  | 'corrupted'
  | 'other_key'
  | 'none'
  | 'public_key_pem'
  | 'public_key_jwk'
