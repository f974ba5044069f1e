import { generateKeyPairSync } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { AddedKey, SigningKeys } from '@curfew/contract'
import { JWKS_MAX_AGE_MS, KEY_OVERLAP_MS, SIGNING_ALGORITHMS, type SigningAlgorithm } from '@curfew/domain'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { type Curfew, openCurfew } from '../support/curfew.ts'
import { openSigner } from '../support/signer.ts'

// Goal: keys come from the source that their owner chose, rotate when asked to, and no private part is ever shown.
// Method: the real console over HTTP with a clock that the test sets, real keys and real signers.

const START = Date.UTC(2026, 10, 21)
let nowMs = START
let curfew: Curfew
/** The issuers whose keys were generated, in order. */
const generated: string[] = []
/** How many keys are being generated, and the highest number so far. */
let generating = 0
let generatingMost = 0
/** While set, the generation of a key waits for it. */
let held: PromiseWithResolvers<void> | null = null
beforeAll(async () => {
  curfew = await openCurfew({
    workers: 0,
    now: () => new Date(nowMs),
    wrapKeyMaker: (real) => ({
      ...real,
      async generate(name, algorithm) {
        generated.push(name)
        generatingMost = Math.max(generatingMost, ++generating)
        await held?.promise
        return real.generate(name, algorithm).finally(() => generating--)
      },
    }),
  })
})
afterAll(() => curfew.stop())

const HOUR = 3_600_000
let count = 0

/** Registers a new issuer. @returns calls for its keys. */
async function issuer() {
  count += 1
  const name = `i${count}`
  await curfew.client.putIssuer(name, { iss: `https://${name}.example` })
  const path = `/v1/issuers/${name}/keys`
  const send = async (method: string, to: string, body?: unknown) => {
    nowMs += 1
    const response = await curfew.call(method, path + to, body)
    return {
      status: response.status,
      body: (await response.json()) as AddedKey & SigningKeys & ProblemBody,
    }
  }
  return {
    name,
    path,
    send,
    keys: async () => (await send('GET', '')).body.items,
    jwks: async () => (await curfew.client.getJwks(name)).keys,
  }
}

interface ProblemBody {
  readonly title: string
  readonly detail: string
  readonly errors?: readonly { readonly pointer: string; readonly detail: string }[]
}

const RSA = { modulusLength: 2_048 }
const CURVES: Readonly<Record<string, string>> = { ES256: 'P-256', ES384: 'P-384', ES512: 'P-521' }

function pairOf(algorithm: SigningAlgorithm, rsa = RSA) {
  const pair =
    CURVES[algorithm] !== undefined
      ? generateKeyPairSync('ec', { namedCurve: CURVES[algorithm] })
      : algorithm === 'EdDSA'
        ? generateKeyPairSync('ed25519')
        : generateKeyPairSync('rsa', rsa)
  return {
    privateJwk: pair.privateKey.export({ format: 'jwk' }),
    publicJwk: pair.publicKey.export({ format: 'jwk' }),
  }
}

/** A key for EdDSA is published without alg, because its tokens may also say Ed25519. */
const publishedAs = (alg: SigningAlgorithm) => (alg === 'EdDSA' ? {} : { alg })

