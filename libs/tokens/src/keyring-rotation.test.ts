import { generateKeyPairSync, randomBytes } from 'node:crypto'
import { LOGOUT_EVENT_MEMBER, LOGOUT_TOKEN_TYPE, type LogoutTokenClaims } from '@curfew/channels'
import { type IssuerName, KEY_OVERLAP_MS, KEYRING_TRUST_MS, SIGNING_ALGORITHMS } from '@curfew/domain'
import { createLogoutTokenVerifier } from '@curfew/rp'
import type { JWK } from 'jose'
import { describe, expect, test, vi } from 'vitest'
import { checkSigningJwk } from './key-check.ts'
import { createKeyMaker, type KeyMaker, type SealedKey, type StoredKey } from './key-maker.ts'
import { createKeyring, type KeyStore } from './keyring.ts'
import type { PostJson } from './remote-signer.ts'

// Goal: a worker changes keys on time even if the store is unavailable, and never signs with a key that may have left the key
// set. A remote signature is used only if it verifies.
// Method: real keys, and a clock set by hand.

const ISSUER = 'main' as IssuerName
const START = Date.UTC(2026, 10, 21)
const HOUR = 3_600_000
const CLAIMS: LogoutTokenClaims = {
  iss: 'https://idp.example',
  aud: 'rp',
  iat: START / 1_000,
  exp: START / 1_000 + 120,
  jti: 'j1',
  txn: 't1',
  sub: 'alice',
  events: { [LOGOUT_EVENT_MEMBER]: {} },
}

function live(key: SealedKey, signsFromMs: number): StoredKey {
  const publishedAt = new Date(START)
  const life = { publishedAt, signsFrom: new Date(signsFromMs), retiredAt: null, withdrawnAt: null }
  return { ...key, ...life, createdAt: publishedAt }
}

async function rig(maker: KeyMaker = createKeyMaker({ masterKey: randomBytes(32) })) {
  let nowMs = START
  let available = true
  let reads = 0
  const keys = [live(await maker.generate(ISSUER, 'ES256'), START)]
  const answer = async () => {
    reads += 1
    if (!available) throw new Error('unavailable')
    return [...keys]
  }
  const store: KeyStore = { find: answer, insertFirst: answer, sample: answer }
  const keyring = createKeyring({ store, maker, now: () => new Date(nowMs) })
  return {
    keys,
    maker,
    keyring,
    kid: async () => (await keyring.signer(ISSUER, 'ES256')).kid,
    reads: () => reads,
    setAvailable: (value: boolean) => {
      available = value
    },
    at: (ms: number) => {
      nowMs = START + ms
    },
  }
}

describe('a worker', () => {
  test('with a slow clock signs with the first key', async () => {
    const { keys, kid, at } = await rig()
    at(-3_000)
    expect(await kid()).toBe(keys[0]?.kid)
  })

  test('changes to the next key to the millisecond, even while its store is unavailable', async () => {
    const { keys, maker, kid, at, setAvailable } = await rig()
    keys.push(live(await maker.generate(ISSUER, 'ES256'), START + 10 * HOUR))
    const [first, second] = keys.map((key) => key.kid)
    expect(await kid()).toBe(first)
    setAvailable(false)
    at(10 * HOUR - 1)
    expect(await kid()).toBe(first)
    at(10 * HOUR)
    expect(await kid()).toBe(second)
  })

  test('signs with its known keys while the store is unavailable, until they may have left the key set', async () => {
    const { keys, kid, at, setAvailable } = await rig()
    const first = keys[0]?.kid
    await kid()
    setAvailable(false)
    at(KEYRING_TRUST_MS - 1)
    expect(await kid()).toBe(first)
    at(KEYRING_TRUST_MS)
    await expect(kid()).rejects.toThrow('unavailable')
    setAvailable(true)
    expect(await kid()).toBe(first)
    expect(KEYRING_TRUST_MS).toBeLessThan(KEY_OVERLAP_MS)
  })

  test('that was idle for days reads the store before it signs', async () => {
    const { keys, maker, kid, at, reads } = await rig()
    await kid()
    keys.push(live(await maker.generate(ISSUER, 'ES256'), START + 25 * HOUR))
    at(72 * HOUR)
    const before = reads()
    expect(await Promise.all([kid(), kid(), kid()])).toEqual(Array(3).fill(keys[1]?.kid))
    expect(reads()).toBe(before + 1)
  })

  test('retries a key that it could not open, and opens it after the key is sealed again', async () => {
    const { keys, kid, at } = await rig()
    const [good] = keys
    if (good === undefined) throw new Error('no key was made')
    keys[0] = { ...good, sealedPrivateKey: `${good.sealedPrivateKey.slice(0, -4)}AAAA` }
    await expect(kid()).rejects.toMatchObject({ code: 'ERR_SIGNING_KEY' })
    keys[0] = good
    at(60_000)
    await kid().catch(() => undefined)
    await vi.waitFor(async () => expect(await kid()).toBe(good.kid))
  })
})

