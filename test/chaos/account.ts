import { setTimeout as sleep } from 'node:timers/promises'
import { ApiError, type Client } from '@curfew/client'
import type { Delivery } from '@curfew/contract'
import { expect } from 'vitest'
import type { Chaos } from './chaos.ts'
import { ISS, type Load } from './load.ts'
import { locate, type Places, summarise, type Whereabouts } from './whereabouts.ts'

// The end of every chaos case compares three counts: the ids that were answered with 202, the tokens that the relying parties
// counted, and the deliveries that the ledger has. They must agree.

export interface Evidence extends Places {
  readonly load: Load
}

/**
 * An accepted logout is late if it has not arrived this long after the end of the load. The slowest are those of the bulk lane,
 * which yields while the processor is busy. On two cores they took 20 to 30 s beside busy loops, and 40 s at a load average of
 * 40.
 */
const LIMIT_MS = 60_000
/** A logout that has not arrived after this further time is lost. */
const PATIENCE_MS = 180_000
const LISTED = ['pending', 'in_flight', 'dead_lettered', 'lapsed', 'acknowledged', 'superseded'] as const
const SETTLED: readonly string[] = ['acknowledged', 'superseded']
const ASKED_AT_ONCE = 16

/**
 * Waits until the ledger has every accepted event and has settled all deliveries. Then it fills the report and compares the
 * counts. After the limit it waits longer, to distinguish a late logout from a lost one.
 */
export async function expectNothingLost({ report, say }: Chaos, evidence: Evidence): Promise<void> {
  const { load, tallies } = evidence
  report.accepted = load.accepted.size
  const atLimit = await readSettledLedger(evidence, LIMIT_MS)
  const overdue = await locateMissing(evidence, atLimit.ledger)
  if (overdue.size > 0) await sayMissing(say, overdue, evidence)
  const { ledger, delivered } = overdue.size > 0 ? await readSettledLedger(evidence, PATIENCE_MS) : atLimit
  const { arrivedMs, slowest } = readArrivals(evidence, ledger)
  const late = [...overdue.keys()].filter((id) => arrivedMs.has(id))
  const missingSids = await missingSessions(evidence)
  report.duplicates = tallies.reduce((sum, { times }) => sum + extra(times), 0)
  report.superseded = [...ledger.values()].filter(({ state }) => state === 'superseded').length
  report.sessions = load.sessions.size
  report.late = late.length
  report.lost = load.accepted.size - arrivedMs.size + missingSids.length
  report.slowestMs = slowest?.ms ?? null
  const answers = [...load.answers].map(([status, number]) => `${number} × ${status}`).join(', ')
  say(
    `${report.accepted} accepted and ${report.sessions} sessions (answers: ${answers}), ${report.kills} kills, ${report.lost} lost, ` +
      `${report.late} late, ${report.duplicates} duplicates, ${report.superseded} superseded`,
  )
  if (slowest !== null) say(await storyOf(slowest, evidence))
  const places = summarise(overdue, arrivedMs)
  for (const line of places) say(line)
  expect(
    places,
    `accepted logouts that had not arrived ${LIMIT_MS / 1_000} s after the load, and where they were`,
  ).toEqual([])
  expect(missingSids, 'accepted sessions that are not in the index').toEqual([])

  // An event whose 202 was lost may be delivered too. But a relying party must not receive an event that the ledger does not
  // know.
  const unknown = delivered.filter((key) => !SETTLED.includes(ledger.get(key)?.state ?? ''))
  expect(unknown, 'delivered, but not settled in the ledger').toEqual([])
  const unfounded = [...ledger.values()].filter(
    ({ state, client_id, event_id }) =>
      state === 'acknowledged' &&
      !tallies.some((each) => each.clientId === client_id && each.times.has(event_id)),
  )
  expect(unfounded, 'acknowledged in the ledger, but never delivered').toEqual([])
  await expectSettledOnce(evidence, ledger)
  const expected = ['202', '503', 'none']
  expect([...load.answers.keys()].filter((answer) => !expected.includes(answer))).toEqual([])
}

