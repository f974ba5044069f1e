import { randomBytes } from 'node:crypto'
import { LOGOUT_EVENT_MEMBER, LOGOUT_TOKEN_TYPE, type LogoutTokenClaims } from '@curfew/channels'
import { type IssuerName, TOKEN_ALGORITHMS } from '@curfew/domain'
import { createLogoutTokenVerifier } from '@curfew/rp'
import { base64url, decodeProtectedHeader, type JSONWebKeySet } from 'jose'
import { describe, expect, test, vi } from 'vitest'
import { createKeyMaker, type SealedKey, type StoredKey } from './key-maker.ts'
import { createKeyring, type KeyStore } from './keyring.ts'

// Goal: tokens are signed as the specification says and verify with the published keys. Private keys are stored only sealed.
// Method: real keys, and the verifier of the RP SDK.

const ISSUER = 'main' as IssuerName
const now = new Date('2026-11-21T09:00:00Z')
const iat = now.getTime() / 1_000

/** A store like the ledger's: the first key of an issuer and algorithm stays. */
function memoryStore(): KeyStore & { readonly keys: StoredKey[] } {
  const keys: StoredKey[] = []
  return {
    keys,
    find: async (issuer) => keys.filter((key) => key.issuer === issuer),
    async insertFirst(key, createdAt) {
      const first = keys.find(({ issuer, algorithm }) => issuer === key.issuer && algorithm === key.algorithm)
      const life = { publishedAt: createdAt, signsFrom: createdAt, retiredAt: null, withdrawnAt: null }
      if (first === undefined) keys.push({ ...key, ...life, createdAt })
      return keys.filter(({ issuer }) => issuer === key.issuer)
    },
    sample: async (limit) => keys.slice(0, limit),
  }
}

const open = (store: KeyStore, masterKey: Uint8Array = new Uint8Array(32), clock = () => now) =>
  createKeyring({ store, maker: createKeyMaker({ masterKey }), now: clock })

const claims: LogoutTokenClaims = {
  iss: 'https://idp.example',
  aud: 'rp',
  iat,
  exp: iat + 120,
  jti: 'j1',
  txn: 't1',
  sub: 'alice',
  events: { [LOGOUT_EVENT_MEMBER]: {} },
}

const verify = (token: string, options: { jwks: JSONWebKeySet; algorithms?: readonly string[] }) =>
  createLogoutTokenVerifier({ issuer: claims.iss, clientId: claims.aud, now: () => now, ...options }).verify(
    token,
  )

describe('keyring', () => {
  test.each(TOKEN_ALGORITHMS)('%s: the token verifies with the published key', async (algorithm) => {
    const keyring = open(memoryStore())
    const signer = await keyring.signer(ISSUER, algorithm)
    const token = await signer.sign(LOGOUT_TOKEN_TYPE, claims)
    expect(decodeProtectedHeader(token)).toEqual({ alg: algorithm, kid: signer.kid, typ: 'logout+jwt' })
    const jwks = await keyring.jwks(ISSUER)
    expect(jwks.keys).toMatchObject([{ kid: signer.kid, use: 'sig' }])
    // A key for EdDSA verifies both of its names, so it names none.
    const shared = algorithm === 'EdDSA' || algorithm === 'Ed25519'
    expect(jwks.keys[0]?.alg).toBe(shared ? undefined : algorithm)
    expect(await verify(token, { jwks, algorithms: [algorithm] })).toMatchObject({ ok: true, claims })
  })

  test.each(TOKEN_ALGORITHMS)('%s: characters beyond ASCII are signed unchanged', async (algorithm) => {
    const keyring = open(memoryStore())
    const odd = { ...claims, sub: 'Zoë 🐘', sid: '\u2028"' }
    const token = await (await keyring.signer(ISSUER, algorithm)).sign(LOGOUT_TOKEN_TYPE, odd)
    expect(await verify(token, { jwks: await keyring.jwks(ISSUER) })).toMatchObject({ ok: true, claims: odd })
  })

  test('publishes no private member, and stores no private key in clear text', async () => {
    const store = memoryStore()
    const keyring = open(store, randomBytes(32))
    for (const algorithm of TOKEN_ALGORITHMS) await keyring.ensure(ISSUER, algorithm)
    const { keys } = await keyring.jwks(ISSUER)
    // Ed25519 and EdDSA share a key.
    expect(keys).toHaveLength(TOKEN_ALGORITHMS.length - 1)
    for (const key of keys)
      for (const member of ['d', 'p', 'q', 'dp', 'dq', 'qi']) expect(key).not.toHaveProperty(member)
    for (const { sealedPrivateKey } of store.keys) {
      expect(sealedPrivateKey.split('.')).toHaveLength(5)
      expect(base64url.decode(sealedPrivateKey.split('.')[3] ?? '').toString()).not.toContain('"d"')
    }
  })

  test('concurrent first calls in two processes store one key, and both processes sign with it', async () => {
    const store = memoryStore()
    const made: SealedKey[] = []
    const insertFirst = (key: SealedKey) => {
      made.push(key)
      return store.insertFirst(key, now)
    }
    const [one, other] = [open({ ...store, insertFirst }), open({ ...store, insertFirst })]
    const signers = await Promise.all(
      [one, one, other, other].map((keyring) => keyring.signer(ISSUER, 'ES256')),
    )
    expect(new Set(signers.map(({ kid }) => kid)).size).toBe(1)
    expect(store.keys).toHaveLength(1)
    expect(made).toHaveLength(2)
  })

  test('a key that another master key sealed is refused with an error that names the setting', async () => {
    const store = memoryStore()
    await open(store, randomBytes(32)).ensure(ISSUER, 'ES256')
    const opening = open(store, randomBytes(32)).signer(ISSUER, 'ES256')
    await expect(opening).rejects.toMatchObject({
      code: 'ERR_SIGNING_KEY',
      message: expect.stringContaining('CURFEW_MASTER_KEY'),
    })
  })

  test('a master key that is too short is refused at once', () => {
    expect(() => open(memoryStore(), randomBytes(16))).toThrow(/32 bytes/)
  })

  test('a key that was sealed for one issuer does not open for another', async () => {
    const store = memoryStore()
    await open(store).ensure(ISSUER, 'ES256')
    const [key] = store.keys
    if (key !== undefined) store.keys.push({ ...key, issuer: 'other' as IssuerName })
    await expect(open(store).signer('other' as IssuerName, 'ES256')).rejects.toMatchObject({
      code: 'ERR_SIGNING_KEY',
    })
  })

  test('a store that was unavailable is read again', async () => {
    const store = memoryStore()
    let unavailable = true
    const keyring = open({
      ...store,
      find: async (issuer) => {
        if (unavailable) throw new Error('unavailable')
        return store.find(issuer)
      },
    })
    await expect(keyring.signer(ISSUER, 'ES256')).rejects.toThrow('unavailable')
    unavailable = false
    await expect(keyring.signer(ISSUER, 'ES256')).resolves.toMatchObject({ algorithm: 'ES256' })
  })
})

