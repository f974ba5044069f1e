import type { LogoutEventInput, LogoutEventStatus, SessionInput } from '@curfew/contract'
import { withTransaction } from '@curfew/ledger'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { type Curfew, eventually, ISS, ISSUER, openCurfew, storedId } from '../support/curfew.ts'
import { openRelyingParty, type RelyingParty, type RelyingPartyOptions } from '../support/relying-party.ts'
import { sessionsOf } from '../support/session-rows.ts'

// Goal: a logout that is delivered late, or again, ends exactly the sessions that it applies to. A session whose start arrives
// after its logout is ended too. Without the session index every relying party is notified.
// Method: all of Curfew over HTTP, with relying parties that become unavailable and available again, and record what they receive.

let curfew: Curfew
let person = 0
let sub = ''
beforeAll(async () => {
  curfew = await openCurfew({ bookkeepers: 1 })
})
afterAll(() => curfew.stop())
beforeEach(async () => {
  person += 1
  sub = `person-${person}`
  await curfew.client.putIssuer(ISSUER, { iss: ISS })
})

const open = (clientId: string, options: Omit<RelyingPartyOptions, 'clientId'> = {}) =>
  openRelyingParty(curfew, { clientId: `${clientId}-${person}`, ...options })
/** Posts the start of a session, by default a minute ago. */
async function begin(rp: RelyingParty, sid: string, more: Partial<SessionInput> = {}): Promise<void> {
  const hence = (ms: number) => new Date(Date.now() + ms).toISOString()
  const times = { started_at: hence(-60_000), expires_at: hence(3_600_000) }
  await curfew.client.postSession({
    iss: ISS,
    sub,
    sid: `${sub}-${sid}`,
    client_id: rp.clientId,
    ...times,
    ...more,
  })
}
/** Posts the start of a session, and waits until the session index has it. */
async function start(...[rp, sid, more]: Parameters<typeof begin>): Promise<void> {
  await begin(rp, sid, more)
  const its = { clientId: rp.clientId, sid: `${sub}-${sid}` }
  await eventually(async () =>
    expect(await sessionsOf(curfew.db, sub)).toContainEqual(expect.objectContaining(its)),
  )
}
const post = (more: Partial<LogoutEventInput> = {}) =>
  curfew.client.postLogoutEvent({ iss: ISS, sub, ...more })
const settled = (id: string) => curfew.client.getLogoutEvent(id, { wait: 30 })
/** The sids that a relying party received; `*` for the subject. */
const sidsOf = (rp: RelyingParty) =>
  [...new Set(rp.received.map(({ claims }) => claims.sid?.replace(`${sub}-`, '') ?? '*'))].toSorted()
/** The deliveries of an event, as the API returns them. */
const owedBy = ({ deliveries }: LogoutEventStatus) =>
  deliveries.map(({ client_id, sid, names }) => `${client_id} ${sid?.replace(`${sub}-`, '') ?? '*'} ${names}`)
const unavailable = { status: 503 }

