import { randomUUID } from 'node:crypto'
import { expect, test } from 'vitest'
import { type Curfew, eventually, ISS, ISSUER, openCurfew } from '../support/curfew.ts'
import { openRelyingParty } from '../support/relying-party.ts'

// Goal: an unavailable relying party costs the others nothing, and gets all its deliveries when it is available again.
// Method: real relying parties that become unavailable and available again, and real workers.

const OTHER_ISS = 'https://other.example'
const logouts = (count: number, clients: readonly string[], lane?: 'bulk') =>
  Array.from({ length: count }, () => ({
    iss: ISS,
    sub: randomUUID(),
    clients: [...clients],
    ...(lane !== undefined && { lane }),
  }))

async function states(curfew: Curfew, clientId: string): Promise<Record<string, number>> {
  const { rows } = await curfew.db.query<{ state: string; count: number }>(
    `select d.state, count(*) as count
       from deliveries d join bindings b on b.id = d.binding_id join relying_parties p on p.id = b.relying_party_id
      where p.client_id = $1 group by 1 order by 1`,
    [clientId],
  )
  return Object.fromEntries(rows.map(({ state, count }) => [state, count]))
}
/** Starts workers, and waits until every worker knows how many they are. */
async function startWorkers(curfew: Curfew, count: number): Promise<void> {
  await Promise.all(Array.from({ length: count }, () => curfew.startWorker({ leaseMs: 1_000 })))
  await eventually(async () => {
    const { rows } = await curfew.db.query(
      'select count(*) as knowing from workers where seen_at > (select max(started_at) from workers)',
    )
    expect(rows).toEqual([{ knowing: count }])
  })
}

test('an unavailable relying party gets few attempts, and all its deliveries when it is available again', async () => {
  await using curfew = await openCurfew()
  await using sick = await openRelyingParty(curfew, {
    clientId: 'sick',
    curfew: { retry_schedule_ms: Array.from({ length: 32 }, () => 60_000) },
  })
  await using well = await openRelyingParty(curfew, { clientId: 'well' })
  await sick.goDown()
  await curfew.client.postLogoutEvents(logouts(200, ['sick', 'well']))
  await well.told(200)
  await eventually(async () => {
    const { rows } = await curfew.db.query<{ untried: number }>(
      "select count(*) as untried from deliveries where state = 'pending' and attempts = 0",
    )
    expect(rows[0]?.untried).toBeGreaterThan(150)
  })
  // The deliveries with an attempt wait a minute; the breaker's probe releases the others.
  await sick.comeUp()
  await sick.told(150)
  await eventually(async () =>
    expect((await states(curfew, 'sick')).acknowledged).toBeGreaterThanOrEqual(150),
  )
  expect(await states(curfew, 'well')).toEqual({ acknowledged: 200 })
}, 30_000)

test('a user who logs out four times while a relying party is busy is logged out there once', async () => {
  await using curfew = await openCurfew()
  await using rp = await openRelyingParty(curfew, { clientId: 'rp' })
  // Retry-After prevents the quick retries.
  rp.behave({ status: 503, headers: { 'retry-after': '2' } })
  const ids: string[] = []
  for (let click = 1; click <= 4; click++) {
    ids.push((await curfew.client.postLogoutEvent({ iss: ISS, sub: 'alice' })).id)
    await rp.told(click)
    await eventually(async () => expect((await states(curfew, 'rp')).pending).toBe(1))
  }
  rp.behave(null)
  await eventually(async () => expect(await states(curfew, 'rp')).toEqual({ acknowledged: 1, superseded: 3 }))
  expect(rp.received).toHaveLength(5)
  const [first = '', , , last = ''] = ids
  const newest = await curfew.client.getLogoutEvent(last)
  expect(newest).toMatchObject({ acknowledged: 1 })
  // Every delivery links to the one that superseded it.
  let [delivery] = (await curfew.client.getLogoutEvent(first)).deliveries
  for (let steps = 0; steps < 3 && delivery?.superseded_by != null; steps++) {
    delivery = await curfew.client.getDelivery(delivery.superseded_by)
  }
  expect(delivery?.id).toBe(newest.deliveries[0]?.id)
}, 30_000)

