import { randomUUID } from 'node:crypto'
import type { Sla, SlaGroup } from '@curfew/contract'
import {
  atLeast,
  type InFlightDelivery,
  LATENCY_ERROR,
  LEVELS,
  type Level,
  type Settlement,
  type Subject,
} from '@curfew/domain'
import {
  claimDue,
  createReplay,
  planEvents,
  projectJournal,
  projectSla,
  type Registry,
  readRegistry,
  settleDeliveries,
  takeReplayBatch,
} from '@curfew/ledger'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createRandom } from '../simulation/random.ts'
import { type Curfew, ISSUER, openCurfew } from '../support/curfew.ts'
import {
  bindingsOf,
  both,
  newEvent,
  newLease,
  newWorker,
  planFor,
  registerParty,
  settledAs,
} from './ledger-support.ts'

// Goal: GET /v1/sla, computed from rollups, agrees with a full scan of the ledger: counts exactly, and percentiles within their
// documented error. A relying party with two channels counts once for a logout.
// Method: some hundred logouts over two days with every possible end, by the real statements, while two projectors read the
// journal in batches of any size. The answers are compared with a scan. A seed decides the ends.

const random = createRandom(20261121)
/** The fixed time of the server. */
const NOW = new Date(Date.now() - 60_000)
const MINUTE_MS = 60_000
/** The smallest span that counts separately. */
const TICK_MS = 5_000
const HOUR_MS = 3_600_000
const DAY_MS = 86_400_000
/** Two relying parties have their own promise, `slow` has that of its issuer. */
const PROMISES = {
  fast: { within_ms: 2_000, objective: 0.9 },
  slow: { within_ms: 100 * MINUTE_MS, objective: 0.5 },
  twice: { within_ms: 20 * MINUTE_MS, objective: 0.8 },
} as const
/** The channels of `twice`, both required. */
const CHANNELS = [
  { kind: 'backchannel', counts: 'done', fallbackFor: null },
  { kind: 'global_revocation', counts: 'received', fallbackFor: null },
] as const

let curfew: Curfew
let registry: Registry
let workerId: Awaited<ReturnType<typeof newWorker>>

beforeAll(async () => {
  curfew = await openCurfew({ workers: 0, now: () => NOW })
  await curfew.client.putIssuer(ISSUER, {
    iss: 'https://idp.example',
    sla: PROMISES.slow,
  })
  for (const [client, sla] of [['fast', PROMISES.fast] as const, ['slow', {}] as const]) {
    await curfew.client.putRelyingParty(ISSUER, client, {
      backchannel_logout_uri: `https://${client}.example/logout`,
      curfew: { endpoints: [{ name: 'eu', uri: `https://eu.${client}.example/logout` }], sla },
    })
  }
  await registerParty(curfew.db, 'twice', { sla: PROMISES.twice }, CHANNELS)
  registry = await readRegistry(curfew.db)
  workerId = await newWorker(curfew.db)
})
afterAll(() => curfew.stop())

/** A step of the history, at its time. */
interface Step {
  readonly atMs: number
  run(now: Date): Promise<unknown>
}

/** One logout: its plan at the time of acceptance, and the settlements at its endpoints. */
function logout(): readonly Step[] {
  const acceptedMs = NOW.getTime() - random.between(0, 1 + 2 * DAY_MS * random.next() ** 2)
  // A delivery without a lease waits until a newer logout of its subject supersedes it.
  const leased = random.chance(0.7)
  const event = {
    ...newEvent(leased ? {} : { sub: `shared-${random.between(0, 9)}` as Subject }),
    acceptedAt: new Date(acceptedMs),
  }
  const planned = planFor(event, bindingsOf(registry), { leased })
  const plan = (now: Date) =>
    planEvents(curfew.db, {
      batch: [planned],
      lease: newLease(workerId),
      registryRevision: registry.revision,
      now,
    })
  const settlements = planned.deliveries
    .filter(() => leased && random.chance(0.9))
    .map(({ delivery }) => ({ atMs: acceptedMs + latencyMs(), run: settlementOf(delivery) }))
  return [{ atMs: acceptedMs, run: plan }, ...settlements]
}

/** From zero to hours, on both sides of every promise. */
function latencyMs(): number {
  return random.chance(0.02) ? 0 : Math.round(10 ** (random.next() * 7))
}

function settlementOf(delivery: InFlightDelivery): (now: Date) => Promise<unknown> {
  const acknowledged = {
    state: 'acknowledged',
    level: random.pick<Level>([...LEVELS, 'done', 'done']),
  } as const
  const settlement: Settlement = random.pick([
    acknowledged,
    acknowledged,
    acknowledged,
    { state: 'dead_lettered', reason: 'refused' } as const,
    { state: 'lapsed' } as const,
  ])
  return (now) => settleDeliveries(curfew.db, { batch: [settledAs(delivery, settlement)], workerId, now })
}