describe('a logout of the subject that is delivered late', () => {
  test('ends the sessions that began before it, and not the one that began while the relying party was unavailable', async () => {
    await using rp = await open('mail', { curfew: { retry_schedule_ms: [1_000, 1_000, 1_000, 1_000] } })
    await start(rp, 'old-1')
    await start(rp, 'old-2')
    rp.behave(unavailable)
    const { id } = await post({ clients: [rp.clientId] })
    // The first attempt, and two quick retries.
    await rp.told(3)
    await start(rp, 'new', { started_at: new Date().toISOString() })
    const before = rp.received.length
    rp.behave(null)
    const event = await settled(id)
    expect(event).toMatchObject({ plan_basis: 'sessions', total: 3, acknowledged: 2 })
    expect(owedBy(event)).toEqual([
      `${rp.clientId} old-1 session`,
      `${rp.clientId} old-2 session`,
      `${rp.clientId} * subject`,
    ])
    expect(event.deliveries.map(({ state }) => state)).toEqual(['acknowledged', 'acknowledged', 'superseded'])
    expect(
      rp.received
        .slice(before)
        .map(({ claims }) => claims.sid)
        .toSorted(),
    ).toEqual([`${sub}-old-1`, `${sub}-old-2`])
    expect(await curfew.client.getEventSummary(id)).toMatchObject({ status: 'complete' })
    await eventually(async () =>
      expect(await sessionsOf(curfew.db, sub)).toMatchObject([{ sid: `${sub}-new`, logoutEventId: null }]),
    )
  })

  test('by a replay of its dead letter does not end a new session; until the replay the old session is an orphan', async () => {
    await using rp = await open('mail', { curfew: { retry_schedule_ms: [] } })
    await start(rp, 'old')
    rp.behave(unavailable)
    const { id } = await post({ clients: [rp.clientId] })
    const { deliveries } = await settled(id)
    expect(deliveries).toMatchObject([{ state: 'dead_lettered' }])
    const old = { sid: `${sub}-old`, logoutEventId: storedId(id) }
    await eventually(async () =>
      expect(await sessionsOf(curfew.db, sub)).toMatchObject([{ ...old, orphaned: true }]),
    )
    await start(rp, 'new', { started_at: new Date().toISOString() })
    const before = rp.received.length
    rp.behave(null)
    const ids = deliveries.map((delivery) => delivery.id)
    expect((await curfew.call('POST', '/v1/dead-letters/replay', { filter: { ids } })).status).toBe(202)
    await eventually(async () => expect(await settled(id)).toMatchObject({ acknowledged: 1 }))
    expect(rp.received.slice(before).map(({ claims }) => claims.sid)).toEqual([`${sub}-old`])
    await eventually(async () =>
      expect(await sessionsOf(curfew.db, sub)).toMatchObject([{ sid: `${sub}-new`, logoutEventId: null }]),
    )
  })

  test('is withheld if the index knows only a session that began later, and the summary is incomplete', async () => {
    await using rp = await open('mail', { curfew: { retry_schedule_ms: [1_000, 1_000, 1_000] } })
    rp.behave(unavailable)
    const { id } = await post({ clients: [rp.clientId] })
    await rp.told(3)
    await start(rp, 'new', { started_at: new Date().toISOString() })
    const before = rp.received.length
    rp.behave(null)
    const event = await settled(id)
    expect(event.deliveries).toMatchObject([
      { state: 'dead_lettered', dead_letter_reason: 'later_session', sid: null },
    ])
    expect(await curfew.client.getEventSummary(id)).toMatchObject({ status: 'incomplete', total: 1 })
    const ids = event.deliveries.map((delivery) => delivery.id)
    expect((await curfew.call('POST', '/v1/dead-letters/replay', { filter: { ids } })).status).toBe(202)
    await eventually(async () =>
      expect((await settled(id)).deliveries).toMatchObject([{ generation: 1, state: 'dead_lettered' }]),
    )
    expect(rp.received.length).toBe(before)
    // A logout that is planned after that session is known, as after an outage, is withheld too.
    const late = { clients: [rp.clientId], occurred_at: new Date(Date.now() - 60_000).toISOString() }
    const again = await settled((await post(late)).id)
    expect(again.deliveries).toMatchObject([{ dead_letter_reason: 'later_session' }])
    expect(rp.received.length).toBe(before)
  })

  test('can be replayed until the end of its session, even if that end is extended later', async () => {
    await curfew.client.putIssuer(ISSUER, { iss: ISS, session_index: 'complete' })
    await using rp = await open('mail', { curfew: { retry_schedule_ms: [] } })
    await start(rp, 'long')
    rp.behave(unavailable)
    const { id } = await post({ clients: [rp.clientId] })
    const { deliveries } = await settled(id)
    const its = deliveries.map((delivery) => delivery.id)
    await eventually(async () => expect(await sessionsOf(curfew.db, sub)).toMatchObject([{ orphaned: true }]))
    // The end of the session that the delivery knew has passed.
    await curfew.db.query('update deliveries set session_ends_at = now() where id = any($1::uuid[])', [its])
    const extended = new Date(Date.now() + 7_200_000)
    await begin(rp, 'long', { expires_at: extended.toISOString() })
    rp.behave(null)
    await eventually(async () =>
      expect(
        (await curfew.db.query('select session_ends_at from deliveries where id = any($1::uuid[])', [its]))
          .rows,
      ).toEqual([{ session_ends_at: extended }]),
    )
    const body = { filter: { client_id: rp.clientId } }
    expect((await curfew.call('POST', '/v1/dead-letters/replay', body)).status).toBe(202)
    await eventually(async () => expect(await sessionsOf(curfew.db, sub)).toEqual([]))
  })

  test('names the subject if the relying party takes only the subject', async () => {
    await using rp = await open('mail', { curfew: { subject_claims: 'sub' } })
    await start(rp, 's1')
    const event = await settled((await post({ clients: [rp.clientId] })).id)
    expect(owedBy(event)).toEqual([`${rp.clientId} * subject`])
    expect(rp.received[0]?.claims).toMatchObject({ sub })
    expect(sidsOf(rp)).toEqual(['*'])
    // A logout of one session does too: its token names the user.
    const one = await settled((await post({ sid: `${sub}-s2`, clients: [rp.clientId] })).id)
    expect(owedBy(one)).toEqual([`${rp.clientId} s2 subject`])
  })
})

