import { generateKeyPairSync } from 'node:crypto'
import type { TokenEncryption } from '@curfew/domain'
import type { FetchedJson } from '@curfew/outbound'
import { describe, expect, test } from 'vitest'
import { createEncrypter, type Peer } from './encrypter.ts'

// Goal: an RP may change its keys, and be away, without us asking for them all the time or using them for ever. Method: the
// fetch is handed in, and a clock that the test sets; keys and encryption are real.

const PEER: Peer = {
  iss: 'https://idp.example' as Peer['iss'],
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
  let answer: FetchedJson = { ok: false, detail: 'is not there yet' }
  let asked = 0
  const encrypter = createEncrypter({
    nowMs: () => nowMs,
    fetch: async () => {
      asked += 1
      return answer
    },
  })
  return {
    encrypter,
    asked: () => asked,
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
    goAway: () => {
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
  test('is fetched once for many tokens, and anew after ten minutes', async () => {
    const { publish, kid, asked, pass } = rig()
    publish('a')
    expect(await Promise.all([kid(), kid(), kid()])).toEqual(['a', 'a', 'a'])
    publish('b')
    pass(10 * MINUTE - 1)
    expect([await kid(), asked()]).toEqual(['a', 1])
    pass(1)
    expect([await kid(), asked()]).toEqual(['b', 2])
  })

  test('serves on for a day while its owner is away, and is asked for twice a minute at most', async () => {
    const { publish, goAway, kid, asked, pass } = rig()
    publish('a')
    await kid()
    goAway()
    pass(10 * MINUTE)
    expect([await kid(), await kid(), asked()]).toEqual(['a', 'a', 2])
    pass(MINUTE / 2)
    expect([await kid(), asked()]).toEqual(['a', 3])
    pass(24 * 60 * MINUTE)
    await expect(kid()).rejects.toMatchObject({
      code: 'ERR_CLIENT_KEYS_UNAVAILABLE',
      message: expect.stringContaining('503'),
    })
  })

  test('is fetched anew after the RP refused a token, and where it had no key that fits', async () => {
    const { publish, publishNothing, kid, asked, pass, encrypter } = rig()
    publish('a')
    await kid()
    publish('b')
    pass(MINUTE)
    expect(await kid()).toBe('a')
    encrypter.refused(ENCRYPTION, PEER)
    expect([await kid(), asked()]).toEqual(['b', 2])
    // What answers 400 to everything does not make us fetch for each.
    encrypter.refused(ENCRYPTION, PEER)
    expect([await kid(), asked()]).toEqual(['b', 2])
    publishNothing()
    pass(10 * MINUTE)
    await expect(kid()).rejects.toMatchObject({ code: 'ERR_NO_ENCRYPTION_KEY' })
    publish('c')
    pass(MINUTE)
    expect(await kid()).toBe('c')
  })
})

test('of several keys one that cannot be used is passed over', async () => {
  const jwk = generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey.export({ format: 'jwk' })
  const broken = { kty: 'EC', crv: 'P-256', x: 'AA', y: 'AA', use: 'enc', kid: 'broken' }
  const encrypter = createEncrypter({
    nowMs: () => 0,
    fetch: async () => ({ ok: true, value: { keys: [broken, { ...jwk, kid: 'good' }] } }),
  })
  const [header = ''] = (await encrypter.encrypt('logout+jwt', 'a.b.c', ENCRYPTION, PEER, null)).split('.')
  expect(JSON.parse(Buffer.from(header, 'base64url').toString('utf8'))).toMatchObject({ kid: 'good' })
})

test('what one relying party trusts and shows is not used for another', async () => {
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
