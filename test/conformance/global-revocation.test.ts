import type { LogoutEventInput, LogoutEventStatus, SessionInput } from '@curfew/contract'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Curfew, eventually, ISS, ISSUER, openCurfew } from '../support/curfew.ts'
import { openRelyingParty } from '../support/relying-party.ts'
import {
  openRevocationReceiver,
  type RevocationFault,
  type RevocationReceiver,
} from '../support/revocation-receiver.ts'

// Goal: a logout ends all sessions of a user by Global Token Revocation (draft 04) and its profile Okta Universal Logout. Each
// test names its requirement (GTR-nn).
// Method: a strict receiver that verifies credentials with jose and the published keys; the whole pipeline over real HTTP and
// PostgreSQL.

let curfew: Curfew
beforeAll(async () => {
  curfew = await openCurfew({ bookkeepers: 1 })
})
afterAll(() => curfew.stop())

type Refusal = { readonly errors?: readonly { readonly pointer: string }[] }

let registered = 0
async function register(
  own: Readonly<Record<string, unknown>> = {},
  options: Omit<Parameters<typeof openRevocationReceiver>[1], 'app'> = {},
): Promise<RevocationReceiver & { readonly clientId: string }> {
  const clientId = `app-${registered++}`
  const receiver = await openRevocationReceiver(curfew, { app: clientId, ...options })
  await curfew.client.putRelyingParty(ISSUER, clientId, {
    id_token_signed_response_alg: 'ES256',
    curfew: { channels: { global_revocation: { uri: receiver.uri, ...own } } },
  })
  return { ...receiver, clientId, [Symbol.asyncDispose]: () => receiver[Symbol.asyncDispose]() }
}

async function logout(
  clientId: string,
  event: Partial<LogoutEventInput> = { sub: 'alice' },
): Promise<LogoutEventStatus> {
  const { id } = await curfew.client.postLogoutEvent({ iss: ISS, clients: [clientId], ...event })
  return curfew.client.getLogoutEvent(id, { wait: 20 })
}

describe('the request', () => {
  test('GTR-01, GTR-03: is a POST of one JSON member with a credential for this endpoint, acknowledged as begun', async () => {
    await using app = await register()
    const { deliveries } = await logout(app.clientId)
    expect(app.received).toMatchObject([
      {
        ...{ method: 'POST', target: '/revoke?tenant=1', contentType: 'application/json', status: 204 },
        body: JSON.stringify({ sub_id: { format: 'iss_sub', iss: ISS, sub: 'alice' } }),
      },
    ])
    expect(deliveries).toMatchObject([
      { channel: 'global_revocation', state: 'acknowledged', level: 'begun', names: 'subject' },
    ])
  })

  test('GTR-03: has a new credential in each attempt, signed for this endpoint only', async () => {
    await using app = await register()
    await logout(app.clientId)
    await logout(app.clientId)
    const claims = app.received.map(({ credential }) =>
      JSON.parse(Buffer.from(credential.split('.')[1] ?? '', 'base64url').toString('utf8')),
    )
    expect(new Set(claims.map(({ jti }) => jti)).size).toBe(2)
    for (const { aud, sub, iss } of claims)
      expect([aud, sub, iss]).toEqual([app.uri.replace(/\?.*/, ''), app.clientId, ISS])
  })

  test('a bearer token is stored sealed, never returned, and kept while the URI of the endpoint stays the same', async () => {
    await using app = await register({ credential: 'bearer', secret: 'hush-1' }, { bearer: 'hush-1' })
    const party = await curfew.client.getRelyingParty(ISSUER, app.clientId)
    expect(JSON.stringify(party)).not.toContain('hush')
    const { rows } = await curfew.db.query<{ text: string }>(
      'select concat(b.*::text, p.*::text) as text from bindings b join relying_parties p on p.id = b.relying_party_id',
    )
    expect(rows.map(({ text }) => text).join()).not.toContain('hush')
    await curfew.client.putRelyingParty(ISSUER, app.clientId, party as never)
    expect((await logout(app.clientId)).deliveries).toMatchObject([{ state: 'acknowledged' }])
    expect(app.received.at(-1)?.credential).toBe('hush-1')
    const moved = await curfew.call('PUT', `/v1/issuers/${ISSUER}/relying-parties/${app.clientId}`, {
      curfew: { channels: { global_revocation: { uri: `${app.uri}&moved=1`, credential: 'bearer' } } },
    })
    expect([moved.status, ((await moved.json()) as Refusal).errors?.[0]?.pointer]).toEqual([
      400,
      '/curfew/channels/global_revocation/secret',
    ])
  })

  test('a secret that the endpoint repeats in its answer is masked, and a removed relying party leaves no secret', async () => {
    await using app = await register(
      { credential: 'bearer', secret: 'hush-2' },
      { bearer: 'hush-2', echo: true },
    )
    app.behave(403)
    const { deliveries } = await logout(app.clientId)
    const { attempts } = await curfew.client.getDelivery(deliveries[0]?.id ?? '')
    expect(attempts).toMatchObject([
      { status: 403, error_description: expect.stringContaining('[credential]') },
    ])
    expect(JSON.stringify(attempts)).not.toContain('hush-2')
    await curfew.client.deleteRelyingParty(ISSUER, app.clientId)
    const { rows } = await curfew.db.query(
      'select 1 from bindings b join relying_parties p on p.id = b.relying_party_id where p.client_id = $1 and b.sealed_secret is not null',
      [app.clientId],
    )
    expect(rows).toEqual([])
  })

  test('the body has the registered member and subject format', async () => {
    await using app = await register({ member: 'subject', subject: 'opaque' }, { member: 'subject' })
    await logout(app.clientId)
    expect(app.received[0]?.body).toBe('{"subject":{"format":"opaque","id":"alice"}}')
    expect(app.received[0]?.status).toBe(204)
  })
})

