import { generateKeyPairSync } from 'node:crypto'
import type { TokenEncryption } from '@curfew/domain'
import type { FetchedJson } from '@curfew/outbound'
import { describe, expect, test } from 'vitest'
import { createEncrypter, type TokenReceiver } from './encrypter.ts'

// Goal: an RP may change its keys or be unavailable. We neither fetch them all the time nor use old ones for ever.
// Method: the test supplies the fetch and the clock; keys and encryption are real.

const PEER: TokenReceiver = {
  iss: 'https://idp.example' as TokenReceiver['iss'],
  uri: 'https://rp.example/logout',
  allowedNetworks: [],
  tls: null,
}
const ENCRYPTION: TokenEncryption = {
  ...{ alg: 'ECDH-ES', enc: 'A128GCM', jwks: null, jwksUri: 'https://rp.example/jwks' },
}
const MINUTE = 60_000

function rig() {
  let nowMs = 0
  let answer: FetchedJson = { ok: false, detail: 'does not exist yet' }
  let fetches = 0
  const encrypter = createEncrypter({
    nowMs: () => nowMs,
    fetch: async () => {
      fetches += 1
      return answer
    },
  })
  return {
    encrypter,
    fetches: () => fetches,
    pass: (ms: number) => {
      nowMs += ms
    },
    publish(kid: string) {
      const jwk = generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey.export({ format: 'jwk' })
      answer = { ok: true, value: { keys: [{ ...jwk, kid }] } }
    },
    publishNothing: () => {
      answer = { ok: true, value: { keys: [] } }
    },
    becomeUnavailable: () => {
      answer = { ok: false, detail: 'answered 503, not 200' }
    },
    /** The kid of the key that a token is encrypted to. */
    async kid(): Promise<unknown> {
      const token = await encrypter.encrypt('logout+jwt', 'a.b.c', ENCRYPTION, PEER, null)
      return JSON.parse(Buffer.from(token.split('.')[0] ?? '', 'base64url').toString('utf8')).kid
    },
  }
}

describe('the key set at a jwks_uri', () => {
  test('is fetched once for many tokens, and again after ten minutes', async () => {
    const { publish, kid, fetches, pass } = rig()
    publish('a')
    expect(await Promise.all([kid(), kid(), kid()])).toEqual(['a', 'a', 'a'])
    publish('b')
    pass(10 * MINUTE - 1)
    expect([await kid(), fetches()]).toEqual(['a', 1])
    pass(1)
    expect([await kid(), fetches()]).toEqual(['b', 2])
  })

  test('is used for a day while its owner is unavailable, and fetched at most twice a minute', async () => {
    const { publish, becomeUnavailable, kid, fetches, pass } = rig()
    publish('a')
    await kid()
    becomeUnavailable()
    pass(10 * MINUTE)
    expect([await kid(), await kid(), fetches()]).toEqual(['a', 'a', 2])
    pass(MINUTE / 2)
    expect([await kid(), fetches()]).toEqual(['a', 3])
    pass(24 * 60 * MINUTE)
    await expect(kid()).rejects.toMatchObject({
      code: 'ERR_CLIENT_KEYS_UNAVAILABLE',
      message: expect.stringContaining('503'),
    })
  })

  test('is fetched again after the RP refuses a token, and when none of its keys fits', async () => {
    const { publish, publishNothing, kid, fetches, pass, encrypter } = rig()
    publish('a')
    await kid()
    publish('b')
    pass(MINUTE)
    expect(await kid()).toBe('a')
    encrypter.refused(ENCRYPTION, PEER)
    expect([await kid(), fetches()]).toEqual(['b', 2])
    // An RP that answers 400 to everything does not cause a fetch for each token.
    encrypter.refused(ENCRYPTION, PEER)
    expect([await kid(), fetches()]).toEqual(['b', 2])
    publishNothing()
    pass(10 * MINUTE)
    await expect(kid()).rejects.toMatchObject({ code: 'ERR_NO_ENCRYPTION_KEY' })
    publish('c')
    pass(MINUTE)
    expect(await kid()).toBe('c')
  })
})

test('an unusable key among several is skipped', async () => {
  const jwk = generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey.export({ format: 'jwk' })
  const broken = { kty: 'EC', crv: 'P-256', x: 'AA', y: 'AA', use: 'enc', kid: 'broken' }
  const encrypter = createEncrypter({
    nowMs: () => 0,
    fetch: async () => ({ ok: true, value: { keys: [broken, { ...jwk, kid: 'good' }] } }),
  })
  const [header = ''] = (await encrypter.encrypt('logout+jwt', 'a.b.c', ENCRYPTION, PEER, null)).split('.')
  expect(JSON.parse(Buffer.from(header, 'base64url').toString('utf8'))).toMatchObject({ kid: 'good' })
})

test('a fetch with the TLS settings of one relying party is not used for another', async () => {
  const jwk = generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey.export({ format: 'jwk' })
  const encrypter = createEncrypter({
    nowMs: () => 0,
    fetch: async (_uri, { tls }) =>
      tls === null
        ? { ok: true, value: { keys: [jwk] } }
        : { ok: false, detail: 'has a certificate of another CA' },
  })
  const tls = { ca: 'another', client: null }
  const other = { ...PEER, uri: 'https://rp.example/of-another', tls }
  const both = await Promise.allSettled([
    encrypter.encrypt('logout+jwt', 'a.b.c', ENCRYPTION, other, tls),
    encrypter.encrypt('logout+jwt', 'a.b.c', ENCRYPTION, PEER, null),
  ])
  expect(both.map(({ status }) => status)).toEqual(['rejected', 'fulfilled'])
})