describe('generating keys', () => {
  test('makes no key for a request that a running rotation refuses', async () => {
    const { name, send } = await issuer()
    expect((await send('POST', '', { alg: 'ES256' })).status).toBe(201)
    expect((await send('POST', '', { alg: 'ES256' })).status).toBe(201)
    const before = generated.filter((each) => each === name).length
    expect((await send('POST', '', { alg: 'ES256' })).status).toBe(409)
    expect((await send('POST', '/rotate', {})).status).toBe(409)
    // The next key exists already. It only starts to sign earlier.
    expect((await send('POST', '/rotate', { immediately: true })).status).toBe(200)
    expect(generated.filter((each) => each === name)).toHaveLength(before)
  })

  test('makes one key at a time, in turn by issuer, and lets few requests of one issuer wait', async () => {
    const [a, b] = [await issuer(), await issuer()]
    generatingMost = 0
    held = Promise.withResolvers()
    const ofA = Array.from({ length: 8 }, () => post(a.path))
    await vi.waitFor(() => expect(generated.at(-1)).toBe(a.name))
    // Refused while the others wait: one key is being generated, and two requests are queued.
    const refused = await Promise.race(ofA)
    expect(refused.headers.get('retry-after')).toBe('5')
    expect(refused.status).toBe(429)
    const ofB = b.send('POST', '', { alg: 'ES256' })
    held.resolve()
    held = null
    expect((await ofB).status).toBe(201)
    const statuses = (await Promise.all(ofA)).map(({ status }) => status).toSorted()
    expect(statuses).toEqual([201, 201, 409, 429, 429, 429, 429, 429])
    expect(generatingMost).toBe(1)
    expect(generated.filter((name) => name === a.name)).toHaveLength(2)
  })
})

const post = (path: string) => curfew.call('POST', path, { alg: 'ES256' })

