import { describe, expect, it } from 'vitest'
import { encryptionFault } from '../registry/encryption.ts'
import { clientAlgorithmFault, keyAlgorithmFault, TOKEN_ALGORITHMS } from './algorithms.ts'

describe('an algorithm that a client registered', () => {
  it('is taken in every supported name, which includes the alias Ed25519', () => {
    for (const name of TOKEN_ALGORITHMS)
      expect([clientAlgorithmFault(name), keyAlgorithmFault(name)]).toEqual([null, null])
    expect(TOKEN_ALGORITHMS).toContain('Ed25519')
  })

  it.each([
    ['HS256', /must not be HS256: .*client's secret, which Curfew never has\. Set RS256 .*the relay refuses/],
    ['HS384', /must not be HS384: .*Set RS384/],
    ['HS512', /must not be HS512: .*Set RS512/],
    ['none', /must not be none: .*must be signed.*Set RS256/],
    ['ES256K', /must not be ES256K: .*secp256k1.*Set ES256 /],
    ['Ed448', /must not be Ed448: .*Set Ed25519/],
    ['rs256', /must be written RS256/],
    ['RS1', /must be one of RS256,.*Ed25519/],
    [7, /must be one of/],
    ['constructor', /must be one of/],
  ])('is refused as %s with the way out', (value, words) => {
    expect(clientAlgorithmFault(value)).toMatch(words)
  })
})

describe('an encryption that a client registered', () => {
  it.each([
    ['RSA1_5', /must not be RSA1_5: its padding is broken.*Set RSA-OAEP-256/],
    ['dir', /must not be dir: .*secret.*ECDH-ES/],
    ['A128KW', /must not be A128KW: .*secret/],
    ['A256GCMKW', /must not be A256GCMKW: .*secret/],
    ['PBES2-HS256+A128KW', /must not be PBES2-HS256\+A128KW: .*secret/],
    ['RSA-OAEP-512', /must not be RSA-OAEP-512: .*hash/],
    ['other', /must be one of RSA-OAEP,/],
  ])('is refused as %s with the way out', (value, words) => {
    expect(encryptionFault(value)).toMatch(words)
  })

  it('is taken as RSA-OAEP-256', () => {
    expect(encryptionFault('RSA-OAEP-256')).toBeNull()
  })
})