/** Two bookkeepers project a part of the journal each. */
async function projectSome(): Promise<void> {
  await Promise.all(
    [1, 2].map(() => projectJournal(curfew.db, { limit: random.between(1, 9), projectors: [projectSla] })),
  )
}

/** The first end of a delivery, read from the ledger itself. */
interface Scanned {
  readonly eventId: string
  readonly clientId: keyof typeof PROMISES
  readonly state: string
  readonly acceptedMs: number
  readonly elapsedMs: number | null
  readonly level: Level | null
  readonly counts: Level
}

/** A unit that counts once. */
interface Counted extends Pick<Scanned, 'clientId' | 'acceptedMs'> {
  /** Null if it is not decided. */
  readonly kept: boolean | null
  /** The time to the acknowledgement; null without one. */
  readonly elapsedMs: number | null
}

function countedOf({ state, level, counts, clientId, acceptedMs, elapsedMs }: Scanned): Counted {
  const kept =
    elapsedMs === null
      ? null
      : state !== 'dead_lettered' &&
        elapsedMs <= PROMISES[clientId].within_ms &&
        (level === null || atLeast(level, counts))
  return { clientId, acceptedMs, kept, elapsedMs: state === 'acknowledged' ? elapsedMs : null }
}

/** Every delivery counts; for `twice` every logout counts, and its channels decide together. */
function countedIn(deliveries: readonly Scanned[]): readonly Counted[] {
  const logouts = Map.groupBy(deliveries, ({ eventId, clientId }) => `${clientId} ${eventId}`)
  return [...logouts.values()].flatMap((own) => {
    const counted = own.map(countedOf)
    const [first] = counted
    if (first?.clientId !== 'twice') return counted
    const decided = counted.every(({ kept }) => kept !== null)
    const kept = decided ? counted.every((one) => one.kept === true) : null
    const last = Math.max(...counted.map((one) => (one.kept === kept ? (one.elapsedMs ?? -1) : -1)))
    return [{ ...first, kept, elapsedMs: decided && last >= 0 ? last : null }]
  })
}

async function scan(): Promise<readonly Scanned[]> {
  const { rows } = await curfew.db.query<Scanned>(`
    select d.event_id as "eventId", p.client_id as "clientId", d.state, d.level, b.counts, (extract(epoch from e.accepted_at) * 1000)::bigint as "acceptedMs",
           (extract(epoch from d.settled_at - e.accepted_at) * 1000)::float8 as "elapsedMs"
      from deliveries d
      join events e on e.id = d.event_id
      join bindings b on b.id = d.binding_id
      join relying_parties p on p.id = b.relying_party_id`)
  return rows
}

/** Replays and acknowledges all dead letters and lapsed deliveries. @returns their number. */
async function replayAll(): Promise<number> {
  const filter = {
    issuer: null,
    clientIds: null,
    channel: null,
    reason: null,
    from: null,
    to: null,
    ids: null,
  }
  const id = randomUUID()
  const { total } = await createReplay(curfew.db, { id, filter, includeLapsed: true, requestedBy: 'test' })
  for (let batch = 0; batch < total; batch += 50) {
    await takeReplayBatch(curfew.db, { job: { id, filter }, limit: 50, pauseMs: 0 })
    await projectSome()
  }
  const slots = new Map(bindingsOf(registry).map((binding) => [binding.id, both(1_000)]))
  const now = new Date()
  const claimed = await claimDue(curfew.db, {
    lease: newLease(workerId),
    now,
    slots,
    otherSlots: both(0),
    limit: 10_000,
  })
  const { rows } = await curfew.db.query<{ id: string }>('select id from deliveries where generation = 1')
  const replayed = new Set(rows.map((row) => row.id))
  const batch = claimed.filter((delivery) => replayed.has(delivery.id)).map((delivery) => settledAs(delivery))
  await settleDeliveries(curfew.db, { batch, workerId, now })
  return batch.length
}

/** The figures that the answer must have for these deliveries. */
function expected(deliveries: readonly Scanned[]) {
  const all = countedIn(deliveries)
  const counts = { planned: all.length, settled: 0, kept: 0, broken: 0, overdue: 0, waiting: 0 }
  let allowed = 0
  const elapsed: number[] = []
  for (const { clientId, kept, acceptedMs, elapsedMs } of all) {
    const { within_ms: withinMs, objective } = PROMISES[clientId]
    const decidedMs = Math.floor((NOW.getTime() - withinMs) / TICK_MS) * TICK_MS
    if (kept === null && acceptedMs >= decidedMs) {
      counts.waiting += 1
      continue
    }
    allowed += 1 - objective
    if (kept === null) counts.overdue += 1
    else {
      counts.settled += 1
      if (kept) counts.kept += 1
      else counts.broken += 1
    }
    if (elapsedMs !== null) elapsed.push(elapsedMs)
  }
  const decided = counts.settled + counts.overdue
  const spent = counts.broken + counts.overdue
  return { counts, decided, spent, allowed, elapsed: elapsed.toSorted((a, b) => a - b) }
}

