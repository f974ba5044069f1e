import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { type CertificateMaker, openCertificateMaker } from '../support/certificates.ts'
import { type Curfew, ISS, ISSUER, openCurfew } from '../support/curfew.ts'
import { openReceiver, type Receiver } from '../support/strict-receiver.ts'

// Goal: a probe can end one real session of an RP, for a credential that may do so, and the report keeps the observation of its owner.
// Method: a real relying party over TLS, which records the sessions that it ended.

let curfew: Curfew
let certificates: CertificateMaker
let receiver: Receiver
beforeAll(async () => {
  curfew = await openCurfew({ workers: 0 })
  certificates = await openCertificateMaker()
  const certificate = await certificates.selfSigned('IP:127.0.0.1', 90)
  receiver = await openReceiver(certificate, {
    iss: ISS,
    aud: 'shop',
    jwks: () => curfew.client.getJwks(ISSUER) as ReturnType<Parameters<typeof openReceiver>[1]['jwks']>,
  })
  await curfew.client.putRelyingParty(ISSUER, 'shop', {
    backchannel_logout_uri: receiver.uri,
    id_token_signed_response_alg: 'ES256',
    curfew: { timeout_ms: 3_000, tls: { ca: certificate.cert } },
  })
})
afterAll(async () => {
  await curfew.stop()
  await receiver[Symbol.asyncDispose]()
  await certificates[Symbol.asyncDispose]()
})
beforeEach(() => {
  receiver.fault = null
})

const PATH = `/v1/issuers/${ISSUER}/relying-parties/shop/probe`
const SESSION = { sub: 'alice', sid: 'sid-of-alice' }
const probe = (session = SESSION) => curfew.client.probe(ISSUER, 'shop', { session })
const checkOf = ({ report }: Awaited<ReturnType<typeof probe>>) =>
  report?.checks.find(({ id }) => id === 'session_over')
const answer = (id: string, over: 'yes' | 'no' | 'unknown') =>
  curfew.client.answerProbe(ISSUER, 'shop', { probe: id, over })

test('one token names the real session, after all others, and the report keeps the word of the owner', async () => {
  const before = receiver.requests.length
  const probed = await probe()
  const tokens = receiver.requests.slice(before).map(({ token }) => token)
  const real = tokens.filter((token) => /alice/.test(JSON.stringify(token?.claims)))
  expect(real).toEqual([tokens.at(-1)])
  expect(real[0]).toMatchObject({
    header: { typ: 'logout+jwt' },
    claims: { ...SESSION, iss: ISS, aud: 'shop' },
  })
  expect(receiver.loggedOut.filter((name) => name === SESSION.sid)).toHaveLength(1)
  expect(probed).toMatchObject({ sent: probed.total, report: { conformant: false } })
  expect(probed.report?.session).toMatchObject({
    ...{ named: ['sub', 'sid'], status: 200, meaning: 'acknowledged' },
    ...{ jti: real[0]?.claims.jti, over: 'unknown', answered_by: null },
  })
  expect(checkOf(probed)).toMatchObject({ result: 'unknown', level: 'must', status: 200 })

  const no = await answer(probed.id, 'no')
  expect(checkOf(no)).toMatchObject({ result: 'failed', fix: expect.stringContaining('Find the session') })
  expect(no.report).toMatchObject({ failed: 1, unknown: 0, conformant: false })
  const yes = await answer(probed.id, 'yes')
  expect(checkOf(yes)).toMatchObject({ result: 'passed', fix: null })
  expect(yes.report).toMatchObject({ conformant: true, session: { over: 'yes', answered_by: 'admin' } })
  expect(await curfew.client.getProbe(ISSUER, 'shop')).toEqual(yes)
})

test('the audit log has the probe and the answer, with hashes in place of the names', async () => {
  const { id } = await probe({ sub: 'bob', sid: 'sid-of-bob' })
  await answer(id, 'yes')
  const audit = await curfew.call('GET', '/v1/audit?limit=5')
  const { items } = (await audit.json()) as { items: readonly object[] }
  const entries = JSON.stringify(items)
  expect(entries).not.toMatch(/bob/)
  expect(items).toEqual(
    expect.arrayContaining([
      expect.objectContaining({
        action: 'relying_party.probed',
        detail: expect.objectContaining({
          probe: id,
          session: { subject_digest: expect.any(String), sid_digest: expect.any(String) },
        }),
      }),
      expect.objectContaining({ action: 'relying_party.probe_answered', detail: { probe: id, over: 'yes' } }),
    ]),
  )
  // The report has no names either.
  expect(JSON.stringify(await curfew.client.getProbe(ISSUER, 'shop'))).not.toMatch(/bob/)
})

