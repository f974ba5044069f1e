import { lastOf } from '../support/memory-rows.ts'
import { describe, type Evidence, type Invariant } from './evidence.ts'
import { EPOCH_MS } from './virtual-time.ts'

// Invariants of resource servers, which fetch their logouts. Stated independently of the domain.

export const FEED_INVARIANTS: Readonly<Record<string, Invariant>> = {
  'every logout is owed once to every feed': owedOnce,
  'no worker touches a delivery that is fetched': untouched,
  'a fetched delivery ends by its reader, by a newer logout, or by the end of its offer': endsJustified,
}

function* owedOnce({ scenario, ledger, accepted }: Evidence): Iterable<string> {
  for (const [id, { event }] of accepted) {
    for (const { binding } of scenario.feeds) {
      const isOwed =
        event.iss === binding.iss &&
        (event.clients === null || event.relayed !== undefined || event.scope === 'session')
      const count = [...ledger.deliveries.values()].filter(
        ({ eventId, bindingId }) => eventId === id && bindingId === binding.id,
      ).length
      if (count !== (isOwed ? 1 : 0)) yield `event ${id} has ${count} deliveries to feed ${binding.id}`
    }
  }
}

function* untouched({ scenario, ledger, attemptsOf, received }: Evidence): Iterable<string> {
  const feeds = new Set(scenario.feeds.map(({ binding }) => binding.id))
  for (const row of ledger.deliveries.values()) {
    if (!feeds.has(row.bindingId)) continue
    if (row.leasedBy !== null || row.attempts > 0 || attemptsOf.has(row.id))
      yield `${describe(row)} was leased or attempted`
  }
  for (const { bindingId, atMs } of received)
    if (feeds.has(bindingId)) yield `feed ${bindingId} got a POST at ${atMs} ms`
}

/** The bookkeeper ends offers at this interval, in milliseconds. */
export const END_OFFERS_MS = 500

function* endsJustified({ scenario, ledger, fetched }: Evidence): Iterable<string> {
  for (const { binding, readEveryMs, stall } of scenario.feeds) {
    const lastsMs = binding.offer?.lastsMs ?? 0
    for (const row of ledger.deliveries.values()) {
      if (row.bindingId !== binding.id) continue
      const plannedMs = row.plannedAt.getTime() - EPOCH_MS
      const settledMs = (row.settledAt?.getTime() ?? Number.POSITIVE_INFINITY) - EPOCH_MS
      const readMs = fetched.get(row.id) ?? Number.POSITIVE_INFINITY
      const isOver = row.state === 'lapsed' || row.deadLetterReason === 'not_fetched'
      if (row.state === 'acknowledged' && !(readMs < settledMs))
        yield `${describe(row)} was acknowledged at ${settledMs} ms, and read at ${readMs} ms`
      if (isOver && settledMs < plannedMs + lastsMs - WORKER_CLOCK_MS)
        yield `${describe(row)}, planned at ${plannedMs} ms, ended at ${settledMs} ms, before its offer`
      // A reader that never stalls applies everything, and says so with its next read.
      const effective = lastOf(row, ledger.deliveries)
      if (
        stall === null &&
        isOver &&
        effective.state !== 'acknowledged' &&
        lastsMs > 4 * readEveryMs + WORKER_CLOCK_MS
      )
        yield `${describe(row)} ended, but its reader reads every ${readEveryMs} ms`
      if (row.state === 'dead_lettered' && binding.offer?.onDeadline !== 'dead_lettered')
        yield `${describe(row)} is a dead letter, but its channel lets it lapse`
    }
  }
}

/** The most that the clock of a plan may differ from the ledger's, in milliseconds. */
const WORKER_CLOCK_MS = 20_000