describe('the master key', () => {
  const [old, current] = [randomBytes(32), randomBytes(32)]

  test('opens keys that it or the old master key sealed, and seals with itself, during a rotation', async () => {
    const before = await createKeyMaker({ masterKey: old }).generate(ISSUER, 'ES256')
    const both = createKeyMaker({ masterKey: current, oldMasterKey: old })
    await both.open(before)
    const after = await both.generate(ISSUER, 'ES256')
    await createKeyMaker({ masterKey: current }).open(after)
    await createKeyMaker({ masterKey: old, oldMasterKey: current }).open(after)
    await expect(createKeyMaker({ masterKey: old }).open(after)).rejects.toMatchObject({
      code: 'ERR_SIGNING_KEY',
    })
    await expect(createKeyMaker({ masterKey: current }).open(before)).rejects.toThrow('CURFEW_MASTER_KEY')
  })

  test('fails the check only if it opens none of the existing keys', async () => {
    const { keys, maker, keyring } = await rig()
    await keyring.check()
    const sample = async () => keys
    const find = sample
    const other = createKeyring({
      store: { find, insertFirst: find, sample },
      maker: createKeyMaker({ masterKey: randomBytes(32) }),
      now: () => new Date(START),
    })
    await expect(other.check()).rejects.toThrow('CURFEW_MASTER_KEY')
    keys.unshift(live({ ...(await maker.generate(ISSUER, 'ES256')), sealedPrivateKey: 'a.b.c.d.e' }, START))
    await keyring.check()
    keys.length = 0
    await other.check()
  })
})

describe('a remote signer', () => {
  async function remote(algorithm: (typeof SIGNING_ALGORITHMS)[number], post: PostJson) {
    const maker = createKeyMaker({ masterKey: randomBytes(32), post })
    const { publicKey } =
      algorithm === 'ES256'
        ? generateKeyPairSync('ec', { namedCurve: 'P-256' })
        : generateKeyPairSync('rsa', { modulusLength: 2_048 })
    const publicJwk = publicKey.export({ format: 'jwk' }) as JWK
    const at = { flavour: 'curfew', url: 'https://kms.example', credential: 'hunter2' } as const
    const key = await maker.sealRemote({ kid: 'kms', issuer: ISSUER, algorithm, publicJwk, remote: at })
    return maker.open(key)
  }

  test.each<[string, Awaited<ReturnType<PostJson>>]>([
    ['does not answer', { ok: false, detail: 'no answer within 5000 ms' }],
    ['answers without a signature', { ok: true, value: {} }],
    ['answers null', { ok: true, value: null }],
    ['answers a number', { ok: true, value: { signature: 7 } }],
    ['answers too few bytes', { ok: true, value: { signature: 'AAAA' } }],
    [
      'answers another signature',
      { ok: true, value: { signature: Buffer.alloc(64, 1).toString('base64url') } },
    ],
  ])('that %s is unavailable, and the error names the key but not the credential', async (_case, answer) => {
    for (const algorithm of ['ES256', 'RS256'] as const) {
      const signer = await remote(algorithm, async () => answer)
      const failed = await signer.sign(LOGOUT_TOKEN_TYPE, CLAIMS).catch((error: unknown) => error)
      expect(failed).toMatchObject({
        code: 'ERR_SIGNER_UNAVAILABLE',
        message: expect.stringContaining('kms'),
      })
      expect(String(failed)).not.toContain('hunter2')
    }
  })
})

test.each(SIGNING_ALGORITHMS)(
  '%s: a generated key passes the check of imported keys, and its tokens verify',
  async (algorithm) => {
    const sealed = await createKeyMaker({ masterKey: randomBytes(32) }).generate(ISSUER, algorithm)
    const checked = await checkSigningJwk(sealed.publicJwk, { algorithm, part: 'public' })
    expect(checked).toMatchObject({ ok: true, kid: sealed.kid, algorithm, privateJwk: null })
    const maker = createKeyMaker({ masterKey: randomBytes(32) })
    const mine = await maker.generate(ISSUER, algorithm)
    const token = await (await maker.open(mine)).sign(LOGOUT_TOKEN_TYPE, CLAIMS)
    const jwks = { keys: [{ ...mine.publicJwk, kid: mine.kid }] } as never
    const verifier = createLogoutTokenVerifier({
      issuer: CLAIMS.iss,
      clientId: 'rp',
      jwks,
      now: () => new Date(START),
    })
    const verified = await verifier.verify(token)
    expect(verified).toMatchObject({ ok: true, claims: CLAIMS })
  },
)