describe('GTR-05: a subject identified by email', () => {
  const EMAIL = 'alice@example.com'
  const body = JSON.stringify({ sub_id: { format: 'email', email: EMAIL } })

  test('has the email of the logout event, also in a retry', async () => {
    await using app = await register({ subject: 'email' })
    app.behave(503)
    const { id } = await curfew.client.postLogoutEvent({
      ...{ iss: ISS, sub: 'alice', email: EMAIL, clients: [app.clientId] },
    })
    // The first attempt and its two quick retries.
    await eventually(() => expect(app.received).toHaveLength(3))
    app.behave(null)
    await eventually(async () => {
      await curfew.db.query("update deliveries set due_at = now() where state = 'pending'")
      const { deliveries } = await curfew.client.getLogoutEvent(id)
      expect(deliveries).toMatchObject([{ state: 'acknowledged', level: 'begun' }])
    })
    expect(new Set(app.received.map((request) => request.body))).toEqual(new Set([body]))
  })

  test('has the email of a session if the logout event has none', async () => {
    await using app = await register({ subject: 'email' })
    const expires_at = new Date(Date.now() + 3_600_000).toISOString()
    await curfew.client.postSession({
      ...{ iss: ISS, sub: 'alice', sid: 'of-alice', client_id: app.clientId, email: EMAIL, expires_at },
    })
    await eventually(async () => {
      const { items } = await curfew.client.listSessions({ iss: ISS, sub: 'alice' })
      expect(items).toHaveLength(1)
    })
    await logout(app.clientId)
    expect(app.received.map((request) => request.body)).toEqual([body])
  })

  test('has the email of the session that was posted last, also in the logout of one session', async () => {
    await using app = await register({ subject: 'email', widen: true })
    const expires_at = new Date(Date.now() + 3_600_000).toISOString()
    for (const [sid, email] of [
      ['z-old', 'old@example.com'],
      ['a-new', EMAIL],
    ]) {
      const session = { iss: ISS, sub: 'carol', sid: `carol-${sid}`, client_id: app.clientId, expires_at }
      await curfew.client.postSession({ ...session, email } as SessionInput)
    }
    await eventually(async () => {
      const { items } = await curfew.client.listSessions({ iss: ISS, sub: 'carol' })
      expect(items).toHaveLength(2)
    })
    await logout(app.clientId, { sub: 'carol' })
    await logout(app.clientId, { sub: 'carol', sid: 'carol-a-new' })
    expect(app.received.map((request) => request.body)).toEqual([body, body])
  })

  test('keeps its email in a waiting delivery when a later logout without email arrives', async () => {
    await using app = await register({ subject: 'email' })
    app.behave(503)
    const first = await curfew.client.postLogoutEvent({
      ...{ iss: ISS, sub: 'dave', email: EMAIL, clients: [app.clientId] },
    })
    await eventually(() => expect(app.received).toHaveLength(3))
    await curfew.client.postLogoutEvent({ iss: ISS, sub: 'dave', clients: [app.clientId] })
    app.behave(null)
    await eventually(async () => {
      await curfew.db.query("update deliveries set due_at = now() where state = 'pending'")
      const { deliveries } = await curfew.client.getLogoutEvent(first.id)
      expect(deliveries).toMatchObject([{ state: 'acknowledged' }])
    })
  })

  test('without a known email causes a dead letter, and the sub is not used as an email', async () => {
    await using app = await register({ subject: 'email' })
    const { deliveries } = await logout(app.clientId, { sub: 'bob@example.com' })
    expect(deliveries).toMatchObject([{ state: 'dead_lettered', dead_letter_reason: 'email_required' }])
    expect(app.received).toEqual([])
  })
})

