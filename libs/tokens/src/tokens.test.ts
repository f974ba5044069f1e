import { randomBytes } from 'node:crypto'
import { LOGOUT_EVENT_MEMBER, LOGOUT_TOKEN_TYPE, type LogoutTokenClaims } from '@curfew/channels'
import { type IssuerName, SIGNING_ALGORITHMS } from '@curfew/domain'
import { createLogoutTokenVerifier } from '@curfew/rp'
import { base64url, decodeProtectedHeader, type JSONWebKeySet } from 'jose'
import { describe, expect, test, vi } from 'vitest'
import { createKeyMaker, type SealedKey, type StoredKey } from './key-maker.ts'
import { createKeyring, type KeyStore } from './keyring.ts'

// Goal: tokens are signed as the specification says, verify with the published keys, and private keys lie nowhere but
// sealed. Method: real keys, and the verifier that RPs have.

const ISSUER = 'main' as IssuerName
const now = new Date('2026-11-21T09:00:00Z')
const iat = now.getTime() / 1_000

/** As the ledger's: keys by issuer and algorithm, the first one stays. */
function memoryStore(): KeyStore & { readonly keys: StoredKey[] } {
  const keys: StoredKey[] = []
  return {
    keys,
    find: async (issuer) => keys.filter((key) => key.issuer === issuer),
    async insertFirst(key, createdAt) {
      const first = keys.find(({ issuer, algorithm }) => issuer === key.issuer && algorithm === key.algorithm)
      const life = { publishedAt: createdAt, signsFrom: createdAt, retiredAt: null, withdrawnAt: null }
      if (first === undefined) keys.push({ ...key, ...life, createdAt })
      return keys.filter((each) => each.issuer === key.issuer)
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
  test.each(SIGNING_ALGORITHMS)('%s: the token verifies with the published key', async (algorithm) => {
    const keyring = open(memoryStore())
    const signer = await keyring.signer(ISSUER, algorithm)
    const token = await signer.sign(LOGOUT_TOKEN_TYPE, claims)
    expect(decodeProtectedHeader(token)).toEqual({ alg: algorithm, kid: signer.kid, typ: 'logout+jwt' })
    const jwks = await keyring.jwks(ISSUER)
    expect(jwks.keys).toMatchObject([{ kid: signer.kid, alg: algorithm, use: 'sig' }])
    expect(await verify(token, { jwks, algorithms: [algorithm] })).toMatchObject({ ok: true, claims })
  })

  test.each(SIGNING_ALGORITHMS)('%s: characters beyond ASCII are signed as they are', async (algorithm) => {
    const keyring = open(memoryStore())
    const odd = { ...claims, sub: 'Zoë 🐘', sid: '\u2028"' }
    const token = await (await keyring.signer(ISSUER, algorithm)).sign(LOGOUT_TOKEN_TYPE, odd)
    expect(await verify(token, { jwks: await keyring.jwks(ISSUER) })).toMatchObject({ ok: true, claims: odd })
  })

  test('publishes no private member, stores none in clear', async () => {
    const store = memoryStore()
    const keyring = open(store, randomBytes(32))
    for (const algorithm of SIGNING_ALGORITHMS) await keyring.ensure(ISSUER, algorithm)
    const { keys } = await keyring.jwks(ISSUER)
    expect(keys).toHaveLength(SIGNING_ALGORITHMS.length)
    for (const key of keys)
      for (const member of ['d', 'p', 'q', 'dp', 'dq', 'qi']) expect(key).not.toHaveProperty(member)
    for (const { sealedPrivateKey } of store.keys) {
      expect(sealedPrivateKey.split('.')).toHaveLength(5)
      expect(base64url.decode(sealedPrivateKey.split('.')[3] ?? '').toString()).not.toContain('"d"')
    }
  })

  test('concurrent first needs make one key, and two processes sign with the same', async () => {
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

  test('a key sealed under another master key is refused in words, without the key', async () => {
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

  test("a key cannot be passed off as another issuer's", async () => {
    const store = memoryStore()
    await open(store).ensure(ISSUER, 'ES256')
    const [key] = store.keys
    if (key !== undefined) store.keys.push({ ...key, issuer: 'other' as IssuerName })
    await expect(open(store).signer('other' as IssuerName, 'ES256')).rejects.toMatchObject({
      code: 'ERR_SIGNING_KEY',
    })
  })

  test('a store that was away is asked again', async () => {
    const store = memoryStore()
    let away = true
    const keyring = open({
      ...store,
      find: async (issuer) => {
        if (away) throw new Error('away')
        return store.find(issuer)
      },
    })
    await expect(keyring.signer(ISSUER, 'ES256')).rejects.toThrow('away')
    away = false
    await expect(keyring.signer(ISSUER, 'ES256')).resolves.toMatchObject({ algorithm: 'ES256' })
  })
})

describe('a key that changes in the store', () => {
  const minuteLater = new Date(now.getTime() + 60_000)

  /** A keyring with one signer open, a clock to set, and a store whose next answer is held until `release`. */
  async function opened() {
    const store = memoryStore()
    let time = now
    let held: Promise<void> = Promise.resolve()
    let asked = 0
    const watched: KeyStore = {
      ...store,
      async find(issuer) {
        asked += 1
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
      asked: () => asked,
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

  test('is taken up after a minute, and no attempt waits for that', async () => {
    const { store, keyring, first, asked, setTime, hold } = await opened()
    const kid = await replaced(store)
    const released = Promise.withResolvers<void>()
    hold(released.promise)
    setTime(new Date(minuteLater.getTime() - 1))
    await keyring.signer(ISSUER, 'ES256')
    expect(asked()).toBe(1)
    setTime(minuteLater)
    // The store hangs, and still there is a signer; it is asked once, not by each need.
    expect((await keyring.signer(ISSUER, 'ES256')).kid).toBe(first.kid)
    expect((await keyring.signer(ISSUER, 'ES256')).kid).toBe(first.kid)
    expect(asked()).toBe(2)
    released.resolve()
    await vi.waitFor(async () => expect((await keyring.signer(ISSUER, 'ES256')).kid).toBe(kid))
  })

  test('is taken up at once after nothing was signed for long, and is not waited for without end', async () => {
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

  test('the known one signs on while the store is away', async () => {
    const { keyring, first, asked, setTime, hold } = await opened()
    const away = Promise.reject(new Error('away'))
    away.catch(() => undefined)
    hold(away)
    setTime(minuteLater)
    for (let n = 0; n < 3; n++) expect((await keyring.signer(ISSUER, 'ES256')).kid).toBe(first.kid)
    expect(asked()).toBe(2)
  })

  test('one that is gone is replaced at the next need', async () => {
    const { store, keyring, first, setTime } = await opened()
    store.keys.length = 0
    setTime(minuteLater)
    await vi.waitFor(async () => expect((await keyring.signer(ISSUER, 'ES256')).kid).not.toBe(first.kid))
    expect(store.keys).toHaveLength(1)
  })
})