describe('a generated key', () => {
  test.each(SIGNING_ALGORITHMS)('for %s signs at once and is published', async (alg) => {
    const { send, jwks, keys } = await issuer()
    const made = await send('POST', '', { alg })
    expect(made).toMatchObject({
      status: 201,
      body: { alg, source: 'generated', state: 'current', signs_until: null },
    })
    expect(await jwks()).toEqual([
      { ...made.body.public_jwk, kid: made.body.kid, ...publishedAs(alg), use: 'sig' },
    ])
    const { kid_reason, ...view } = made.body
    expect([await keys(), kid_reason]).toEqual([[view], null])
    expect(made.body.thumbprint).toBe(made.body.kid)
  })

  test('is made for the first relying party that needs it, and is audited', async () => {
    const { name, keys } = await issuer()
    await curfew.client.putRelyingParty(name, 'first', {
      backchannel_logout_uri: 'https://rp.example/logout',
      id_token_signed_response_alg: 'ES256',
    })
    const [key] = await keys()
    const audit = await (await curfew.call('GET', '/v1/audit?limit=2')).json()
    expect(audit).toMatchObject({
      items: [
        { action: 'relying_party.created' },
        {
          credential: 'curfew',
          action: 'key.generated',
          object: `/v1/issuers/${name}/keys/${key?.kid}`,
          detail: { alg: 'ES256', source: 'generated' },
        },
      ],
    })
  })

  test('shows its private part in no answer, log line or audit entry', async () => {
    const { send, name } = await issuer()
    await send('POST', '', { alg: 'ES256' })
    const { privateJwk } = pairOf('ES256')
    await send('POST', '', { alg: 'ES256', jwk: { ...privateJwk, x: 'AAAA' } })
    await send('POST', '/rotate', { immediately: true })
    const imported = await send('POST', '', {
      jwk: { ...pairOf('ES384').privateJwk, alg: 'ES384', kid: 'theirs' },
    })
    const audit = await (await curfew.call('GET', '/v1/audit?limit=3')).json()
    const { rows } = await curfew.db.query('select * from signing_keys where issuer = $1', [name])
    const shown = JSON.stringify([imported, audit, rows, await curfew.client.getJwks(name)])
    expect(shown + curfew.lines.join('')).not.toContain(String(privateJwk.d))
    expect(shown).not.toMatch(/"(?:d|p|q|dp|dq|qi|sealed_private_key)":"(?!eyJ)/)
    expect(audit).toMatchObject({
      items: [
        {
          action: 'key.imported',
          object: `/v1/issuers/${name}/keys/theirs`,
          detail: { alg: 'ES384', source: 'imported' },
        },
        { action: 'key.rotated', credential: 'admin', detail: { alg: 'ES256', immediately: true } },
        { action: 'key.generated' },
      ],
    })
  })
})

describe('an imported private JWK', () => {
  test.each(SIGNING_ALGORITHMS)('for %s keeps the kid that the IdP gave it', async (alg) => {
    const { send, jwks } = await issuer()
    const { privateJwk, publicJwk } = pairOf(alg)
    const given = await send('POST', '', {
      jwk: { ...privateJwk, alg, kid: 'idp 1/ä', use: 'sig', key_ops: ['sign'] },
    })
    expect(given).toMatchObject({
      status: 201,
      body: { kid: 'idp 1/ä', alg, source: 'imported', state: 'current' },
    })
    expect(await jwks()).toEqual([{ ...publicJwk, kid: 'idp 1/ä', ...publishedAs(alg), use: 'sig' }])
  })

  const ec = pairOf('ES256').privateJwk
  const rsa = pairOf('RS256').privateJwk
  test.each([
    ['with another key type', { alg: 'RS256', jwk: ec }, '/jwk/kty'],
    ['with another curve', { alg: 'ES384', jwk: ec }, '/jwk/crv'],
    ['with an unsupported algorithm', { jwk: { ...ec, alg: 'HS256' } }, '/jwk/alg'],
    ['without an algorithm, if several fit', { jwk: rsa }, '/jwk/alg'],
    ['with two algorithms', { alg: 'PS256', jwk: { ...rsa, alg: 'RS256' } }, '/jwk/alg'],
    ['without its private part', { alg: 'ES256', jwk: { ...ec, d: undefined } }, '/jwk/d'],
    [
      'with the private part of another key',
      { alg: 'ES256', jwk: { ...ec, d: pairOf('ES256').privateJwk.d } },
      '/jwk',
    ],
    ['with a number that is not base64url', { alg: 'RS256', jwk: { ...rsa, n: 'not base64url!' } }, '/jwk/n'],
    ['with 1024 bits', { alg: 'RS256', jwk: pairOf('RS256', { modulusLength: 1_024 }).privateJwk }, '/jwk/n'],
    // Its signature would be the padded digest itself. OpenSSL makes and verifies it like any other.
    [
      'with an exponent of 1',
      { alg: 'RS256', jwk: { ...rsa, e: 'AQ', d: 'AQ', dp: 'AQ', dq: 'AQ' } },
      '/jwk/e',
    ],
    ['for encryption', { alg: 'ES256', jwk: { ...ec, use: 'enc' } }, '/jwk/use'],
    ['that may only verify', { alg: 'ES256', jwk: { ...ec, key_ops: ['verify'] } }, '/jwk/key_ops'],
    ['with a kid that is not a text', { alg: 'ES256', jwk: { ...ec, kid: 7 } }, '/jwk/kid'],
    ['together with a signer', { jwk: ec, signer: { url: 'https://a.example', credential: 'x' } }, '/signer'],
    ['given as a public key without a signer', { alg: 'ES256', public_jwk: ec }, '/signer'],
    ['with two start times', { alg: 'ES256', jwk: ec, sign_from: 'now', lead_s: 900 }, '/lead_s'],
  ])('is refused %s, and the member is named', async (_what, body, pointer) => {
    const { send, keys } = await issuer()
    const refused = await send('POST', '', body)
    expect([refused.status, refused.body.errors?.map((fault) => fault.pointer)]).toEqual([400, [pointer]])
    expect(JSON.stringify(refused.body)).not.toContain(String(ec.d))
    expect(await keys()).toEqual([])
  })

  test.each([
    ['ES256K', { kty: 'EC', crv: 'secp256k1' }, '/jwk/crv', /must not be ES256K: .*secp256k1.*ES256/],
    ['Ed448', { kty: 'OKP', crv: 'Ed448' }, '/jwk/crv', /must not be Ed448: .*Ed25519/],
    ['X25519', { kty: 'OKP', crv: 'X25519' }, '/jwk/crv', /for encryption/],
    ['HMAC', { kty: 'oct', k: 'c2VjcmV0' }, '/jwk/kty', /oct is a shared secret/],
    [
      'an alg of a shared secret',
      { ...ec, alg: 'HS256' },
      '/jwk/alg',
      /must not be HS256: .*public keys.*RS256/,
    ],
    ['an alg in other letters', { ...ec, alg: 'es256' }, '/jwk/alg', /must be written ES256/],
  ])('for %s is refused by its name, with the way out', async (_what, jwk, pointer, detail) => {
    const { send } = await issuer()
    expect(await send('POST', '', { jwk })).toMatchObject({
      status: 400,
      body: { errors: [{ pointer, detail: expect.stringMatching(detail) }] },
    })
  })

  test('for Ed25519 is a key for EdDSA, and its algorithm follows from its curve', async () => {
    const { send, keys } = await issuer()
    const okp = () => pairOf('EdDSA').privateJwk
    expect(await send('POST', '', { jwk: { ...okp(), alg: 'Ed25519', kid: 'a' } })).toMatchObject({
      body: { alg: 'EdDSA', state: 'current' },
    })
    const next = await send('POST', '', { jwk: { ...okp(), alg: 'EdDSA', kid: 'b' }, alg: 'Ed25519' })
    expect(next.body).toMatchObject({ alg: 'EdDSA', state: 'next' })
    expect(await send('POST', '', { alg: 'Ed25519' })).toMatchObject({ status: 409 })
    expect((await send('POST', '', { jwk: { ...pairOf('ES384').privateJwk, kid: 'c' } })).body.alg).toBe(
      'ES384',
    )
    expect((await keys()).map(({ alg }) => alg)).toEqual(['EdDSA', 'EdDSA', 'ES384'])
  })

  test('needs a kid that is new to its issuer, but not to others', async () => {
    const [one, other] = [await issuer(), await issuer()]
    const jwk = { ...pairOf('ES256').privateJwk, alg: 'ES256', kid: 'same' }
    expect((await one.send('POST', '', { jwk })).status).toBe(201)
    expect((await other.send('POST', '', { jwk })).status).toBe(201)
    const again = await one.send('POST', '', {
      jwk: { ...pairOf('EdDSA').privateJwk, alg: 'EdDSA', kid: 'same' },
    })
    expect(again).toMatchObject({ status: 409, body: { errors: [{ pointer: '/jwk/kid' }] } })
    for (const kid of ['a\u0000b', 'a\u202eb', '', 'k'.repeat(256)])
      expect(await one.send('POST', '', { jwk: { ...jwk, kid } }), kid).toMatchObject({
        ...{ status: 400, body: { errors: [{ pointer: '/jwk/kid' }] } },
      })
  })

  test('starts to sign after a lead time, or at once if the IdP publishes it already', async () => {
    const { send, keys } = await issuer()
    await send('POST', '', { alg: 'ES256' })
    const jwk = { ...pairOf('ES256').privateJwk, alg: 'ES256', kid: 'published already' }
    expect((await send('POST', '', { jwk, sign_from: 'now' })).body).toMatchObject({ state: 'current' })
    expect((await keys()).map(({ state }) => state)).toEqual(['previous', 'current'])
    const next = await send('POST', '', {
      jwk: { ...pairOf('ES256').privateJwk, alg: 'ES256', kid: 'n' },
      lead_s: 3_600,
    })
    expect(next.body).toMatchObject({ state: 'next', signs_from: new Date(nowMs + HOUR).toISOString() })
    const third = await send('POST', '', { alg: 'ES256' })
    expect(third).toMatchObject({ status: 409, body: { title: 'Rotation under way' } })
    // The IdP supplied the last key and would not expect a generated one, so it must supply the next one too.
    nowMs += 2 * HOUR
    expect(await send('POST', '/rotate', {})).toMatchObject({
      status: 409,
      body: { title: 'Nothing to rotate' },
    })
  })
})

describe('a rotation', () => {
  test('publishes the next key before it signs, and the previous key after it signed', async () => {
    const { send, keys, jwks, name } = await issuer()
    const first = (await send('POST', '', { alg: 'ES256' })).body
    const rotated = await send('POST', '/rotate', { lead_s: 7_200 })
    expect(rotated).toMatchObject({ status: 200, body: { items: [{ state: 'current' }, { state: 'next' }] } })
    const second = rotated.body.items[1] as AddedKey
    expect((await jwks()).map(({ kid }) => kid)).toEqual([first.kid, second.kid])
    expect((await send('POST', '/rotate', {})).status).toBe(409)
    nowMs += 2 * HOUR
    expect((await keys()).map(({ state }) => state)).toEqual(['previous', 'current'])
    nowMs += KEY_OVERLAP_MS
    expect((await jwks()).map(({ kid }) => kid)).toEqual([second.kid])
    expect((await keys())[0]).toMatchObject({ state: 'retired', kid: first.kid })
    // A kid is never reused: an old key set would verify with the wrong key.
    expect(name).toBeDefined()
  })

  test('makes the new key sign at once if asked, and brings a running rotation forward', async () => {
    const { send, keys } = await issuer()
    await send('POST', '', { alg: 'ES256' })
    await send('POST', '/rotate', {})
    await send('POST', '/rotate', { immediately: true })
    expect((await keys()).map(({ state }) => state)).toEqual(['previous', 'current'])
    await send('POST', '/rotate', { immediately: true, alg: 'ES256' })
    expect((await keys()).map(({ state }) => state).sort()).toEqual(['current', 'previous', 'previous'])
  })

  test('covers every algorithm of the issuer, and is refused for an algorithm without a key', async () => {
    const { send } = await issuer()
    for (const alg of ['ES256', 'EdDSA']) await send('POST', '', { alg })
    const { body } = await send('POST', '/rotate', {})
    expect(body.items.map(({ alg, state }) => `${alg} ${state}`).sort()).toEqual([
      'ES256 current',
      'ES256 next',
      'EdDSA current',
      'EdDSA next',
    ])
    expect((await send('POST', '/rotate', { alg: 'RS256' })).status).toBe(409)
    expect((await send('POST', '/rotate', { lead_s: 60 })).status).toBe(400)
    expect((await send('POST', '/rotate', { lead_s: 7_200, immediately: true })).status).toBe(400)
  })

  test('can follow a schedule, which is set, shown and removed', async () => {
    const { send } = await issuer()
    expect((await send('POST', '/rotate', { every_days: 30 })).body.every_days).toBe(30)
    expect((await send('POST', '/rotate', { every_days: 90 })).body.every_days).toBe(90)
    expect((await send('GET', '')).body.every_days).toBe(90)
    expect((await send('POST', '/rotate', { every_days: null })).body.every_days).toBeNull()
    expect((await send('POST', '/rotate', { every_days: 30, immediately: true })).status).toBe(400)
  })

  test('makes one next key when several requests come at the same time', async () => {
    const { send, keys } = await issuer()
    await send('POST', '', { alg: 'ES256' })
    const answers = await Promise.all([1, 2, 3].map(() => send('POST', '/rotate', {})))
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 409, 409])
    expect((await keys()).map(({ state }) => state)).toEqual(['current', 'next'])
  })
})