function expectFigures(actual: Sla | SlaGroup, deliveries: readonly Scanned[]): void {
  const { counts, decided, spent, allowed, elapsed } = expected(deliveries)
  expect(actual).toMatchObject({
    ...counts,
    share_kept: decided === 0 ? null : expect.closeTo(counts.kept / decided, 5),
    error_budget: {
      allowed: expect.closeTo(allowed, 4),
      spent,
      left: expect.closeTo(allowed - spent, 4),
      share_left: decided === 0 ? 1 : expect.closeTo(1 - spent / allowed, 4),
    },
  })
  expect(actual.elapsed_ms === null).toBe(elapsed.length === 0)
  for (const [name, share] of [['p50', 0.5] as const, ['p95', 0.95] as const, ['p99', 0.99] as const]) {
    const exact = elapsed[Math.max(0, Math.ceil(share * elapsed.length) - 1)]
    if (exact === undefined || actual.elapsed_ms === null) continue
    expect(Math.abs(actual.elapsed_ms[name] - exact)).toBeLessThanOrEqual(LATENCY_ERROR * exact + 1)
  }
}

/** The burn rate of a window that ends at the last tick in which every logout is decided: a later one cannot be late yet. */
function burnOf(deliveries: readonly Scanned[], windowMs: number): number | null {
  const tickMs = (ms: number) => Math.floor(ms / TICK_MS) * TICK_MS
  const within = deliveries.filter(({ acceptedMs, clientId }) => {
    const endMs = tickMs(NOW.getTime() - PROMISES[clientId].within_ms)
    return acceptedMs >= endMs - windowMs && acceptedMs < endMs
  })
  const { spent, allowed } = expected(within)
  return allowed === 0 ? null : (expect.closeTo(spent / allowed, 4) as number)
}

test('GET /v1/sla agrees with a full scan of the ledger, for deliveries with every possible end', async () => {
  const steps = Array.from({ length: 350 }, logout)
    .flat()
    .filter(({ atMs }) => atMs <= NOW.getTime())
    .toSorted((a, b) => a.atMs - b.atMs)
  for (const { atMs, run } of steps) {
    await run(new Date(atMs))
    if (random.chance(0.2)) await projectSome()
  }
  const all = await scan()
  expect(new Set(all.map(({ state }) => state)).size).toBe(6)
  // Some settlements are not projected yet: a replay does not change how their deliveries ended first.
  expect(await replayAll()).toBeGreaterThan(50)
  while ((await projectJournal(curfew.db, { limit: 7, projectors: [projectSla] })) !== 0);

  const whole = await curfew.client.getSla({ group_by: 'relying_party' })
  expectFigures(whole, all)
  expect(whole.groups?.map(({ client_id }) => client_id)).toEqual(['fast', 'slow', 'twice'])
  for (const group of whole.groups ?? []) {
    expect(group.promise).toEqual(PROMISES[group.client_id as keyof typeof PROMISES])
    expectFigures(
      group,
      all.filter(({ clientId }) => clientId === group.client_id),
    )
  }
  const { waiting, overdue } = whole
  expect(whole.at_risk).toEqual({ waiting, overdue })
  expect(Math.min(waiting, overdue)).toBeGreaterThan(0)
  expect(whole.burn_rate).toEqual({
    '5m': burnOf(all, 5 * MINUTE_MS),
    '30m': burnOf(all, 30 * MINUTE_MS),
    '1h': burnOf(all, HOUR_MS),
    '6h': burnOf(all, 6 * HOUR_MS),
  })

  const hourly = await curfew.client.getSla({ group_by: 'hour', client_id: 'fast' })
  const ofFast = all.filter(({ clientId }) => clientId === 'fast')
  const lastDay = ofFast.filter(({ acceptedMs }) => acceptedMs >= Date.parse(hourly.from))
  expectFigures(hourly, lastDay)
  for (const group of hourly.groups ?? []) {
    const hourMs = Date.parse(group.hour ?? '')
    expectFigures(
      group,
      lastDay.filter(({ acceptedMs }) => acceptedMs >= hourMs && acceptedMs < hourMs + HOUR_MS),
    )
  }
  expect(hourly.groups?.length).toBeGreaterThan(10)

  for (let range = 0; range < 20; range++) {
    const from = NOW.getTime() - random.between(0, 2 * DAY_MS)
    const to = from + random.between(1, DAY_MS)
    const part = await curfew.client.getSla({
      from: new Date(from).toISOString(),
      to: new Date(to).toISOString(),
    })
    const [fromMs, toMs] = [Date.parse(part.from), Date.parse(part.to)]
    expect(fromMs <= from && toMs >= to && toMs - fromMs < to - from + 2 * HOUR_MS).toBe(true)
    expectFigures(
      part,
      all.filter(({ acceptedMs }) => acceptedMs >= fromMs && acceptedMs < toMs),
    )
  }
}, 120_000)
