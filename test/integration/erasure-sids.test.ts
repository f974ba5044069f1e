import { afterEach, beforeEach, expect, test } from 'vitest'
import { type Curfew, eventually, ISS, ISSUER, openCurfew, storedId } from '../support/curfew.ts'
import { openRelyingParty, type RelyingParty } from '../support/relying-party.ts'

// Goal: erasing a subject also erases logouts that named only the `sid` of a session, long after that session left the index.
// Method: real services, and SQL to see which subjects and sids remain.

const HOUR_MS = 3_600_000
let curfew: Curfew
let rp: RelyingParty
let now: Date | null

beforeEach(async () => {
  now = null
  curfew = await openCurfew({ bookkeepers: 1, now: () => now ?? new Date() })
  rp = await openRelyingParty(curfew, { clientId: 'mail' })
})
afterEach(async () => {
  await curfew.stop()
  await rp.close()
})

const sessions = async () => (await curfew.db.query('select from sessions')).rows.length
const named = async () =>
  (
    await curfew.db.query(
      `select e.sid, e.session_sub, d.sid as delivered, r.payload is null as erased
         from events e join deliveries d on d.event_id = e.id join receipts r on r.event_id = e.id order by e.id`,
    )
  ).rows

/** Starts a session and logs it out by its sid alone, which takes it out of the index. @returns the event's id. */
async function loggedOut(sub: string, sid: string): Promise<string> {
  await curfew.client.postSession({
    ...{ iss: ISS, sub, sid, client_id: 'mail' },
    started_at: new Date().toISOString(),
    expires_at: new Date(Date.now() + 8 * HOUR_MS).toISOString(),
  })
  await eventually(async () => expect(await sessions()).toBe(1))
  const { id } = await curfew.client.postLogoutEvent({ iss: ISS, sid })
  await eventually(() => curfew.client.getReceipt(id))
  await eventually(async () => expect(await sessions()).toBe(0))
  return id
}

test('erasing a subject keeps another subject’s logout of the same sid', async () => {
  await loggedOut('bob', 'sid-of-a-browser')
  await loggedOut('alice', 'sid-of-a-browser')
  now = new Date(Date.now() + 2 * HOUR_MS)
  expect(await curfew.client.eraseSubject(ISSUER, 'alice')).toMatchObject({ erased: { events: 1 } })
  expect((await named()).map(({ session_sub }) => session_sub)).toEqual(['bob', null])
})

test('a logout that names only a sid is erased with its subject, and logouts of other subjects stay', async () => {
  const own = await loggedOut('alice', 'sid-of-alice')
  await loggedOut('bob', 'sid-of-bob')
  now = new Date(Date.now() + 2 * HOUR_MS)
  const erasure = await curfew.client.eraseSubject(ISSUER, 'alice')
  expect(erasure).toMatchObject({ status: 'completed', erased: { events: 1, deliveries: 1, receipts: 1 } })
  expect(await named()).toEqual([
    { sid: null, session_sub: null, delivered: null, erased: true },
    { sid: 'sid-of-bob', session_sub: 'bob', delivered: 'sid-of-bob', erased: false },
  ])
  expect(await curfew.client.getLogoutEvent(own)).toMatchObject({ sid: null, erased_at: expect.any(String) })
})

test('a logout by sid is erased even if it went to a client where the subject has no known session', async () => {
  await using wiki = await openRelyingParty(curfew, { clientId: 'wiki' })
  const session = { iss: ISS, sid: 'sid-of-alice', client_id: 'mail' }
  await curfew.client.postSession({
    ...{ ...session, sub: 'alice', started_at: new Date().toISOString() },
    expires_at: new Date(Date.now() + 8 * HOUR_MS).toISOString(),
  })
  await eventually(async () => expect(await sessions()).toBe(1))
  const { id } = await curfew.client.postLogoutEvent({ iss: ISS, sid: session.sid, clients: [wiki.clientId] })
  await eventually(() => curfew.client.getReceipt(id))
  await curfew.client.endSession(session)
  await eventually(async () => expect(await sessions()).toBe(0))
  now = new Date(Date.now() + 2 * HOUR_MS)
  expect(await curfew.client.eraseSubject(ISSUER, 'alice')).toMatchObject({
    erased: { events: 1, receipts: 1 },
  })
})

test('a receipt of a logout by sid is erased even if it outlives the event', async () => {
  const id = await loggedOut('alice', 'sid-of-alice')
  await curfew.db.query('delete from events where id = $1', [storedId(id)])
  expect(await curfew.client.eraseSubject(ISSUER, 'alice')).toMatchObject({ erased: { receipts: 1 } })
})

test('erasing a subject empties only its own receipt when two receipts share an event id', async () => {
  const receipted = async (sub: string) => {
    const { id } = await curfew.client.postLogoutEvent({ iss: ISS, sub })
    await eventually(() => curfew.client.getReceipt(id))
    return id
  }
  const [hers, his] = [await receipted('alice'), await receipted('bob')]
  // Simulates an old event whose id is posted again: her event is gone, and her receipt has the id of his.
  await curfew.db.query('delete from events where id = $1', [storedId(hers)])
  await curfew.db.query('update receipts set event_id = $2 where event_id = $1', [
    storedId(hers),
    storedId(his),
  ])
  const erased = async () => {
    const { rows } = await curfew.db.query<{ erased: boolean }>(
      'select payload is null as erased from receipts where event_id = $1 order by log_index',
      [storedId(his)],
    )
    return rows.map((row) => row.erased)
  }
  now = new Date(Date.now() + 2 * HOUR_MS)
  await curfew.client.eraseSubject(ISSUER, 'alice')
  expect(await erased()).toEqual([true, false])
  await curfew.client.eraseSubject(ISSUER, 'bob')
  expect(await erased()).toEqual([true, true])
})
