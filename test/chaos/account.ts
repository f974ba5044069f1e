import { setTimeout as sleep } from 'node:timers/promises'
import { ApiError, type Client } from '@curfew/client'
import type { Delivery } from '@curfew/contract'
import { expect } from 'vitest'
import type { Chaos } from './chaos.ts'
import { ISS, type Load } from './load.ts'
import { locate, type Places, summarise, type Whereabouts } from './whereabouts.ts'

// The end of every chaos case: three counts must agree. What was promised (the ids that got a 202), what was done (what the
// relying parties counted), and what the ledger says was done.

export interface Books extends Places {
  readonly load: Load
}

/**
 * An accepted logout is late when it has not arrived this long after the end of the load. The slowest are those of the bulk lane, which
 * gives way while the processor is busy. On two cores they took 20 to 30 s beside busy loops, and 40 s at a load average of 40.
 */
const LIMIT_MS = 60_000
/** A logout that has not arrived after this time, on top of the limit, is lost. */
const PATIENCE_MS = 180_000
const LISTED = ['pending', 'in_flight', 'dead_lettered', 'lapsed', 'acknowledged', 'superseded'] as const
const SETTLED: readonly string[] = ['acknowledged', 'superseded']
const ASKED_AT_ONCE = 16

/**
 * Waits until the ledger has every accepted event and has settled all that it has; then compares, and fills the report
 * before it throws. After the limit it waits on, to tell a late logout from a lost one.
 */
export async function expectNothingLost({ report, say }: Chaos, books: Books): Promise<void> {
  const { load, tallies } = books
  report.accepted = load.accepted.size
  const atLimit = await readSettledLedger(books, LIMIT_MS)
  const overdue = await locateMissing(books, atLimit.ledger)
  if (overdue.size > 0) await sayMissing(say, overdue, books)
  const { ledger, told } = overdue.size > 0 ? await readSettledLedger(books, PATIENCE_MS) : atLimit
  const { arrivedMs, slowest } = readArrivals(books, ledger)
  const late = [...overdue.keys()].filter((id) => arrivedMs.has(id))
  const missingSids = await missingSessions(books)
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
  if (slowest !== null) say(await storyOf(slowest, books))
  const places = summarise(overdue, arrivedMs)
  for (const line of places) say(line)
  expect(
    places,
    `accepted logouts that had not arrived ${LIMIT_MS / 1_000} s after the load, and where they were`,
  ).toEqual([])
  expect(missingSids, 'accepted sessions that are not in the index').toEqual([])

  // What was never promised may be told as well: its 202 was lost. But nobody may be told what the ledger does not know.
  const unknown = told.filter((key) => !SETTLED.includes(ledger.get(key)?.state ?? ''))
  expect(unknown, 'told, and not settled in the ledger').toEqual([])
  const unfounded = [...ledger.values()].filter(
    ({ state, client_id, event_id }) =>
      state === 'acknowledged' &&
      !tallies.some((each) => each.clientId === client_id && each.times.has(event_id)),
  )
  expect(unfounded, 'acknowledged in the ledger, and never told').toEqual([])
  await expectSettledOnce(books, ledger)
  const expected = ['202', '503', 'none']
  expect([...load.answers.keys()].filter((answer) => !expected.includes(answer))).toEqual([])
}

/** Accepted logouts that have not arrived everywhere, or that the event log lacks. */
async function locateMissing(
  books: Books,
  ledger: ReadonlyMap<string, Delivery>,
): Promise<ReadonlyMap<string, Whereabouts>> {
  const { arrivedMs } = readArrivals(books, ledger)
  const missing = [...books.load.accepted.keys()].filter((id) => !arrivedMs.has(id))
  return locate(missing, books, (id, clientId) => ledger.get(keyOf(id, clientId)))
}

async function sayMissing(
  say: Chaos['say'],
  overdue: ReadonlyMap<string, Whereabouts>,
  { log }: Books,
): Promise<void> {
  say(`${overdue.size} have not arrived ${LIMIT_MS / 1_000} s after the load:`)
  for (const line of summarise(overdue)) say(line)
  for (const { group } of (await log?.progress()) ?? []) say(group)
}

/** When the accepted logouts arrived. */
interface Arrivals {
  /** From the 202 to the first byte at the last relying party, by id; none for a logout that has not arrived everywhere. */
  readonly arrivedMs: ReadonlyMap<string, number>
  readonly slowest: Slowest | null
}

