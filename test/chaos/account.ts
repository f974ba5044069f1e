import type { Client, Delivery } from '@curfew/client'
import { expect } from 'vitest'
import type { Chaos } from './chaos.ts'
import type { Load, Tally } from './load.ts'

// The end of every chaos case: three counts must agree. What was promised (the ids that got a 202), what was done (what the
// relying parties counted), and what the ledger says was done.

export interface Books {
  readonly load: Load
  readonly tallies: readonly Tally[]
  readonly client: Client
}

const TIMEOUT_MS = 60_000
const LISTED = ['pending', 'in_flight', 'dead_lettered', 'lapsed', 'acknowledged', 'superseded'] as const
const SETTLED: readonly string[] = ['acknowledged', 'superseded']
const ASKED_AT_ONCE = 20

/**
 * Waits until every accepted event has reached every relying party, or a later logout of the same user or session has,
 * and the ledger has settled all that it has; then compares, and fills the report before it throws.
 */
export async function expectNothingLost({ report, say }: Chaos, books: Books): Promise<void> {
  const { load, tallies, client } = books
  report.accepted = load.accepted.size
  report.duplicates = tallies.reduce((sum, { times }) => sum + extra(times), 0)
  const unheard = () =>
    tallies.flatMap((tally) => [...load.accepted.keys()].filter((id) => !heard(load, tally, id)))
  await waitFor(() => unheard().length === 0)
  await waitFor(async () => (await unsettled(client)).length === 0)

  report.duplicates = tallies.reduce((sum, { times }) => sum + extra(times), 0)
  const ledger = await readLedger(client)
  report.superseded = [...ledger.values()].filter(({ state }) => state === 'superseded').length
  const lost = new Map<string, string>()
  for (const id of load.accepted.keys()) {
    for (const tally of tallies) {
      const state = ledger.get(keyOf(id, tally.clientId))?.state ?? 'not planned'
      const done =
        state === 'acknowledged' ? tally.times.has(id) : state === 'superseded' && heard(load, tally, id)
      if (!done) lost.set(id, `${state}, and the RP was told ${tally.times.get(id) ?? 0} times`)
    }
  }
  report.lost = lost.size
  const answers = [...load.answers].map(([status, number]) => `${number} × ${status}`).join(', ')
  say(
    `${report.accepted} accepted (answers: ${answers}), ${report.kills} blows, ${lost.size} lost, ` +
      `${report.duplicates} duplicates, ${report.superseded} superseded`,
  )
  expect(tallied(lost.values()), 'accepted events that are lost, by what the ledger says').toEqual({})

  // What was never promised may be told as well: its 202 was lost. But nobody may be told what the ledger does not know.
  const unknown = tallies.flatMap(({ clientId, times }) =>
    [...times.keys()].filter((id) => !SETTLED.includes(ledger.get(keyOf(id, clientId))?.state ?? '')),
  )
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

/** Whether the RP was told of the event, or, since it was posted, of another that ends the same. */
function heard({ accepted }: Load, { times, lastTold }: Tally, id: string): boolean {
  const event = accepted.get(id)
  return times.has(id) || (event !== undefined && (lastTold.get(event.target) ?? 0) >= event.postedAt)
}

function extra(times: ReadonlyMap<string, number>): number {
  return [...times.values()].reduce((sum, each) => sum + each - 1, 0)
}

function tallied(values: Iterable<string>): Readonly<Record<string, number>> {
  const found: Record<string, number> = {}
  for (const value of values) found[value] = (found[value] ?? 0) + 1
  return found
}

/** What does not come in time is seen in the comparison, with all that can be said of it. */
async function waitFor(condition: () => boolean | Promise<boolean>): Promise<void> {
  await expect
    .poll(condition, { timeout: TIMEOUT_MS, interval: 200 })
    .toBe(true)
    .catch(() => undefined)
}

/** States that deliveries are in and should not be. */
async function unsettled(client: Client): Promise<readonly string[]> {
  const found = await Promise.all(
    (['pending', 'in_flight'] as const).map((state) => client.listDeliveries({ state, limit: 1 })),
  )
  return found.flatMap(({ items }) => items.map(({ state }) => state))
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