describe('a logout of one session', () => {
  test('GTR-04: is sent only if the relying party sets widen', async () => {
    await using narrow = await register()
    await using wide = await register({ widen: true })
    expect((await logout(narrow.clientId, { sub: 'alice', sid: 's1' })).deliveries).toEqual([])
    expect((await logout(wide.clientId, { sub: 'alice', sid: 's1' })).deliveries).toMatchObject([
      { state: 'acknowledged', level: 'begun', names: 'subject' },
    ])
    expect([narrow.received.length, wide.received.length]).toEqual([0, 1])
  })

  test('becomes a dead letter when a session is posted after it that it cannot end', async () => {
    await using app = await register()
    const { id, deliveries } = await logout(app.clientId, { sub: 'lena', sid: 'lena-1' })
    expect(deliveries).toEqual([])
    const session = { iss: ISS, sub: 'lena', sid: 'lena-1', client_id: app.clientId }
    const [started_at, expires_at] = [-60_000, 3_600_000].map((ms) => new Date(Date.now() + ms).toISOString())
    await curfew.client.postSession({ ...session, started_at, expires_at } as SessionInput)
    await eventually(async () => {
      expect((await curfew.client.getLogoutEvent(id)).deliveries).toMatchObject([
        { state: 'dead_lettered', dead_letter_reason: 'widen_required' },
      ])
    })
    expect(await curfew.client.getEventSummary(id)).toMatchObject({ status: 'incomplete' })
    expect(app.received).toEqual([])
  })

  test('that it cannot end is a dead letter, an orphaned session, and incomplete in the summary', async () => {
    await using app = await register()
    const session = { iss: ISS, sub: 'olivia', sid: 'olivia-1', client_id: app.clientId }
    const [started_at, expires_at] = [-60_000, 3_600_000].map((ms) => new Date(Date.now() + ms).toISOString())
    await curfew.client.postSession({ ...session, started_at, expires_at } as SessionInput)
    await eventually(async () => {
      const { items } = await curfew.client.listSessions({ iss: ISS, sub: 'olivia' })
      expect(items).toHaveLength(1)
    })
    const { id, deliveries } = await logout(app.clientId, { sub: 'olivia', sid: 'olivia-1' })
    expect(deliveries).toMatchObject([{ state: 'dead_lettered', dead_letter_reason: 'widen_required' }])
    expect(await curfew.client.getEventSummary(id)).toMatchObject({
      status: 'incomplete',
      applications: [{ client_id: app.clientId, state: 'not_signed_out' }],
    })
    expect(app.received).toEqual([])
    await eventually(async () => {
      const { items } = await curfew.client.listOrphans()
      expect(items).toContainEqual(expect.objectContaining({ sid: 'olivia-1', client_id: app.clientId }))
    })
  })

  test('without a sub is a dead letter even with widen', async () => {
    await using wide = await register({ widen: true })
    const { deliveries } = await logout(wide.clientId, { sid: 'only-a-session' })
    expect(deliveries).toMatchObject([{ state: 'dead_lettered', dead_letter_reason: 'sub_required' }])
    expect(wide.received).toEqual([])
  })
})

