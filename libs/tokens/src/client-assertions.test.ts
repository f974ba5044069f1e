import { createHmac, generateKeyPairSync } from 'node:crypto'
import type { ClientKeyError } from '@curfew/domain'
import { importJWK, jwtVerify } from 'jose'
import { expect, test } from 'vitest'
import { signAssertion } from './client-assertions.ts'

// Goal: servers accept the assertions of a client by every kind of secret (RFC 7523).
// Method: verifies with jose.

const CLAIMS = { iss: 'shop', sub: 'shop', aud: 'https://as.example', jti: 'j1' }

test.each(['HS256', 'HS384', 'HS512'])('%s signs with the text of the secret', async (algorithm) => {
  const secret = 'a secret of the client that is long enough for the hash of it, as RFC 7518 3.2 asks'
  const token = await signAssertion(secret, algorithm, CLAIMS)
  const { payload, protectedHeader } = await jwtVerify(token, new TextEncoder().encode(secret))
  expect([payload, protectedHeader]).toEqual([CLAIMS, { alg: algorithm, typ: 'JWT' }])
  const [header, claims, signature] = token.split('.')
  const hash = createHmac(algorithm.replace('HS', 'sha'), secret).update(`${header}.${claims}`)
  expect(signature).toBe(hash.digest('base64url'))
})

const rsa = generateKeyPairSync('rsa', { modulusLength: 2_048 })
const ec = generateKeyPairSync('ec', { namedCurve: 'P-384' })
const ed = generateKeyPairSync('ed25519')
test.each([
  ['an RSA key', rsa, {}, null, 'RS256'],
  ['an RSA key with alg', rsa, { alg: 'PS384', kid: 'k1' }, null, 'PS384'],
  ['an RSA key for the registered algorithm', rsa, {}, 'PS256', 'PS256'],
  ['a key of an elliptic curve', ec, { kid: 'k2' }, null, 'ES384'],
  ['an Ed25519 key', ed, {}, 'Ed25519', 'Ed25519'],
] as const)('the private JWK of %s signs', async (_, { privateKey, publicKey }, more, algorithm, alg) => {
  const secret = JSON.stringify({ ...privateKey.export({ format: 'jwk' }), ...more })
  const token = await signAssertion(secret, algorithm, CLAIMS)
  const key = await importJWK(publicKey.export({ format: 'jwk' }), alg)
  const { payload, protectedHeader } = await jwtVerify(token, key)
  const kid = 'kid' in more ? { kid: more.kid } : {}
  expect([payload, protectedHeader]).toEqual([CLAIMS, { alg, typ: 'JWT', ...kid }])
})

test.each(['hush', '{"kty":"EC"}', '"hush"', JSON.stringify(rsa.publicKey.export({ format: 'jwk' }))])(
  'a secret that is no private JWK is refused, and the error does not repeat it',
  async (secret) => {
    const refused: ClientKeyError = await signAssertion(secret, null, CLAIMS).catch((error) => error)
    expect(refused).toMatchObject({ code: 'ERR_CLIENT_KEY' })
    expect(refused.message).toMatch(/^the secret is no private JWK that can sign: /)
    expect(refused.message).not.toContain('hush')
  },
)