test('all workers together keep a rate limit', async () => {
  await using curfew = await openCurfew({ workers: 0 })
  await using rp = await openRelyingParty(curfew, { clientId: 'rp', curfew: { rate_per_second: 20 } })
  await startWorkers(curfew, 2)
  await curfew.client.postLogoutEvents(logouts(60, ['rp']))
  const received = await rp.told(60)
  const [firstMs = 0, lastMs = 0] = [received[0]?.atMs, received.at(-1)?.atMs]
  // At most two bursts of five, then twenty a second.
  expect(lastMs - firstMs).toBeGreaterThan(2_000)
  await eventually(async () => expect(await states(curfew, 'rp')).toEqual({ acknowledged: 60 }))
}, 30_000)

test('all workers together keep a concurrency limit', async () => {
  await using curfew = await openCurfew({ workers: 0 })
  await using rp = await openRelyingParty(curfew, { clientId: 'rp', curfew: { concurrency: 2 } })
  await startWorkers(curfew, 3)
  await curfew.client.postLogoutEvents(logouts(100, ['rp']))
  await rp.told(100)
  expect(rp.mostAtOnce).toBeLessThanOrEqual(2)
}, 30_000)

test('a mass logout is delivered completely, and does not delay the logout of one user', async () => {
  await using curfew = await openCurfew()
  await using rp = await openRelyingParty(curfew, { clientId: 'rp' })
  await curfew.client.postLogoutEvents(logouts(1_000, ['rp'], 'bulk'))
  await rp.told(20)
  const { id } = await curfew.client.postLogoutEvent({ iss: ISS, sub: 'alice' })
  const event = await curfew.client.getLogoutEvent(id, { wait: 5 })
  expect(event).toMatchObject({ status: 'settled', acknowledged: 1 })
  expect(rp.received.length).toBeLessThan(1_001)
  await rp.told(1_001)
}, 30_000)

test('an issuer whose relying party hangs on both its channels does not delay a logout of another issuer', async () => {
  const timeoutMs = 10_000
  await using curfew = await openCurfew({ workers: 0 })
  await using sick = await openRelyingParty(curfew, { clientId: 'sick' })
  await curfew.client.putRelyingParty(ISSUER, 'sick', {
    backchannel_logout_uri: sick.uri,
    id_token_signed_response_alg: 'ES256',
    curfew: {
      timeout_ms: timeoutMs,
      retry_schedule_ms: [60_000],
      channels: { global_revocation: { uri: `${new URL(sick.uri).origin}/revoke` } },
    },
  })
  sick.behave('hang')
  await curfew.client.putIssuer('other', { iss: OTHER_ISS })
  await using well = await openRelyingParty(curfew, {
    ...{ clientId: 'well', issuer: 'other', iss: OTHER_ISS },
    curfew: { retry_schedule_ms: Array.from({ length: 9 }, () => 1_000) },
  })
  await startWorkers(curfew, 1)
  for (let batch = 0; batch < 4; batch++) await curfew.client.postLogoutEvents(logouts(1_000, ['sick']))
  await eventually(async () => {
    const { in_flight = 0, pending = 0 } = await states(curfew, 'sick')
    expect(in_flight + pending).toBe(8_000)
  })
  // A fresh logout is attempted at once, long before an attempt at the hanging relying party times out.
  for (let click = 1; click <= 10; click++) {
    const from = performance.now()
    await curfew.client.postLogoutEvent({ iss: OTHER_ISS, sub: randomUUID() })
    const received = await well.told(click)
    expect((received[click - 1]?.atMs ?? Number.POSITIVE_INFINITY) - from).toBeLessThan(timeoutMs / 2)
  }
  // A delivery that is claimed from the ledger is too, among thousands of other due deliveries.
  well.behave({ status: 503 })
  const { id } = await curfew.client.postLogoutEvent({ iss: OTHER_ISS, sub: randomUUID() })
  await eventually(async () => expect(await states(curfew, 'well')).toEqual({ acknowledged: 10, pending: 1 }))
  well.behave(null)
  expect(await curfew.client.getLogoutEvent(id, { wait: 5 })).toMatchObject({ acknowledged: 1 })
  const { in_flight = 0, pending = 0 } = await states(curfew, 'sick')
  expect(in_flight + pending).toBe(8_000)
}, 60_000)