describe('the answer', () => {
  test('GTR-02: 404 means an unknown user: acknowledged as begun, with a note', async () => {
    await using app = await register()
    const { deliveries } = await logout(app.clientId, { sub: 'mallory' })
    expect(deliveries).toMatchObject([{ state: 'acknowledged', level: 'begun' }])
    const [delivery] = deliveries
    const { attempts } = await curfew.client.getDelivery(delivery?.id ?? '')
    expect(attempts).toMatchObject([{ status: 404, note: 'unknown_user' }])
  })

  test('GTR-01, GTR-02: the settings of an Auth0 connection name the user in subject, and take 200', async () => {
    const auth0 = { member: 'subject', success: [200] } as const
    await using app = await register(auth0, { member: 'subject', success: 200 })
    const { deliveries } = await logout(app.clientId)
    expect(deliveries).toMatchObject([{ state: 'acknowledged', level: 'begun' }])
    expect(app.received).toMatchObject([
      { status: 200, body: JSON.stringify({ subject: { format: 'iss_sub', iss: ISS, sub: 'alice' } }) },
    ])
  })

  test('GTR-03: each attempt of a delivery has a credential of its own', async () => {
    await using app = await register()
    app.behave(503)
    await curfew.client.postLogoutEvent({ iss: ISS, sub: 'alice', clients: [app.clientId] })
    // The first attempt and its two quick retries.
    await eventually(() => expect(app.received).toHaveLength(3))
    const jtis = app.received.map(({ credential }) => {
      const claims = Buffer.from(credential.split('.')[1] ?? '', 'base64url').toString('utf8')
      return (JSON.parse(claims) as { readonly jti: string }).jti
    })
    expect(new Set(jtis).size).toBe(3)
    expect(new Set(app.received.map(({ body }) => body)).size).toBe(1)
  })

  test('200, as Auth0 sends it, acknowledges if it is registered as success', async () => {
    await using app = await register({ success: [200] }, { success: 200 })
    expect((await logout(app.clientId)).deliveries).toMatchObject([{ state: 'acknowledged', level: 'begun' }])
  })

  test.each([
    [403, 'misconfigured', /right to revoke/],
    [422, 'refused', /cannot log this user out/],
    [410, 'endpoint_gone', /curfew\.channels\.global_revocation\.uri/],
  ] as const)('GTR-02: %i ends in a dead letter whose fix says what to do', async (status, reason, fix) => {
    await using app = await register()
    app.behave(status)
    const { id } = await curfew.client.postLogoutEvent({ iss: ISS, sub: 'alice', clients: [app.clientId] })
    if (status !== 410) {
      // The three further attempts would take ten minutes.
      await eventually(async () => {
        const { rowCount } = await curfew.db.query(
          "update deliveries set refusals = 3, due_at = now() where state = 'pending' and attempts > 0 and event_id in (select id from events where given_id = $1)",
          [id],
        )
        expect(rowCount).toBe(1)
      })
    }
    const { deliveries } = await curfew.client.getLogoutEvent(id, { wait: 20 })
    expect(deliveries).toMatchObject([{ state: 'dead_lettered', dead_letter_reason: reason }])
    const { items } = await curfew.client.listDeadLetters({ client_id: app.clientId })
    expect(items).toMatchObject([{ channel: 'global_revocation', fix: expect.stringMatching(fix) }])
  })
})

describe('beside another channel', () => {
  test('a fallback is used after back-channel logout failed, and the summary counts the application once', async () => {
    await using shop = await openRelyingParty(curfew, { clientId: 'shop' })
    await using revocation = await openRevocationReceiver(curfew, { app: 'shop' })
    await curfew.client.putRelyingParty(ISSUER, 'shop', {
      ...{ backchannel_logout_uri: shop.uri, id_token_signed_response_alg: 'ES256' },
      curfew: { channels: { global_revocation: { uri: revocation.uri, fallback_for: 'backchannel' } } },
    })
    expect((await logout('shop')).deliveries).toMatchObject([
      { channel: 'backchannel', state: 'acknowledged' },
    ])
    expect(revocation.received).toEqual([])
    shop.behave({ status: 410 })
    const { id, deliveries } = await logout('shop')
    expect(deliveries).toMatchObject([
      { channel: 'backchannel', state: 'dead_lettered' },
      { channel: 'global_revocation', state: 'acknowledged', level: 'begun' },
    ])
    expect(await curfew.client.getEventSummary(id)).toMatchObject({
      total: 1,
      applications: [{ client_id: 'shop', level: 'begun' }],
    })
    // The back-channel endpoint is disabled after its 410, so the fallback is owed at once.
    expect((await logout('shop')).deliveries).toContainEqual(
      expect.objectContaining({ channel: 'global_revocation', state: 'acknowledged' }),
    )
  })
})

describe('a registration', () => {
  const put = async (channels: object) => {
    const response = await curfew.call('PUT', `/v1/issuers/${ISSUER}/relying-parties/wrong`, {
      backchannel_logout_uri: 'https://wrong.example/logout',
      curfew: { channels },
    })
    const { errors = [] } = (await response.json()) as Refusal
    return [response.status, ...errors.map(({ pointer }) => pointer)]
  }
  const uri = 'https://wrong.example/revoke'
  test.each([
    [{ global_revocation: {} }, 'uri'],
    [{ global_revocation: { uri: 'http://10.0.0.1/' } }, 'uri'],
    [{ global_revocation: { uri: 'https://wrong.example/logout' } }, 'uri'],
    [{ global_revocation: { uri, credential: 'bearer' } }, 'secret'],
    [{ global_revocation: { uri, secret: 'hush' } }, 'secret'],
    [{ global_revocation: { uri, credential: 'bearer', secret: 'two\r\nlines' } }, 'secret'],
    [{ global_revocation: { uri, credential: 'bearer', secret: 'schlüssel' } }, 'secret'],
    [{ global_revocation: { uri, success: [500] } }, 'success/0'],
    [{ global_revocation: { uri, subject: 'phone' } }, 'subject'],
    [{ global_revocation: { uri, sla: { counts: 'done' } } }, 'sla/counts'],
    [{ global_revocation: { uri, fallback_for: 'global_revocation' } }, 'fallback_for'],
    [{ global_revocation: { uri, loft: 1 } }, 'loft'],
  ])('%j is refused', async (channels, member) => {
    expect(await put(channels)).toEqual([400, `/curfew/channels/global_revocation/${member}`])
  })

  test('with two channels that are fallbacks of each other is refused', async () => {
    const both = {
      backchannel: { fallback_for: 'global_revocation' },
      global_revocation: { uri, fallback_for: 'backchannel' },
    }
    expect((await put(both))[0]).toBe(400)
  })
})

