import type { MemoryLog } from '../support/memory-event-log.ts'
import type { MemoryLedger } from '../support/memory-ledger.ts'
import { describe } from './evidence.ts'
import type { Run } from './run.ts'
import type { Scenario } from './scenario.ts'
import { EPOCH_MS } from './virtual-time.ts'

/** The longest time that a worker holds a delivery, waiting and attempted, while nothing is wrong, in milliseconds. */
const HELD_MS_MAX = 75_000

/**
 * Finds violations of rules that hold at every instant. An accepted logout is in the event log until the ledger has it. Its
 * deliveries are settled, due or listed in a lease. No lease outlasts the time that a worker may hold a delivery, except during
 * an outage of the ledger.
 */
export function* findUnaccounted({
  scenario,
  ledger,
  memoryLog,
  accepted,
  nowMs,
}: {
  scenario: Scenario
  ledger: MemoryLedger
  memoryLog: MemoryLog
  accepted: Run['accepted']
  nowMs: number
}): Iterable<string> {
  const logged = new Set(
    (['interactive', 'bulk'] as const).flatMap((lane) =>
      memoryLog.records(lane).map(({ headers }) => `${headers.ce_source} ${headers.ce_id}`),
    ),
  )
  for (const [id, { event }] of accepted) {
    if (!ledger.events.has(id) && !logged.has(`${event.iss} ${event.givenId}`))
      yield `event ${id} is neither in the event log nor in the ledger`
  }
  const longest = HELD_MS_MAX + 2 * scenario.leaseMs
  const available = scenario.ledgerOutages.every(
    ({ fromMs, toMs }) => nowMs < fromMs || nowMs - toMs > longest,
  )
  for (const row of ledger.deliveries.values()) {
    if (row.state !== 'in_flight') continue
    const { leasedAt } = row
    const listed = ledger.leases.some(
      (lease) =>
        lease.workerId === row.leasedBy &&
        lease.leasedAt.getTime() === leasedAt?.getTime() &&
        lease.ids.includes(row.id),
    )
    if (!listed) yield `${describe(row)} is leased, but no lease lists it`
    const sinceMs = (leasedAt?.getTime() ?? 0) - EPOCH_MS
    if (available && nowMs - sinceMs > longest) yield `${describe(row)} has been leased since ${sinceMs} ms`
  }
}