describe('an IdP whose clock is 20 seconds ahead', () => {
  const idpTime = () => new Date(Date.now() + 20_000).toISOString()

  test.each(['partial', 'complete'] as const)(
    'ends a login with the logout that follows it, with the session index %s',
    async (use) => {
      await curfew.client.putIssuer(ISSUER, { iss: ISS, session_index: use })
      await using rp = await open('mail')
      await start(rp, 's1', { started_at: idpTime() })
      await settled((await post({ clients: [rp.clientId] })).id)
      expect(sidsOf(rp)).toEqual([use === 'partial' ? '*' : 's1'])
      await eventually(async () => expect(await sessionsOf(curfew.db, sub)).toEqual([]))
    },
  )

  test('keeps a login after the logout, when the logout is planned and when it is replayed', async () => {
    await curfew.client.putIssuer(ISSUER, { iss: ISS, session_index: 'complete' })
    await using rp = await open('mail', { curfew: { retry_schedule_ms: [] } })
    await start(rp, 'old', { started_at: idpTime() })
    rp.behave(unavailable)
    const { deliveries } = await settled((await post({ clients: [rp.clientId] })).id)
    await start(rp, 'new', { started_at: idpTime() })
    rp.behave(null)
    const ids = deliveries.map((delivery) => delivery.id)
    expect((await curfew.call('POST', '/v1/dead-letters/replay', { filter: { ids } })).status).toBe(202)
    await eventually(async () =>
      expect(await sessionsOf(curfew.db, sub)).toMatchObject([{ sid: `${sub}-new`, logoutEventId: null }]),
    )
    expect(sidsOf(rp)).toEqual(['old'])
  })
})

describe('a logout of a subject with sessions', () => {
  let held: RelyingParty
  let other: RelyingParty
  beforeEach(async () => {
    ;[held, other] = await Promise.all([open('held'), open('other')])
    await start(held, 's1', { device: 'phone' })
    await start(held, 's2', { device: 'laptop' })
    return () => Promise.all([held.close(), other.close()])
  })
  const both = () => ({ clients: [held.clientId, other.clientId] })
  const use = (session_index: 'off' | 'partial' | 'complete') =>
    curfew.client.putIssuer(ISSUER, { iss: ISS, session_index })

  test.each([
    ['off', 'registered', ['held * subject', 'other * subject']],
    ['partial', 'sessions', ['held * subject', 'other * subject']],
    ['complete', 'sessions', ['held s1 session', 'held s2 session']],
  ] as const)(
    'reaches the relying parties that the session index setting %s implies',
    async (setting, basis, owed) => {
      expect((await use(setting)).session_index).toBe(setting)
      const event = await settled((await post(both())).id)
      expect(event.plan_basis).toBe(basis)
      expect(owedBy(event)).toEqual(owed.map((entry) => entry.replace(' ', `-${person} `)))
    },
  )

  test('reaches the relying parties with sessions of the device that it names', async () => {
    await use('complete')
    const event = await settled((await post({ ...both(), scope: 'device', device: 'phone' })).id)
    expect(event).toMatchObject({ scope: 'device', device: 'phone', acknowledged: 1 })
    expect([sidsOf(held), sidsOf(other)]).toEqual([['s1'], []])
  })

  test('reaches every relying party while the index does not answer, and its plan basis is index_unavailable', async () => {
    await use('complete')
    const { promise: freed, resolve: free } = Promise.withResolvers<void>()
    const { promise: locked, resolve: lock } = Promise.withResolvers<void>()
    const locking = withTransaction(curfew.db, async (transaction) => {
      await transaction.query('lock table sessions in access exclusive mode')
      lock()
      await freed
    })
    await locked
    try {
      const event = await settled((await post(both())).id)
      expect(event).toMatchObject({ plan_basis: 'index_unavailable', total: 2, acknowledged: 2 })
      expect([sidsOf(held), sidsOf(other)]).toEqual([['*'], ['*']])
      // The database cancels the query that timed out.
      const { rows } = await curfew.db.query(
        "select from pg_stat_activity where wait_event_type = 'Lock' and query like '%from sessions f%'",
      )
      expect(rows).toEqual([])
    } finally {
      free()
      await locking
    }
    expect(curfew.lines.some((line) => line.includes('session-index.unavailable'))).toBe(true)
    // When the index is available again, both sessions are ended in it.
    await eventually(async () => expect(await sessionsOf(curfew.db, sub)).toEqual([]))
  })

  test('reaches every relying party if the index cannot be read at all', async () => {
    await curfew.db.query('alter table sessions rename to sessions_hidden')
    try {
      const event = await settled((await post(both())).id)
      expect(event).toMatchObject({ plan_basis: 'index_unavailable', total: 2, acknowledged: 2 })
    } finally {
      await curfew.db.query('alter table sessions_hidden rename to sessions')
    }
  })

  test('planned without the index reaches a relying party that requires a sid when the index is available again', async () => {
    await using strict = await open('strict', { metadata: { backchannel_logout_session_required: true } })
    await start(strict, 's3')
    await curfew.db.query('alter table sessions rename to sessions_hidden')
    try {
      const { deliveries } = await settled((await post({ clients: [strict.clientId] })).id)
      expect(deliveries).toMatchObject([{ state: 'dead_lettered', dead_letter_reason: 'sid_required' }])
    } finally {
      await curfew.db.query('alter table sessions_hidden rename to sessions')
    }
    await strict.told(1)
    expect(sidsOf(strict)).toEqual(['s3'])
  })
})