describe('retiring a key', () => {
  test('stops a next key, is refused for a signing key, and removes a compromised key from the key set at once', async () => {
    const { send, jwks } = await issuer()
    const first = (await send('POST', '', { alg: 'ES256' })).body.kid
    const retire = (kid: string, body: object = {}) =>
      send('POST', `/${encodeURIComponent(kid)}/retire`, body)
    expect(await retire(first, { compromised: true })).toMatchObject({ status: 409 })
    const next = (await send('POST', '/rotate', {})).body.items[1]?.kid ?? ''
    expect((await retire(next)).body).toMatchObject({ state: 'previous' })
    expect((await send('GET', '')).body.items.map(({ state }) => state)).toEqual(['current', 'previous'])
    await send('POST', '/rotate', { immediately: true })
    expect(await retire(first)).toMatchObject({ status: 409 })
    expect((await retire(first, { compromised: true })).body).toMatchObject({ state: 'retired' })
    expect((await jwks()).map(({ kid }) => kid)).not.toContain(first)
    expect((await retire('none')).status).toBe(404)
  })
})

describe('a JWK without a kid', () => {
  const rsa = pairOf('RS256')
  async function idpWith(keys: readonly unknown[]) {
    const server = createServer((request, response) =>
      response.end(
        JSON.stringify(request.url === '/certs' ? { keys } : { issuer: iss, jwks_uri: `${iss}/certs` }),
      ),
    ).listen(0, '127.0.0.1')
    await once(server, 'listening')
    const iss = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
    count += 1
    const name = `i${count}`
    await curfew.client.putIssuer(name, { iss })
    return {
      add: async (body: object) => {
        const response = await curfew.call('POST', `/v1/issuers/${name}/keys`, body)
        return { status: response.status, body: (await response.json()) as AddedKey & ProblemBody }
      },
      [Symbol.asyncDispose]: async () => {
        server.closeAllConnections()
        server.close()
      },
    }
  }

  test('takes the kid with which the IdP publishes the same key', async () => {
    const published = [
      { ...pairOf('RS256').publicJwk, kid: 'another', alg: 'RS256' },
      null,
      { ...rsa.publicJwk, kid: 'for PS', alg: 'PS256' },
      { ...rsa.publicJwk, kid: '2026-a', alg: 'RS256', use: 'sig' },
    ]
    await using idp = await idpWith(published)
    expect(await idp.add({ jwk: rsa.privateJwk, alg: 'RS256' })).toMatchObject({
      status: 201,
      body: { kid: '2026-a', kid_reason: expect.stringMatching(/^The IdP publishes this key .*\/certs\.$/) },
    })
  })

  test('takes no kid that has control characters', async () => {
    await using idp = await idpWith([{ ...rsa.publicJwk, kid: 'a\u0000\u001b[2J', alg: 'RS256' }])
    const { status, body } = await idp.add({ jwk: rsa.privateJwk, alg: 'RS256' })
    expect([status, body.kid]).toEqual([201, body.thumbprint])
  })

  test('is refused for an algorithm that is not the one for which the IdP publishes it', async () => {
    await using idp = await idpWith([{ ...rsa.publicJwk, kid: 'a', alg: 'RS512' }])
    expect(await idp.add({ jwk: rsa.privateJwk, alg: 'RS256' })).toMatchObject({
      status: 400,
      body: { errors: [{ pointer: '/jwk/alg', detail: expect.stringContaining('must be RS512') }] },
    })
  })

  test('gets its thumbprint if the IdP does not publish it, or does not answer, and the answer says so', async () => {
    await using idp = await idpWith([])
    const { body } = await idp.add({ jwk: rsa.privateJwk, alg: 'RS256' })
    expect(body).toMatchObject({
      kid: body.thumbprint,
      kid_reason: expect.stringMatching(/does not publish it/),
    })
    const { send } = await issuer()
    const alone = await send('POST', '', { jwk: rsa.privateJwk, alg: 'RS256' })
    expect(alone.body).toMatchObject({
      kid: body.thumbprint,
      kid_reason: expect.stringMatching(/could not be searched.*could not be fetched/),
    })
  })
})