describe('a probe', () => {
  const failedOf = async (clientId: string) => {
    const { report, channel } = await curfew.client.probe(ISSUER, clientId)
    expect(channel).toBe('global_revocation')
    return (report?.checks ?? []).filter(({ result }) => result === 'failed').map(({ id }) => id)
  }

  test('of a strict endpoint finds no fault, and uses no real user', async () => {
    await using app = await register()
    const { report } = await curfew.client.probe(ISSUER, app.clientId)
    expect(report).toMatchObject({ failed: 0, unknown: 0, conformant: true })
    for (const { body } of app.received) expect(body).not.toContain('alice')
  })

  test('of an endpoint with a bearer token sends no forged JWT', async () => {
    await using app = await register({ credential: 'bearer', secret: 'hush' }, { bearer: 'hush' })
    const { report } = await curfew.client.probe(ISSUER, app.clientId)
    expect(report).toMatchObject({ failed: 0, unknown: 0, conformant: true })
    expect(app.received.every(({ credential }) => !credential.includes('.'))).toBe(true)
  })

  test('of an endpoint with a bearer token needs no signing key', async () => {
    await using app = await openRevocationReceiver(curfew, { app: 'bearer', bearer: 'hush' })
    await curfew.client.putIssuer('keyless', { iss: 'https://keyless.example' })
    const own = { uri: app.uri, credential: 'bearer', secret: 'hush', subject: 'opaque' }
    await curfew.client.putRelyingParty('keyless', 'bearer', {
      curfew: { channels: { global_revocation: own } },
    })
    expect((await curfew.client.probe('keyless', 'bearer')).report).toMatchObject({ conformant: true })
    expect(await curfew.client.listKeys('keyless')).toMatchObject({ items: [] })
  })

  test('sends the secret only to the registered endpoint', async () => {
    await using app = await register({ credential: 'bearer', secret: 'hush' }, { bearer: 'hush' })
    await using other = await openRevocationReceiver(curfew, { app: 'other', bearer: 'hush' })
    const unregistered = { uri: other.uri, channel: 'global_revocation' }
    await expect(curfew.client.probe(ISSUER, app.clientId, unregistered)).rejects.toMatchObject({
      problem: { status: 409, title: 'No secret' },
    })
    expect(other.received).toEqual([])
  })

  test('of an address without an endpoint has neither passed nor failed checks', async () => {
    await using app = await register()
    app.behave(404)
    const { report } = await curfew.client.probe(ISSUER, app.clientId)
    expect(report).toMatchObject({ passed: 0, failed: 0 })
  })

  test.each<[RevocationFault, readonly string[]]>([
    ['takes alg none', ['alg_none']],
    [
      'ignores the signature',
      ['signature_broken', 'signature_of_another_key', 'key_confusion', 'issuer_other', 'expired'],
    ],
    ['ignores aud', ['audience_other']],
    ['ignores iss', ['issuer_other']],
    ['ignores exp', ['expired']],
    ['takes any body', ['no_json', 'no_subject']],
    ['takes GET', ['get']],
  ])('of an endpoint that %s fails the checks for it', async (fault, failed) => {
    await using app = await register({}, { fault })
    expect(await failedOf(app.clientId)).toEqual(expect.arrayContaining([...failed]))
  })

  test('of an endpoint that accepts any request has an unknown result', async () => {
    await using app = await register({}, { fault: 'takes any request' })
    expect(await failedOf(app.clientId)).toEqual([])
    const { report } = await curfew.client.probe(ISSUER, app.clientId)
    expect(report?.checks.find(({ id }) => id === 'no_credential')).toMatchObject({ result: 'unknown' })
  })
})
