import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Curfew, eventually, ISS, openCurfew } from '../support/curfew.ts'
import { openRelyingParty, type RelyingParty } from '../support/relying-party.ts'
import { sessionsOf } from '../support/session-rows.ts'

// Goal: the summary that an IdP shows to its user is true, and says what is left to do.
// Method: real relying parties that answer, refuse or cannot be notified. Tests of the domain cover the wording.

let curfew: Curfew
let rps: readonly RelyingParty[]
const HOUR_MS = 3_600_000

beforeAll(async () => {
  curfew = await openCurfew()
  rps = await Promise.all([
    openRelyingParty(curfew, { clientId: 'mail', metadata: { client_name: 'Mail' } }),
    openRelyingParty(curfew, {
      clientId: 'wiki',
      metadata: { client_name: 'Wiki' },
      curfew: { retry_schedule_ms: [HOUR_MS / 2, HOUR_MS] },
    }),
    openRelyingParty(curfew, {
      clientId: 'chat',
      metadata: { backchannel_logout_session_required: true },
    }),
  ])
})
afterAll(async () => {
  await curfew.stop()
  await Promise.all(rps.map((rp) => rp.close()))
})

const post = async (event: Readonly<Record<string, unknown>>) =>
  (await curfew.client.postLogoutEvent({ iss: ISS, sub: randomUUID(), ...event })).id
const wiki = (manner: Parameters<RelyingParty['behave']>[0]) => rps[1]?.behave(manner)

test('a summary with a wait is answered as soon as the user is signed out everywhere', async () => {
  wiki(null)
  const id = await post({ clients: ['mail', 'wiki'] })
  expect(await curfew.client.getEventSummary(id, { wait: 20 })).toEqual({
    event_id: id,
    status: 'complete',
    signed_out: 2,
    total: 2,
    text: 'Signed out of all 2 applications.',
    applications: ['Mail', 'Wiki'].map((name) => ({
      client_id: name.toLowerCase(),
      name,
      state: 'signed_out',
      level: 'done',
      within_s: null,
      by_itself: false,
      not_notified: null,
      text: `Signed out of ${name}.`,
    })),
    initiator: null,
    steps: null,
    links: {
      self: `/v1/logout-events/${id}/summary?issuer=main`,
      event: `/v1/logout-events/${id}?issuer=main`,
    },
  })
})

test('a summary says which applications are retried and where the user has to act', async () => {
  wiki({ status: 503 })
  const id = await post({})
  await expect
    .poll(async () => (await curfew.client.getLogoutEvent(id)).deliveries.map(({ state }) => state), {
      timeout: 20_000,
    })
    .toEqual(['dead_lettered', 'acknowledged', 'pending'])
  const summary = await curfew.client.getEventSummary(id)
  expect(summary).toMatchObject({
    status: 'in_progress',
    signed_out: 1,
    total: 3,
    applications: [
      { name: 'chat', state: 'not_signed_out', within_s: null },
      { name: 'Mail', state: 'signed_out' },
      // Half an hour with jitter.
      { name: 'Wiki', state: 'ending', within_s: expect.toBeOneOf([1_800, 2_700]) },
    ],
  })
  expect(summary.text).toMatch(
    /^Signed out of 1 of 3 applications\. Wiki has not confirmed yet: it is tried again within (30|45) minutes\. Signing out of chat did not work: please sign out there, or close it\.$/,
  )
})

test('the summary of a superseded logout shows the state of the newest logout', async () => {
  wiki({ status: 503 })
  const sub = randomUUID()
  const ids: string[] = []
  for (const state of ['pending', 'pending', 'pending', 'acknowledged']) {
    if (state === 'acknowledged') {
      expect(await curfew.client.getEventSummary(ids[0] ?? '')).toMatchObject({
        status: 'in_progress',
        applications: [{ state: 'ending', within_s: expect.toBeOneOf([1_800, 2_700]) }],
      })
      wiki(null)
      await curfew.db.query('delete from breakers')
    }
    const id = await post({ sub, clients: ['wiki'] })
    await expect
      .poll(async () => (await curfew.client.getLogoutEvent(id, { wait: 1 })).deliveries[0], {
        timeout: 25_000,
      })
      .toMatchObject({ state, attempt_count: expect.toSatisfy((count: number) => count > 0) })
    ids.push(id)
  }
  for (const id of ids)
    expect(await curfew.client.getEventSummary(id)).toMatchObject({
      status: 'complete',
      text: 'Signed out of Wiki.',
    })
})

test('a logout is complete if the index knows no other session of the subject', async () => {
  const sub = randomUUID()
  const session = { iss: ISS, sub, sid: sub, client_id: 'mail', expires_at: new Date(Date.now() + HOUR_MS) }
  await curfew.client.postSession({ ...session, expires_at: session.expires_at.toISOString() })
  await eventually(async () => expect(await sessionsOf(curfew.db, sub)).toHaveLength(1))
  const id = await post({ sub, initiator: 'mail', clients: ['mail'] })
  expect(await curfew.client.getEventSummary(id, { wait: 20 })).toMatchObject({
    status: 'complete',
    total: 0,
    text: 'Mail started the logout and was not notified. There was no other application to sign out of.',
    initiator: { client_id: 'mail', name: 'Mail' },
  })
})

test('a logout of an issuer without relying parties is incomplete', async () => {
  const id = await post({ iss: 'https://unregistered.example' })
  expect(await curfew.client.getEventSummary(id, { wait: 20 })).toMatchObject({
    status: 'incomplete',
    total: 0,
  })
})

test('the summary of an unplanned event is a 404 with Retry-After, and its wait is limited', async () => {
  const unknown = await curfew.call('GET', `/v1/logout-events/${randomUUID()}/summary`)
  expect([unknown.status, unknown.headers.get('retry-after')]).toEqual([404, '1'])
  for (const query of ['wait=31', 'wait=x', 'who=me'])
    expect((await curfew.call('GET', `/v1/logout-events/${randomUUID()}/summary?${query}`)).status).toBe(400)
})

test('a key that may not read events may not read their summary', async () => {
  const id = await post({ clients: ['mail'] })
  const headers = { authorization: `Bearer ${curfew.keyFor('events:write')}` }
  const refused = await curfew.call('GET', `/v1/logout-events/${id}/summary`, undefined, headers)
  expect(refused.status).toBe(403)
})