describe('a key that changes in the store', () => {
  const minuteLater = new Date(now.getTime() + 60_000)

  /** A keyring with one opened signer, a clock to set, and a store whose answers wait for the promise given to `hold`. */
  async function opened() {
    const store = memoryStore()
    let time = now
    let held: Promise<void> = Promise.resolve()
    let reads = 0
    const watched: KeyStore = {
      ...store,
      async find(issuer) {
        reads += 1
        await held
        return store.find(issuer)
      },
    }
    const keyring = open(watched, undefined, () => time)
    const first = await keyring.signer(ISSUER, 'ES256')
    return {
      store,
      keyring,
      first,
      reads: () => reads,
      setTime: (to: Date) => {
        time = to
      },
      hold(until: Promise<void>) {
        held = until
      },
    }
  }

  const replaced = async (store: ReturnType<typeof memoryStore>): Promise<string> => {
    const other = memoryStore()
    const { kid } = await open(other).signer(ISSUER, 'ES256')
    store.keys.splice(0, 1, ...other.keys)
    return kid
  }

  test('is used after a minute, and no attempt waits for the refresh', async () => {
    const { store, keyring, first, reads, setTime, hold } = await opened()
    const kid = await replaced(store)
    const released = Promise.withResolvers<void>()
    hold(released.promise)
    setTime(new Date(minuteLater.getTime() - 1))
    await keyring.signer(ISSUER, 'ES256')
    expect(reads()).toBe(1)
    setTime(minuteLater)
    // The store hangs. The keyring still returns a signer, and reads the store once for all calls.
    expect((await keyring.signer(ISSUER, 'ES256')).kid).toBe(first.kid)
    expect((await keyring.signer(ISSUER, 'ES256')).kid).toBe(first.kid)
    expect(reads()).toBe(2)
    released.resolve()
    await vi.waitFor(async () => expect((await keyring.signer(ISSUER, 'ES256')).kid).toBe(kid))
  })

  test('is used at once after a long idle time, but the wait for the store is limited', async () => {
    const { store, keyring, first, setTime, hold } = await opened()
    const kid = await replaced(store)
    setTime(new Date(minuteLater.getTime() + 3_600_000))
    expect((await keyring.signer(ISSUER, 'ES256')).kid).toBe(kid)
    const other = await replaced(store)
    hold(new Promise(() => undefined))
    setTime(new Date(minuteLater.getTime() + 2 * 3_600_000))
    const signers = await Promise.all([1, 2, 3].map(() => keyring.signer(ISSUER, 'ES256')))
    expect(signers.map((signer) => signer.kid)).toEqual([kid, kid, kid])
    expect([first.kid, kid]).not.toContain(other)
  })

  test('the known key keeps signing while the store is unavailable', async () => {
    const { keyring, first, reads, setTime, hold } = await opened()
    const failure = Promise.reject(new Error('unavailable'))
    failure.catch(() => undefined)
    hold(failure)
    setTime(minuteLater)
    for (let n = 0; n < 3; n++) expect((await keyring.signer(ISSUER, 'ES256')).kid).toBe(first.kid)
    expect(reads()).toBe(2)
  })

  test('a key that left the store is replaced when a key is next needed', async () => {
    const { store, keyring, first, setTime } = await opened()
    store.keys.length = 0
    setTime(minuteLater)
    await vi.waitFor(async () => expect((await keyring.signer(ISSUER, 'ES256')).kid).not.toBe(first.kid))
    expect(store.keys).toHaveLength(1)
  })
})