/** Accepted logouts that have not arrived everywhere, or that the event log lacks. */
async function locateMissing(
  evidence: Evidence,
  ledger: ReadonlyMap<string, Delivery>,
): Promise<ReadonlyMap<string, Whereabouts>> {
  const { arrivedMs } = readArrivals(evidence, ledger)
  const missing = [...evidence.load.accepted.keys()].filter((id) => !arrivedMs.has(id))
  return locate(missing, evidence, (id, clientId) => ledger.get(keyOf(id, clientId)))
}

async function sayMissing(
  say: Chaos['say'],
  overdue: ReadonlyMap<string, Whereabouts>,
  { log }: Evidence,
): Promise<void> {
  say(`${overdue.size} have not arrived ${LIMIT_MS / 1_000} s after the load:`)
  for (const line of summarise(overdue)) say(line)
  for (const { group } of (await log?.progress()) ?? []) say(group)
}

/** The arrival times of accepted logouts. */
interface Arrivals {
  /**
   * Milliseconds from the 202 to the first byte at the last relying party, by id. Lacks logouts that have not arrived everywhere.
   */
  readonly arrivedMs: ReadonlyMap<string, number>
  readonly slowest: Slowest | null
}

function readArrivals({ load, tallies, log }: Evidence, ledger: ReadonlyMap<string, Delivery>): Arrivals {
  const arrivedMs = new Map<string, number>()
  let slowest: Slowest | null = null
  const byId = new Map(Array.from(ledger.values(), (delivery) => [delivery.id, delivery]))
  for (const [id, acceptedAtMs] of load.accepted) {
    if (log !== undefined && !log.places.has(id)) continue
    const arrivals = tallies.flatMap(({ clientId, firstAtMs }) => {
      const last = lastOf(byId, ledger.get(keyOf(id, clientId)))
      const arrivedAtMs = firstAtMs.get(last?.event_id ?? id)
      if (last?.state !== 'acknowledged' || arrivedAtMs === undefined) return []
      return [{ ms: arrivedAtMs - acceptedAtMs, acceptedAtMs, delivery: last.id }]
    })
    if (arrivals.length < tallies.length) continue
    const latest = arrivals.reduce((one, other) => (other.ms > one.ms ? other : one))
    arrivedMs.set(id, latest.ms)
    if (slowest === null || latest.ms > slowest.ms) slowest = latest
  }
  return { arrivedMs, slowest }
}

/** The delivery of an accepted event that took longest after its 202. */
interface Slowest {
  readonly ms: number
  readonly acceptedAtMs: number
  /** The id of the delivery. */
  readonly delivery: string
}

/** Describes where the time of the slowest delivery went. */
async function storyOf({ ms, acceptedAtMs, delivery }: Slowest, { client }: Evidence): Promise<string> {
  const { planned_at, attempts } = await client.getDelivery(delivery)
  const after = (time: string) =>
    `${(Date.parse(time) - performance.timeOrigin - acceptedAtMs).toFixed(0)} ms`
  const tries = attempts.map(({ started_at, outcome }) => `${outcome} after ${after(started_at)}`)
  return `the slowest after ${ms.toFixed(0)} ms: planned after ${after(planned_at)}, ${tries.join(', ')}`
}

/** A worker that slept through its lease must not settle a delivery that another worker has settled. */
async function expectSettledOnce(
  { client, tallies }: Evidence,
  ledger: ReadonlyMap<string, Delivery>,
): Promise<void> {
  const twice = tallies.flatMap(({ clientId, times }) =>
    [...times].flatMap(([id, number]) => {
      const delivery = ledger.get(keyOf(id, clientId))
      return number > 1 && delivery?.state === 'acknowledged' ? [delivery.id] : []
    }),
  )
  const wrong: string[] = []
  while (twice.length > 0) {
    const some = await Promise.all(twice.splice(0, ASKED_AT_ONCE).map((id) => client.getDelivery(id)))
    for (const { id, attempts, attempt_count } of some) {
      const outcomes = attempts.map(({ outcome }) => outcome)
      if (outcomes.indexOf('acknowledged') !== outcomes.length - 1 || attempt_count !== outcomes.length) {
        wrong.push(`${id}: ${attempt_count} attempts, ${outcomes.join(', ')}`)
      }
    }
  }
  expect(wrong, 'deliveries with attempts after they were settled').toEqual([])
}