describe('a session that is posted after its logout', () => {
  test('is ended at every endpoint of its relying party, and the totals of its logout include it', async () => {
    await curfew.client.putIssuer(ISSUER, { iss: ISS, session_index: 'complete' })
    await using first = await open('first')
    await using second = await open('second', { target: '/second' })
    await curfew.client.putRelyingParty(ISSUER, second.clientId, {
      backchannel_logout_uri: second.uri,
      id_token_signed_response_alg: 'ES256',
      curfew: { endpoints: [{ name: 'eu', uri: `${second.uri}/eu` }] },
    })
    await start(first, 's1')
    const { id } = await post({ clients: [first.clientId, second.clientId] })
    expect(await settled(id)).toMatchObject({ total: 1, acknowledged: 1 })
    await begin(second, 's2', { started_at: new Date(Date.now() - 5_000).toISOString() })
    await second.told(2)
    const event = await settled(id)
    expect(event).toMatchObject({ total: 3, acknowledged: 3 })
    expect(second.received.map(({ target, claims }) => [target, claims.sid]).toSorted()).toEqual([
      ['/second', `${sub}-s2`],
      ['/second/eu', `${sub}-s2`],
    ])
    await eventually(async () => expect(await sessionsOf(curfew.db, sub)).toEqual([]))
  })

  test('is ended at a relying party that requires a sid, even if the logout knew none', async () => {
    const metadata = { backchannel_logout_session_required: true }
    await using rp = await open('mail', { metadata })
    const { id } = await post({ clients: [rp.clientId] })
    const { deliveries } = await settled(id)
    expect(deliveries).toMatchObject([{ state: 'dead_lettered', dead_letter_reason: 'sid_required' }])
    await begin(rp, 's1')
    await rp.told(1)
    expect(sidsOf(rp)).toEqual(['s1'])
    await eventually(async () => expect(await sessionsOf(curfew.db, sub)).toEqual([]))
    expect(await settled(id)).toMatchObject({ total: 2, acknowledged: 1 })
  })

  test('is ended even if it races with its logout', async () => {
    await curfew.client.putIssuer(ISSUER, { iss: ISS, session_index: 'complete' })
    await using rp = await open('mail')
    await start(rp, 'first')
    const began = { started_at: new Date(Date.now() - 1_000).toISOString() }
    const sids = Array.from({ length: 20 }, (_, n) => `race-${n}`)
    const [{ id }] = await Promise.all([
      post({ clients: [rp.clientId] }),
      ...sids.map((sid) => begin(rp, sid, began)),
    ])
    await eventually(() => expect(sidsOf(rp)).toEqual([...sids, 'first'].toSorted()))
    await eventually(async () => expect(await sessionsOf(curfew.db, sub)).toEqual([]))
    expect(await settled(id)).toMatchObject({ total: 21, acknowledged: 21 })
  })
})
