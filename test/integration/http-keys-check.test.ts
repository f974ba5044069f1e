import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { JWKS_MAX_AGE_MS } from '@curfew/domain'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Curfew, openCurfew } from '../support/curfew.ts'

// Goal: a key check finds an IdP that publishes our keys wrongly, before its relying parties refuse tokens, and says what to do.
// Method: a real IdP on loopback that serves the documents of the test.

let nowMs = Date.UTC(2026, 10, 21)
let curfew: Curfew
beforeAll(async () => {
  curfew = await openCurfew({ workers: 0, now: () => new Date(nowMs) })
})
afterAll(() => curfew.stop())

let count = 0

/** Opens and registers an IdP with one ES256 key. At first it publishes nothing. */
async function openIdp() {
  let documents: Readonly<Record<string, unknown>> = {}
  const server = createServer((request, response) => {
    const document = documents[request.url ?? '']
    response.statusCode = document === undefined ? 404 : 200
    const text = typeof document === 'string' ? document : JSON.stringify(document ?? {})
    response.end(text)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  count += 1
  const name = `idp${count}`
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const iss = `${origin}/realms/a/`
  await curfew.client.putIssuer(name, { iss })
  const { kid } = await curfew.client.addKey(name, { alg: 'ES256' })
  const discovery = { issuer: iss, jwks_uri: `${origin}/certs` }
  return {
    name,
    iss,
    kid,
    check: () => curfew.client.checkKeys(name),
    ours: async () => (await curfew.client.getJwks(name)).keys,
    /** @param keys the keys at its `jwks_uri`. */
    publish(keys: readonly unknown[], change: object = {}) {
      documents = {
        '/realms/a/.well-known/openid-configuration': { ...discovery, ...change },
        '/certs': { keys },
      }
    },
    write(next: Readonly<Record<string, unknown>>) {
      documents = next
    },
    async [Symbol.asyncDispose]() {
      server.close()
      server.closeAllConnections()
    },
  }
}

describe("the IdP's own key set", () => {
  test('of an issuer with a name for examples is a note, and of another issuer without an IdP a fault', async () => {
    const named = async (name: string, iss: string) => {
      await curfew.client.putIssuer(name, { iss })
      await curfew.client.addKey(name, { alg: 'ES256' })
      return curfew.client.checkKeys(name)
    }
    expect(await named('example', 'https://login.example/')).toMatchObject({
      ok: true,
      discovery: {
        ok: true,
        what: expect.stringContaining('reserved for examples'),
        fix: expect.any(String),
      },
      keys: [{ ok: true }],
    })
    // Nothing listens on port 9, and the name only begins like one for examples.
    expect(await named('absent', 'https://example.invalid:9/')).toMatchObject({
      ok: false,
      discovery: { ok: false },
      keys: [{ ok: false }],
    })
  })

  test('passes if it has our keys among others', async () => {
    await using idp = await openIdp()
    idp.publish([{ kty: 'RSA', kid: 'its own', n: 'AQ', e: 'AQAB' }, 'no key', ...(await idp.ours())])
    expect(await idp.check()).toMatchObject({
      ok: true,
      iss: idp.iss,
      discovery: { ok: true, fix: null },
      jwks: { ok: true },
      keys: [{ kid: idp.kid, state: 'current', ok: true, fix: null }],
    })
  })

  test('fails if it lacks a key, and the answer says when that key starts to sign', async () => {
    await using idp = await openIdp()
    idp.publish([])
    const where = expect.stringContaining(`/issuers/${idp.name}/jwks.json`)
    expect(await idp.check()).toMatchObject({ ok: false, keys: [{ kid: idp.kid, ok: false, fix: where }] })
    idp.publish(await idp.ours())
    const { items } = await curfew.client.rotateKeys(idp.name)
    const [next] = items.filter(({ state }) => state === 'next')
    const before = expect.stringContaining(String(next?.signs_from))
    expect(await idp.check()).toMatchObject({ ok: false, keys: [{ ok: true }, { ok: false, what: before }] })
    idp.publish(await idp.ours())
    expect(await idp.check()).toMatchObject({ ok: true, keys: [{}, {}] })
  })

  test('may drop a key once all tokens that it signed have expired, and not before', async () => {
    await using idp = await openIdp()
    await curfew.client.rotateKeys(idp.name, { immediately: true })
    nowMs += 1
    const current = (await idp.ours()).filter(({ kid }) => kid !== idp.kid)
    idp.publish(current)
    expect(await idp.check()).toMatchObject({
      ok: false,
      keys: [
        {
          state: 'previous',
          ok: false,
          fix: expect.stringMatching(/, or wait: it is not needed after \S+Z/),
        },
        { ok: true },
      ],
    })
    nowMs += JWKS_MAX_AGE_MS
    expect(await idp.check()).toMatchObject({
      ok: true,
      keys: [{ state: 'previous', ok: true }, { ok: true }],
    })
  })

  test('fails if it has another key under our kid, or our key under another kid', async () => {
    await using idp = await openIdp()
    await using other = await openIdp()
    const [ours] = await idp.ours()
    const [theirs] = await other.ours()
    idp.publish([{ ...theirs, kid: idp.kid }])
    expect(await idp.check()).toMatchObject({
      ok: false,
      keys: [{ ok: false, what: expect.stringContaining('another key') }],
    })
    idp.publish([ours, { ...theirs, kid: idp.kid }])
    expect(await idp.check()).toMatchObject({ ok: false, keys: [{ ok: false }] })
    idp.publish([ours, ours])
    expect(await idp.check(), 'a key that is published twice').toMatchObject({
      ok: true,
      keys: [{ ok: true }],
    })
    idp.publish([{ ...ours, kid: 'renamed' }])
    expect(await idp.check()).toMatchObject({
      ok: false,
      keys: [{ ok: false, what: expect.stringContaining('another kid') }],
    })
  })
})

test.each([
  ['no discovery document', {}, 'discovery', '404'],
  [
    'a discovery document that is not JSON',
    { '/realms/a/.well-known/openid-configuration': '<html>' },
    'discovery',
    'JSON',
  ],
  [
    'a discovery document of another issuer',
    { '/realms/a/.well-known/openid-configuration': { issuer: 'x' } },
    'discovery',
    'byte for byte',
  ],
])('an IdP with %s fails the check, and so do its keys', async (_what, documents, member, words) => {
  await using idp = await openIdp()
  idp.write(documents)
  const answer = await idp.check()
  expect(answer).toMatchObject({ ok: false, [member]: { ok: false, what: expect.stringContaining(words) } })
  expect(answer.keys).toMatchObject([{ ok: false }])
})

test('an issuer that differs only by a final slash fails the check', async () => {
  await using idp = await openIdp()
  idp.publish(await idp.ours(), { issuer: idp.iss.replace(/\/$/, '') })
  expect(await idp.check()).toMatchObject({ ok: false, discovery: { ok: false } })
})

test('an overdue rotation schedule fails the check', async () => {
  await using idp = await openIdp()
  idp.publish(await idp.ours())
  expect((await idp.check()).rotation).toBeNull()
  await curfew.client.rotateKeys(idp.name, { every_days: 30 })
  expect(await idp.check()).toMatchObject({ ok: true, rotation: { ok: true } })
  nowMs += 30 * 86_400_000
  expect(await idp.check()).toMatchObject({
    ok: false,
    rotation: { ok: false, fix: expect.stringContaining('bookkeeper') },
  })
})

test('a missing or unavailable key set fails the check', async () => {
  await using idp = await openIdp()
  idp.publish([], { jwks_uri: `${idp.iss}gone` })
  expect(await idp.check()).toMatchObject({
    ok: false,
    jwks: { ok: false, what: expect.stringContaining('404') },
  })
  idp.publish([], { jwks_uri: undefined })
  expect(await idp.check()).toMatchObject({ ok: false, jwks: null, discovery: { ok: false } })
})

describe('the relay of an issuer', () => {
  /** Puts the issuer with a `jwks_uri` at its own origin. */
  const setKeys = (idp: { readonly name: string; readonly iss: string }, path: string) =>
    curfew.client.putIssuer(idp.name, { iss: idp.iss, jwks_uri: new URL(path, idp.iss).href })

  test('is checked if the issuer has a jwks_uri: where its keys come from, and whether a retry is accepted', async () => {
    await using idp = await openIdp()
    idp.publish([])
    expect((await idp.check()).relay).toBeNull()
    await setKeys(idp, '/certs')
    const unpublished = await idp.check()
    expect(unpublished.relay).toMatchObject({
      keys: { ok: true, what: expect.stringMatching(/ the keys of \S+\/certs, which is the jwks_uri of /) },
      retries: {
        ok: false,
        what: expect.stringMatching(
          new RegExp(
            `signed by Curfew's key ${idp.kid}, which \\S+/certs does not publish: .* refuses it until`,
          ),
        ),
        fix: expect.stringContaining(`/issuers/${idp.name}/jwks.json`),
      },
    })
    idp.publish(await idp.ours())
    expect(await idp.check()).toMatchObject({ ok: true, relay: { retries: { ok: true, fix: null } } })
  })

  test('fails the check if its jwks_uri does not answer, although discovery names one that does', async () => {
    await using idp = await openIdp()
    idp.publish(await idp.ours())
    await setKeys(idp, '/gone')
    expect(await idp.check()).toMatchObject({
      ok: false,
      keys: [{ ok: true }],
      relay: {
        keys: { ok: false, what: expect.stringMatching(/cannot verify .*\/gone .*404.* in quarantine/) },
        retries: { ok: true },
      },
    })
  })

  test('passes the check with a jwks_uri of an IdP whose discovery document Curfew cannot fetch', async () => {
    await using idp = await openIdp()
    idp.write({ '/inside': { keys: await idp.ours() } })
    await setKeys(idp, '/inside')
    expect(await idp.check()).toMatchObject({
      ok: true,
      discovery: { ok: true, what: expect.stringMatching(/404.*jwks_uri of the issuer is used/) },
      keys: [{ ok: true }],
      relay: { keys: { ok: true }, retries: { ok: true } },
    })
  })

  test('is checked if a logout came by it in the last day, also without a jwks_uri', async () => {
    await using idp = await openIdp()
    idp.publish(await idp.ours())
    const relayedAt = (at: Date) =>
      curfew.db.query(
        `insert into events (id, given_id, iss, sid, scope, relayed_for, include_initiator, occurred_stated, occurred_at,
                             requested_at, accepted_at, planned_at, lane, plan_basis, digest)
         values (gen_random_uuid(), gen_random_uuid(), $1, 's', 'session', 'shop', false, true, $2, $2, $2, $2, 'interactive',
                 'registered', '\\x00')`,
        [idp.iss, at],
      )
    await relayedAt(new Date(nowMs - 2 * 86_400_000))
    expect((await idp.check()).relay).toBeNull()
    await relayedAt(new Date(nowMs - 3_600_000))
    expect((await idp.check()).relay).toMatchObject({
      keys: { ok: true, what: expect.stringMatching(/\/certs, which discovery names\.$/) },
    })
    idp.write({})
    expect((await idp.check()).relay).toMatchObject({
      keys: { ok: false, what: expect.stringContaining('discovery names none') },
      retries: { ok: false, what: expect.stringContaining('not known') },
    })
  })
})