describe('a remote key', () => {
  test.each([
    ['curfew', 'ES256'],
    ['curfew', 'PS256'],
    ['vault', 'ES512'],
    ['vault', 'PS384'],
    ['vault', 'EdDSA'],
  ] as const)(
    'with a signer of flavour %s for %s is tested, and its credential is sealed',
    async (flavour, alg) => {
      const { send, name, jwks } = await issuer()
      const { privateJwk, publicJwk } = pairOf(alg)
      await using signer = await openSigner(privateJwk, { algorithm: alg, flavour })
      const credential = 'hunter2-credential'
      const body = {
        signer: { url: signer.url, credential, flavour },
        public_jwk: { ...publicJwk, kid: 'kms' },
        alg,
      }
      const taken = await send('POST', '', body)
      expect(taken).toMatchObject({ status: 201, body: { kid: 'kms', source: 'remote', state: 'current' } })
      expect(signer.calls).toHaveLength(1)
      const sent = flavour === 'vault' ? 'x-vault-token' : 'authorization'
      expect(signer.calls[0]?.headers[sent]).toBe(flavour === 'vault' ? credential : `Bearer ${credential}`)
      if (alg === 'PS384')
        expect(signer.calls[0]?.body).toMatchObject({
          signature_algorithm: 'pss',
          hash_algorithm: 'sha2-384',
          salt_length: 'hash',
        })
      expect(await jwks()).toEqual([{ ...publicJwk, kid: 'kms', ...publishedAs(alg), use: 'sig' }])
      const { rows } = await curfew.db.query('select * from signing_keys where issuer = $1', [name])
      expect(JSON.stringify([rows, taken]) + curfew.lines.join('')).not.toContain(credential)
    },
  )

  test('is refused if its signer fails, signs with another key, or has a forbidden address', async () => {
    const { send, keys } = await issuer()
    const { privateJwk, publicJwk } = pairOf('ES256')
    await using signer = await openSigner(privateJwk, { algorithm: 'ES256', flavour: 'curfew' })
    const body = (url: string) => ({ signer: { url, credential: 'c' }, public_jwk: publicJwk, alg: 'ES256' })
    signer.fail(503)
    expect(await send('POST', '', body(signer.url))).toMatchObject({
      status: 400,
      body: { errors: [{ pointer: '/signer', detail: expect.stringContaining('503') }] },
    })
    signer.fail(null)
    signer.use(pairOf('ES256').privateJwk)
    expect(await send('POST', '', body(signer.url))).toMatchObject({
      body: {
        errors: [{ pointer: '/signer', detail: expect.stringContaining('signature that is not valid') }],
      },
    })
    expect((await send('POST', '', body('http://10.0.0.1/sign'))).body.errors?.[0]?.pointer).toBe(
      '/signer/url',
    )
    const shown = { ...body(signer.url), public_jwk: privateJwk }
    expect((await send('POST', '', shown)).body.errors?.[0]?.pointer).toBe('/public_jwk/d')
    expect(await keys()).toEqual([])
  })
})