function readArrivals({ load, tallies, log }: Books, ledger: ReadonlyMap<string, Delivery>): Arrivals {
  const arrivedMs = new Map<string, number>()
  let slowest: Slowest | null = null
  const byId = new Map(Array.from(ledger.values(), (delivery) => [delivery.id, delivery]))
  for (const [id, acceptedAtMs] of load.accepted) {
    if (log !== undefined && !log.places.has(id)) continue
    const told = tallies.flatMap(({ clientId, firstAtMs }) => {
      const last = lastOf(byId, ledger.get(keyOf(id, clientId)))
      const heardAtMs = firstAtMs.get(last?.event_id ?? id)
      if (last?.state !== 'acknowledged' || heardAtMs === undefined) return []
      return [{ ms: heardAtMs - acceptedAtMs, acceptedAtMs, delivery: last.id }]
    })
    if (told.length < tallies.length) continue
    const latest = told.reduce((one, other) => (other.ms > one.ms ? other : one))
    arrivedMs.set(id, latest.ms)
    if (slowest === null || latest.ms > slowest.ms) slowest = latest
  }
  return { arrivedMs, slowest }
}

/** The accepted event that a relying party heard of last after its 202. */
interface Slowest {
  readonly ms: number
  readonly acceptedAtMs: number
  /** That told of it. */
  readonly delivery: string
}

/** Where the time of the slowest went. */
async function storyOf({ ms, acceptedAtMs, delivery }: Slowest, { client }: Books): Promise<string> {
  const { planned_at, attempts } = await client.getDelivery(delivery)
  const after = (time: string) =>
    `${(Date.parse(time) - performance.timeOrigin - acceptedAtMs).toFixed(0)} ms`
  const tries = attempts.map(({ started_at, outcome }) => `${outcome} after ${after(started_at)}`)
  return `the slowest after ${ms.toFixed(0)} ms: planned after ${after(planned_at)}, ${tries.join(', ')}`
}

/** Whoever slept through its lease and wakes must not settle what another has settled since. */
async function expectSettledOnce(
  { client, tallies }: Books,
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
  expect(wrong, 'deliveries that went on after they were settled').toEqual([])
}

function keyOf(eventId: string, clientId: string): string {
  return `${eventId} ${clientId}`
}

/** The delivery itself, or the one that covers it in the end. */
function lastOf(byId: ReadonlyMap<string, Delivery>, delivery: Delivery | undefined): Delivery | undefined {
  if (delivery?.state !== 'superseded') return delivery
  const covering = byId.get(delivery.superseded_by ?? '')
  const same = covering?.client_id === delivery.client_id && covering.sid === delivery.sid
  return same ? lastOf(byId, covering) : delivery
}

function extra(times: ReadonlyMap<string, number>): number {
  return [...times.values()].reduce((sum, each) => sum + each - 1, 0)
}

/** Keys of whom the relying parties were told, and then every delivery of the ledger. */
interface Standing {
  readonly told: readonly string[]
  readonly ledger: ReadonlyMap<string, Delivery>
}

/** How it stands when the ledger owes nothing more, or after `timeoutMs`. */
async function readSettledLedger(books: Books, timeoutMs: number): Promise<Standing> {
  for (const deadline = Date.now() + timeoutMs; Date.now() < deadline; await sleep(300)) {
    try {
      if (await owes(books.client)) continue
      const standing = await readMembership(books)
      if (isComplete(standing.ledger, books)) return standing
    } catch (error) {
      // What was killed last may still be on its way back.
      if (!(error instanceof ApiError) || error.status !== 503) throw error
    }
  }
  return readMembership(books)
}

/** By `sid`, accepted sessions that have not come into the index after a while. */
async function missingSessions({ load: { sessions }, client }: Books): Promise<readonly string[]> {
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

/** While it was read, page by page, deliveries may have come or changed. */
function isComplete(ledger: ReadonlyMap<string, Delivery>, { load, tallies }: Books): boolean {
  return (
    [...ledger.values()].every(({ settled_at }) => settled_at !== null) &&
    tallies.every(({ clientId }) => [...load.accepted.keys()].every((id) => ledger.has(keyOf(id, clientId))))
  )
}

/** The relying parties first: events that nobody was promised may still be told. */
async function readMembership({ tallies, client }: Books): Promise<Standing> {
  const told = tallies.flatMap(({ clientId, times }) => [...times.keys()].map((id) => keyOf(id, clientId)))
  return { told, ledger: await readLedger(client) }
}

async function owes(client: Client): Promise<boolean> {
  for (const state of ['pending', 'in_flight'] as const) {
    // A page may be empty and not be the last.
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

/** Every delivery, by event and relying party. */
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