test.each([
  ['knows no session', 'refused', 'failed'],
  ['answers unknown_session', 'already_ended', 'unknown'],
] as const)(
  'a receiver that %s gets a check by the answer to the real session',
  async (fault, meaning, result) => {
    receiver.fault = fault
    const register = (errors: readonly string[]) =>
      curfew.client.changeRelyingParty(ISSUER, 'shop', () => ({ curfew: { already_ended_errors: errors } }))
    await register(['unknown_session'])
    try {
      const probed = await probe()
      expect(probed.report?.session).toMatchObject({ meaning, status: 400 })
      expect(checkOf(probed)?.result).toBe(result)
      const denied = checkOf(await answer(probed.id, 'no'))
      expect(denied?.result).toBe('failed')
      if (meaning === 'already_ended') expect(denied?.fix).toContain('Remove the error')
    } finally {
      await register([])
    }
  },
)

test('an address that is no endpoint gets no token for the real session', async () => {
  receiver.fault = 'answers 302 always'
  const before = receiver.loggedOut.length
  const probed = await probe()
  expect(probed.report?.session).toBeUndefined()
  expect(receiver.requests.at(-1)?.token?.claims.sub).not.toBe('alice')
  expect(receiver.loggedOut).toHaveLength(before)
  expect((await curfew.call('PUT', `${PATH}/session`, { probe: probed.id, over: 'yes' })).status).toBe(404)
})

describe('a credential', () => {
  const keyOf = async (name: string, scopes: readonly string[], clients?: readonly string[]) => {
    const made = await curfew.call('POST', '/v1/api-keys', {
      ...{ name, scopes, issuer: ISSUER },
      ...(clients !== undefined && { clients }),
    })
    return ((await made.json()) as { key: string }).key
  }
  const as = (key: string, method: string, path: string, body: object) =>
    fetch(new URL(path, curfew.url), {
      method,
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
      body: JSON.stringify(body),
    })

  test('without events:write may probe, and may not end a real session', async () => {
    const key = await keyOf('owner', ['clients:write'])
    const before = receiver.requests.length
    const refused = await as(key, 'POST', PATH, { session: SESSION })
    expect([refused.status, ((await refused.json()) as { detail: string }).detail]).toEqual([
      403,
      expect.stringContaining('events:write'),
    ])
    expect(receiver.requests).toHaveLength(before)
  })

  test('without clients:write may not probe or answer', async () => {
    const key = await keyOf('idp', ['events:write', 'clients:read'])
    const statuses = [
      (await as(key, 'POST', PATH, { session: SESSION })).status,
      (await as(key, 'PUT', `${PATH}/session`, { probe: 'p', over: 'yes' })).status,
    ]
    expect(statuses).toEqual([403, 403])
  })
})

test.each([
  ['another address', { uri: 'https://203.0.113.1/' }, '/uri'],
  ['no name', { session: {} }, '/session'],
  ['an unknown member', { session: { email: 'a@b.c' } }, '/session/email'],
  ['a name with control characters', { session: { sub: 'a\u0000' } }, '/session/sub'],
])('a real session with %s is refused, and nothing is sent', async (_, more, pointer) => {
  const before = receiver.requests.length
  const refused = await curfew.call('POST', PATH, { session: SESSION, ...more })
  const { errors } = (await refused.json()) as { errors: readonly { pointer: string }[] }
  expect([refused.status, errors[0]?.pointer]).toEqual([400, pointer])
  expect(receiver.requests).toHaveLength(before)
})

test('a channel that cannot name a session refuses one', async () => {
  await curfew.client.putRelyingParty(ISSUER, 'desk', {
    curfew: { channels: { global_revocation: { uri: receiver.uri.replace('backchannel-logout', 'desk') } } },
  })
  const refused = await curfew.call('POST', PATH.replace('shop', 'desk'), { session: SESSION })
  expect([refused.status, await refused.json()]).toMatchObject([400, { errors: [{ pointer: '/session' }] }])
})

test('an answer about another probe is refused', async () => {
  const { id } = await curfew.client.probe(ISSUER, 'shop')
  for (const probe of [id, crypto.randomUUID()])
    expect((await curfew.call('PUT', `${PATH}/session`, { probe, over: 'yes' })).status).toBe(404)
})
