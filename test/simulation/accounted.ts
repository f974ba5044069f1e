import type { MemoryLog } from '../support/memory-event-log.ts'
import type { MemoryLedger } from '../support/memory-ledger.ts'
import { describe } from './evidence.ts'
import type { Run } from './run.ts'
import type { Scenario } from './scenario.ts'
import { EPOCH_MS } from './virtual-time.ts'

/** Longest that a delivery waits in a worker's memory, and is attempted, while nothing is wrong, in milliseconds. */
const HELD_MS_MAX = 75_000

/**
 * What must hold at every instant: an accepted logout is in the event log until the ledger has it, and each of its deliveries is
 * settled, due, or listed in a lease. No lease lasts longer than a worker may hold a delivery, apart from the time in which the
 * ledger was unavailable.
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
      yield `event ${id} is neither in the log nor in the ledger`
  }
  const longest = HELD_MS_MAX + 2 * scenario.leaseMs
  const available = scenario.ledgerAway.every(({ fromMs, toMs }) => nowMs < fromMs || nowMs - toMs > longest)
  for (const row of ledger.deliveries.values()) {
    if (row.state !== 'in_flight') continue
    const { leasedAt } = row
    const listed = ledger.leases.some(
      (lease) =>
        lease.workerId === row.leasedBy &&
        lease.leasedAt.getTime() === leasedAt?.getTime() &&
        lease.ids.includes(row.id),
    )
    if (!listed) yield `${describe(row)} is leased, and no lease lists it`
    const sinceMs = (leasedAt?.getTime() ?? 0) - EPOCH_MS
    if (available && nowMs - sinceMs > longest) yield `${describe(row)} is leased since ${sinceMs} ms`
  }
}