describe('the key set', () => {
  test('is cached by its entity tag, which changes with every key change', async () => {
    const { name, send } = await issuer()
    await send('POST', '', { alg: 'ES256' })
    const path = `/issuers/${name}/jwks.json`
    const first = await curfew.call('GET', path)
    const etag = first.headers.get('etag') ?? ''
    expect(etag).toMatch(/^"[\w-]+"$/)
    expect(first.headers.get('cache-control')).toBe(`public, max-age=${JWKS_MAX_AGE_MS / 1_000}`)
    for (const header of [etag, `W/${etag}`, `"other", ${etag}`, '*']) {
      const again = await curfew.call('GET', path, undefined, { 'if-none-match': header })
      expect([again.status, await again.text(), again.headers.get('etag')]).toEqual([304, '', etag])
      expect(again.headers.get('cache-control')).toMatch(/^public/)
    }
    await send('POST', '/rotate', {})
    const changed = await curfew.call('GET', path, undefined, { 'if-none-match': etag })
    expect([changed.status, changed.headers.get('etag') === etag]).toEqual([200, false])
  })
})

test('clients:read shows signing keys and creates none, and keys:write creates them', async () => {
  const { path } = await issuer()
  const as = (key: string) => ({ authorization: `Bearer ${key}` })
  const [reader, writer] = [as(curfew.keyFor('clients:read')), as(curfew.keyFor('keys:write'))]
  expect((await curfew.call('GET', path, undefined, reader)).status).toBe(200)
  expect((await curfew.call('POST', path, { alg: 'ES256' }, reader)).status).toBe(403)
  expect((await curfew.call('POST', path, { alg: 'ES256' }, writer)).status).toBe(201)
})
