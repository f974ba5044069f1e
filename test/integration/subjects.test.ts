import type { LogoutEventInput } from '@curfew/contract'
import type { Session } from '@curfew/domain'
import { oweLateLogouts } from '@curfew/ledger'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { type Curfew, eventually, ISS, ISSUER, openCurfew } from '../support/curfew.ts'
import { openRelyingParty, type RelyingParty, type RelyingPartyOptions } from '../support/relying-party.ts'
import { insertSessions, sessionsOf } from '../support/session-rows.ts'

// Goal: a logout token names the user by the `sub` that its client knows, and never by that of another client.
// Method: all of Curfew over HTTP, with relying parties that record the claims of their tokens.

const HOUR_MS = 3_600_000
let curfew: Curfew
let person = 0
let sub = ''
let sid = ''
let now: Date | null = null
beforeAll(async () => {
  curfew = await openCurfew({ bookkeepers: 1, now: () => now ?? new Date() })
})
afterAll(() => curfew.stop())
beforeEach(async () => {
  person += 1
  ;[sub, sid] = [`person-${person}`, `browser-${person}`]
  now = null
  await curfew.client.putIssuer(ISSUER, { iss: ISS })
})

const open = (clientId: string, options: Omit<RelyingPartyOptions, 'clientId'> = {}) =>
  openRelyingParty(curfew, { clientId: `${clientId}-${person}`, ...options })
const PAIRWISE = { metadata: { subject_type: 'pairwise' } }
const SUB_ONLY = { curfew: { subject_claims: 'sub' } } as const
/** Posts a session that began a minute ago, and waits until the session index has it. */
async function start(rp: RelyingParty, own: string, of = sid): Promise<void> {
  await begin(rp, own, of)
  const known = { clientId: rp.clientId, sid: of }
  await eventually(async () =>
    expect(await sessionsOf(curfew.db, own)).toContainEqual(expect.objectContaining(known)),
  )
}
async function begin(rp: RelyingParty, own: string, of = sid): Promise<void> {
  const hence = (ms: number) => new Date(Date.now() + ms).toISOString()
  const times = { started_at: hence(-60_000), expires_at: hence(HOUR_MS) }
  await curfew.client.postSession({ iss: ISS, sub: own, sid: of, client_id: rp.clientId, ...times })
}
/** Posts a logout to some clients, and waits until it is settled. */
async function logout(event: Partial<LogoutEventInput>, ...rps: readonly RelyingParty[]) {
  const clients = rps.map(({ clientId }) => clientId)
  const { id } = await curfew.client.postLogoutEvent({ iss: ISS, ...event, clients })
  return curfew.client.getLogoutEvent(id, { wait: 30 })
}
/** The names in the tokens that a relying party received. */
const namesAt = ({ received }: RelyingParty) => received.map(({ claims }) => [claims.sub, claims.sid])

test('an event that names only a sid reaches a relying party that takes the sub only', async () => {
  await using rp = await open('mail', SUB_ONLY)
  await start(rp, sub)
  const event = await logout({ sid }, rp)
  expect(namesAt(rp)).toEqual([[sub, undefined]])
  expect(event).toMatchObject({ sub: null, deliveries: [{ state: 'acknowledged', sub, names: 'subject' }] })
  const { receipt } = await eventually(() => curfew.client.getReceipt(event.id))
  const claims = JSON.parse(Buffer.from(receipt.split('.')[1] ?? '', 'base64url').toString())
  expect(claims.targets).toMatchObject([{ client_id: rp.clientId, sid, sub, state: 'acknowledged' }])
})

test('a sub that becomes known late puts the dead letter back', async () => {
  await using rp = await open('mail', SUB_ONLY)
  const event = await logout({ sid }, rp)
  expect(event.deliveries).toMatchObject([{ state: 'dead_lettered', dead_letter_reason: 'sub_required' }])
  expect(rp.received).toEqual([])
  await begin(rp, sub)
  await rp.told(1)
  expect(namesAt(rp)).toEqual([[sub, undefined]])
  const again = await eventually(async () => {
    const found = await curfew.client.getLogoutEvent(event.id)
    expect(found.acknowledged).toBe(1)
    return found
  })
  expect(again.deliveries.map(({ id }) => id)).toEqual(event.deliveries.map(({ id }) => id))
  await eventually(async () => expect(await sessionsOf(curfew.db, sub)).toEqual([]))
})

test('each pairwise client gets its own sub, or the sid alone, in a logout of the subject', async () => {
  await using mail = await open('mail')
  await using bank = await open('bank', PAIRWISE)
  await using game = await open('game', PAIRWISE)
  await start(mail, sub)
  await start(bank, `${sub}@bank`)
  const event = await logout({ sub, sid, scope: 'subject' }, mail, bank, game)
  expect(event).toMatchObject({ plan_basis: 'sessions', acknowledged: 3 })
  expect(namesAt(mail)).toEqual([[sub, undefined]])
  expect(namesAt(bank)).toEqual([[`${sub}@bank`, undefined]])
  expect(namesAt(game)).toEqual([[undefined, sid]])
  const shown = event.deliveries.map((delivery) => [delivery.client_id, delivery.sub])
  expect(Object.fromEntries(shown)).toEqual({
    [bank.clientId]: `${sub}@bank`,
    [game.clientId]: null,
    [mail.clientId]: null,
  })
})