function keyOf(eventId: string, clientId: string): string {
  return `${eventId} ${clientId}`
}

/** The delivery itself, or the last one in its chain of superseding deliveries. */
function lastOf(byId: ReadonlyMap<string, Delivery>, delivery: Delivery | undefined): Delivery | undefined {
  if (delivery?.state !== 'superseded') return delivery
  const covering = byId.get(delivery.superseded_by ?? '')
  const same = covering?.client_id === delivery.client_id && covering.sid === delivery.sid
  return same ? lastOf(byId, covering) : delivery
}

function extra(times: ReadonlyMap<string, number>): number {
  return [...times.values()].reduce((sum, each) => sum + each - 1, 0)
}

/** The keys of the deliveries that the relying parties received, and the deliveries of the ledger. */
interface Counts {
  readonly delivered: readonly string[]
  readonly ledger: ReadonlyMap<string, Delivery>
}

/** The counts once no delivery is outstanding, or after `timeoutMs`. */
async function readSettledLedger(evidence: Evidence, timeoutMs: number): Promise<Counts> {
  for (const deadline = Date.now() + timeoutMs; Date.now() < deadline; await sleep(300)) {
    try {
      if (await hasUnsettled(evidence.client)) continue
      const counts = await readCounts(evidence)
      if (isComplete(counts.ledger, evidence)) return counts
    } catch (error) {
      // A service that was killed last may still be starting.
      if (!(error instanceof ApiError) || error.status !== 503) throw error
    }
  }
  return readCounts(evidence)
}

/** The `sid` of each accepted session that is missing in the index after a while. */
async function missingSessions({ load: { sessions }, client }: Evidence): Promise<readonly string[]> {
  const missing = new Set(sessions.keys())
  for (const deadline = Date.now() + LIMIT_MS; missing.size > 0; await sleep(300)) {
    for (const sub of new Set(sessions.values())) {
      let cursor: string | null = null
      do {
        const page: Awaited<ReturnType<Client['listSessions']>> = await client.listSessions({
          ...{ iss: ISS, sub, limit: 500 },
          ...(cursor !== null && { cursor }),
        })
        for (const { sid } of page.items) missing.delete(sid)
        cursor = page.next_cursor
      } while (cursor !== null)
    }
    if (Date.now() > deadline) break
  }
  return [...missing]
}

/** Whether the ledger has every delivery settled. Deliveries may have been added or changed while its pages were read. */
function isComplete(ledger: ReadonlyMap<string, Delivery>, { load, tallies }: Evidence): boolean {
  return (
    [...ledger.values()].every(({ settled_at }) => settled_at !== null) &&
    tallies.every(({ clientId }) => [...load.accepted.keys()].every((id) => ledger.has(keyOf(id, clientId))))
  )
}

/** Reads the relying parties first, because events without a 202 may still be delivered. */
async function readCounts({ tallies, client }: Evidence): Promise<Counts> {
  const delivered = tallies.flatMap(({ clientId, times }) =>
    [...times.keys()].map((id) => keyOf(id, clientId)),
  )
  return { delivered, ledger: await readLedger(client) }
}

async function hasUnsettled(client: Client): Promise<boolean> {
  for (const state of ['pending', 'in_flight'] as const) {
    // A page may be empty without being the last.
    let cursor: string | null = null
    do {
      const page: Awaited<ReturnType<Client['listDeliveries']>> = await client.listDeliveries({
        ...{ state, limit: 1 },
        ...(cursor !== null && { cursor }),
      })
      if (page.items.length > 0) return true
      cursor = page.next_cursor
    } while (cursor !== null)
  }
  return false
}

/** All deliveries, by event and relying party. */
async function readLedger(client: Client): Promise<ReadonlyMap<string, Delivery>> {
  const ledger = new Map<string, Delivery>()
  for (const state of LISTED) {
    let cursor: string | null = null
    do {
      const page = await client.listDeliveries({ state, limit: 500, ...(cursor !== null && { cursor }) })
      for (const delivery of page.items) ledger.set(keyOf(delivery.event_id, delivery.client_id), delivery)
      cursor = page.next_cursor
    } while (cursor !== null)
  }
  return ledger
}
