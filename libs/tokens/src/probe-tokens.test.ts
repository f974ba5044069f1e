import { createHmac, createPublicKey, type JsonWebKeyInput } from 'node:crypto'
import { type IssuerName, TOKEN_ALGORITHMS, type TokenAlgorithm, type TokenSignature } from '@curfew/domain'
import { createLogoutTokenVerifier } from '@curfew/rp'
import { decodeJwt, decodeProtectedHeader } from 'jose'
import { describe, expect, test } from 'vitest'
import { createKeyMaker, type StoredKey } from './key-maker.ts'
import { createKeyring } from './keyring.ts'
import { createProbeTokens } from './probe-tokens.ts'

// Goal: a probe's good token verifies, and every forged token has only its intended fault. A token with a second fault would
// prove nothing about the relying party that refuses it.
// Method: real keys of each algorithm.

const now = new Date()
const iat = Math.floor(now.getTime() / 1_000)
const good = {
  ...{ iss: 'https://idp.example', aud: 'rp', iat, exp: iat + 120, jti: crypto.randomUUID() },
  ...{ sub: 'alice', sid: 's1', events: { 'http://schemas.openid.net/event/backchannel-logout': {} } },
}

async function tokensFor(algorithm: TokenAlgorithm) {
  const keys: StoredKey[] = []
  const keyring = createKeyring({
    store: {
      find: async () => keys,
      async insertFirst(key, createdAt) {
        const life = { publishedAt: createdAt, signsFrom: createdAt, retiredAt: null, withdrawnAt: null }
        keys.push({ ...key, ...life, createdAt })
        return keys
      },
      sample: async () => keys,
    },
    maker: createKeyMaker({ masterKey: new Uint8Array(32) }),
    now: () => now,
  })
  const issuer = 'main' as IssuerName
  const signer = await keyring.signer(issuer, algorithm)
  const jwks = await keyring.jwks(issuer)
  const [publicJwk] = jwks.keys
  if (publicJwk === undefined) throw new Error('no key is published')
  const verifier = createLogoutTokenVerifier({
    issuer: 'https://idp.example',
    clientId: 'rp',
    now: () => now,
    jwks,
    algorithms: [algorithm],
    lenient: true,
  })
  const verified = (token: string) => verifier.verify(token)
  return { signer, publicJwk, verified, tokens: createProbeTokens(signer, publicJwk) }
}

describe.each(TOKEN_ALGORITHMS)('%s', (algorithm) => {
  test('a good token verifies, and so does one with a changed header', async () => {
    const { tokens, verified } = await tokensFor(algorithm)
    expect(await verified(await tokens.make('logout+jwt', good))).toMatchObject({ ok: true })
    const other = await tokens.make('logout+jwt', good, { header: { typ: null, extra: 'x' } })
    expect(decodeProtectedHeader(other)).toEqual({ alg: algorithm, kid: expect.any(String), extra: 'x' })
    expect(await verified(other)).toMatchObject({ ok: true })
  })

  test.each<[TokenSignature, alg: string, fault: string]>([
    ['corrupted', algorithm, 'signature does not verify'],
    ['other_key', algorithm, 'signature does not verify'],
    ['none', 'none', 'alg'],
    ['public_key_pem', 'HS256', 'alg'],
    ['public_key_jwk', 'HS256', 'alg'],
  ])('a token with signature %s is refused for its signature only', async (signature, alg, fault) => {
    const { tokens, verified, signer } = await tokensFor(algorithm)
    const token = await tokens.make('logout+jwt', good, { signature })
    expect(decodeProtectedHeader(token)).toEqual({ alg, kid: signer.kid, typ: 'logout+jwt' })
    expect(decodeJwt(token)).toEqual(good)
    expect(await verified(token)).toMatchObject({ ok: false, description: expect.stringContaining(fault) })
  })

  test('the HMAC secret is the public key in the form that a confused relying party would use', async () => {
    const { tokens, publicJwk } = await tokensFor(algorithm)
    const key = createPublicKey({ key: publicJwk as JsonWebKeyInput['key'], format: 'jwk' })
    const secrets = {
      public_key_pem: key.export({ type: 'spki', format: 'pem' }),
      public_key_jwk: JSON.stringify(publicJwk),
    } as const
    for (const [signature, secret] of Object.entries(secrets)) {
      const token = await tokens.make('logout+jwt', good, { signature: signature as TokenSignature })
      const [header, claims, mac] = token.split('.')
      expect(mac).toBe(createHmac('sha256', secret).update(`${header}.${claims}`).digest('base64url'))
    }
  })
})