test('the pairwise sub of one client reaches no other client, and its logout ends the sessions of all', async () => {
  await using mail = await open('mail')
  await using bank = await open('bank', PAIRWISE)
  await start(mail, sub)
  await start(bank, `${sub}@bank`)
  await logout({ sub: `${sub}@bank`, scope: 'subject' }, mail, bank)
  expect(namesAt(mail)).toEqual([[sub, undefined]])
  expect(namesAt(bank)).toEqual([[`${sub}@bank`, undefined]])
})

test('an issuer makes all clients pairwise, except those that say public', async () => {
  await curfew.client.putIssuer(ISSUER, { iss: ISS, subject_type: 'pairwise' })
  await using mail = await open('mail', { metadata: { subject_type: 'public' } })
  await using bank = await open('bank')
  await logout({ sub, sid, scope: 'session' }, mail, bank)
  expect(namesAt(mail)).toEqual([[sub, sid]])
  expect(namesAt(bank)).toEqual([[undefined, sid]])
  expect(await curfew.client.getIssuer(ISSUER)).toMatchObject({ subject_type: 'pairwise' })
})

test('a logout that names no sub leaves a waiting one that does', async () => {
  await using bank = await open('bank', PAIRWISE)
  const own = `${sub}@bank`
  bank.behave({ status: 503 })
  const clients = [bank.clientId]
  const first = await curfew.client.postLogoutEvent({ iss: ISS, sub: own, clients })
  await bank.told(1)
  const stateOf = async (id: string) => (await curfew.client.getLogoutEvent(id)).deliveries[0]?.state
  await eventually(async () => expect(await stateOf(first.id)).toBe('pending'))
  // The second event is about another client, too, so the pairwise client is not sent its sub.
  const second = await curfew.client.postLogoutEvent({ iss: ISS, sub: own, clients: [...clients, 'another'] })
  await eventually(async () => expect(await stateOf(second.id)).toBe('dead_lettered'))
  expect(await stateOf(first.id)).toBe('pending')
})

test('an issuer logout notifies each client of a user with several names once', async () => {
  await using mail = await open('mail')
  await using bank = await open('bank', PAIRWISE)
  await using game = await open('game', PAIRWISE)
  const rps = [mail, bank, game]
  const names = [sub, `${sub}@bank`, `${sub}@game`]
  for (const [index, rp] of rps.entries()) await start(rp, names[index] ?? '')
  const clients = rps.map(({ clientId }) => clientId)
  const { id } = await curfew.client.postLogoutEvent({ iss: ISS, scope: 'issuer', clients })
  await curfew.client.getLogoutEvent(id, { wait: 30 })
  for (const name of names)
    await eventually(async () => expect(await sessionsOf(curfew.db, name)).toEqual([]))
  const parts = await eventually(async () => {
    const { rows } = await curfew.db.query<{ sub: string; named: string; state: string }>(
      `select e.sub, coalesce(d.sub, e.sub) as named, d.state from events e join deliveries d on d.event_id = e.id
        where e.parent_id is not null and e.sub = any($1) order by 1, 2`,
      [names],
    )
    expect(rows.every(({ state }) => state === 'acknowledged')).toBe(true)
    return rows
  })
  expect(parts.map(({ sub: of, named }) => [of, named])).toEqual(names.map((name) => [name, name]))
  expect(rps.map(namesAt)).toEqual(names.map((name) => [[name, undefined]]))
})

test('one sid for thousands of users does not stop the sessions of others', async () => {
  await curfew.client.putIssuer(ISSUER, { iss: ISS, subject_type: 'pairwise' })
  const users = Array.from({ length: 1_500 }, (_, n) => ({ sub: `${sub}-${n}`, sid, clientId: 'mail' }))
  await insertSessions(curfew.db, ISS, users)
  await oweLateLogouts(
    curfew.db,
    users.slice(0, 50).map((user) => ({ ...user, iss: ISS }) as unknown as Session),
  )
})

test('an erasure of a pairwise sub erases the logouts that named it', async () => {
  await using mail = await open('mail')
  await using bank = await open('bank', PAIRWISE)
  const own = `${sub}@bank`
  await start(mail, sub)
  await start(bank, own)
  const event = await logout({ sub, scope: 'subject' }, mail, bank)
  await eventually(() => curfew.client.getReceipt(event.id))
  await eventually(async () => expect(await sessionsOf(curfew.db, own)).toEqual([]))
  now = new Date(Date.now() + 2 * HOUR_MS)
  await eventually(async () => {
    const erasure = await curfew.client.eraseSubject(ISSUER, own)
    expect(erasure).toMatchObject({ erased: { events: 1, deliveries: 2 } })
  })
  const { rows } = await curfew.db.query('select sub from deliveries where sub = $1', [own])
  expect(rows).toEqual([])
})

test('a subject_type that the standard does not have is refused', async () => {
  const body = { backchannel_logout_uri: 'https://rp.example/logout', subject_type: 'private' }
  await expect(curfew.client.putRelyingParty(ISSUER, 'odd', body)).rejects.toMatchObject({
    problem: { status: 400, errors: [{ pointer: '/subject_type', detail: 'must be public or pairwise' }] },
  })
})
