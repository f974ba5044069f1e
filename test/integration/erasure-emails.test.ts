import { afterEach, beforeEach, expect, test } from 'vitest'
import { type Curfew, eventually, ISS, ISSUER, openCurfew, storedId } from '../support/curfew.ts'
import { openRelyingParty, type RelyingParty } from '../support/relying-party.ts'

// Goal: erasing a subject also erases a logout that names only an email address and a session that the index never held.
// Method: real services with a bookkeeper, and SQL to see which addresses remain.

const HOUR_MS = 3_600_000
const DAY_MS = 24 * HOUR_MS
const ALICE = 'alice@mail.example'
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

/** Posts a logout and waits until it is settled and projected. @returns its id. */
async function loggedOut(event: { sub?: string; sid?: string; email?: string }): Promise<string> {
  const { id } = await curfew.client.postLogoutEvent({ iss: ISS, ...event } as never)
  await eventually(() => curfew.client.getReceipt(id))
  await eventually(async () => expect((await curfew.db.query('select from journal')).rows).toEqual([]))
  return id
}
async function emails(): Promise<readonly string[]> {
  const { rows } = await curfew.db.query<{ email: string }>(
    'select email from events where email is not null order by 1',
  )
  return rows.map(({ email }) => email)
}
async function remembered() {
  return (await curfew.db.query('select emails from erasures')).rows
}
/** Lets the bookkeeper search again, and waits until it has, and until the erasure covers `events` events. */
async function lookAgain(id: string, events: number) {
  await curfew.db.query('update erasures set next_look_at = now() where closed_at is null')
  const due = 'select from erasures where closed_at is null and next_look_at <= now()'
  await eventually(async () => {
    expect((await curfew.db.query(due)).rows).toEqual([])
    expect(await curfew.client.getErasure(id)).toMatchObject({ status: 'completed', erased: { events } })
  })
}

test('an erasure finds a logout by the email address of a session, whatever its case', async () => {
  await curfew.client.postSession({
    ...{ iss: ISS, sub: 'alice', sid: 'known', client_id: 'mail', email: ALICE },
    started_at: new Date().toISOString(),
    expires_at: new Date(Date.now() + HOUR_MS).toISOString(),
  })
  await eventually(async () => expect((await curfew.db.query('select from sessions')).rows).toHaveLength(1))
  const own = await loggedOut({ sid: 'of-yesterday', email: 'Alice@Mail.example' })
  const other = await loggedOut({ sid: 'of-bob', email: 'bob@mail.example' })
  now = new Date(Date.now() + 2 * HOUR_MS)
  expect(await curfew.client.eraseSubject(ISSUER, 'alice')).toMatchObject({
    ...{ status: 'completed', erased: { events: 1, receipts: 1, sessions: 1 } },
  })
  expect(await curfew.client.getLogoutEvent(own)).toMatchObject({
    sid: null,
    erased_at: expect.any(String),
  })
  expect(await curfew.client.getLogoutEvent(other)).toMatchObject({ sid: 'of-bob', erased_at: null })
  expect(await emails()).toEqual(['bob@mail.example'])
})

test('an erasure keeps the address of an erased event for late logouts until the request closes', async () => {
  await loggedOut({ sub: 'alice', email: ALICE })
  const { id } = await curfew.client.eraseSubject(ISSUER, 'alice')
  await lookAgain(id, 1)
  expect(await remembered()).toEqual([{ emails: [ALICE] }])
  const late = await loggedOut({ sid: 'late', email: ALICE })
  // Logouts that are known to be of another subject stay.
  await loggedOut({ sub: 'bob', email: ALICE })
  const held = await loggedOut({ sid: 'of-bob', email: ALICE })
  await curfew.db.query("update events set session_sub = 'bob' where id = $1", [storedId(held)])
  await lookAgain(id, 2)
  expect(await curfew.client.getLogoutEvent(late)).toMatchObject({ sid: null })
  expect(await emails()).toEqual([ALICE, ALICE])

  now = new Date(Date.now() + DAY_MS + HOUR_MS)
  await curfew.db.query('update erasures set next_look_at = now() where closed_at is null')
  await eventually(async () =>
    expect((await curfew.client.getErasure(id)).closed_at).toEqual(expect.any(String)),
  )
  expect(await remembered()).toEqual([{ emails: [] }])
})

test('a request may name an email address, and a repeated request may name another', async () => {
  await loggedOut({ sid: 'first', email: ALICE })
  await loggedOut({ sid: 'second', email: 'alice@work.example' })
  const nothing = await curfew.client.eraseSubject(ISSUER, 'alice')
  expect(nothing).toMatchObject({ erased: { events: 0 } })
  const named = await curfew.client.eraseSubject(ISSUER, 'alice', { email: ALICE.toUpperCase() })
  expect(named).toMatchObject({ id: nothing.id, status: 'completed', erased: { events: 1, receipts: 1 } })
  const again = await curfew.client.eraseSubject(ISSUER, 'alice', { email: 'alice@work.example' })
  expect(again).toMatchObject({ id: nothing.id, erased: { events: 2, receipts: 2 } })
  expect(await emails()).toEqual([])
  const { rows: audit } = await curfew.db.query("select from audit where detail::text like '%alice%'")
  expect(audit).toEqual([])
  expect(curfew.lines.join('')).not.toMatch(/alice/i)
  expect((await curfew.call('DELETE', `/v1/subjects/${ISSUER}/alice?email=not-an-address`)).status).toBe(400)
})
