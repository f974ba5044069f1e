import { type Binding, burstOf } from '@curfew/domain'
import type { Evidence } from './evidence.ts'
import type { Received } from './relying-parties.ts'
import { EPOCH_MS } from './virtual-time.ts'

/** The time until the last worker of a calm run has started and sent a heartbeat, in milliseconds. */
const STARTED_MS = 200
/** Heartbeats per lease. With its next heartbeat a worker learns of the others. */
const BEATS_PER_LEASE = 5
/** The time until every worker has read a new registration, with its limits, in milliseconds. */
const REGISTRY_MS = 600
/** The window in which the RP counts its rate, in milliseconds. */
const RATE_WINDOW_MS = 1_000

/**
 * Finds violations of an RP's own limits, which all workers share. Only calm runs are checked. Where workers come and go, they
 * learn of each other with their next heartbeat, so the limits hold only after that.
 */
export function* limitViolations({ scenario, received, ledger, planByBinding }: Evidence): Iterable<string> {
  const { leaseMs, workers } = scenario
  const knownMs = STARTED_MS + leaseMs / BEATS_PER_LEASE
  // Deliveries that began earlier do not count: their quick retries may come at any later time.
  const counted = new Set<string>()
  for (const row of ledger.deliveries.values()) {
    const registeredMs = planByBinding.get(row.bindingId)?.registeredMs ?? 0
    const sinceMs = Math.max(knownMs, registeredMs === 0 ? 0 : registeredMs + REGISTRY_MS)
    if (row.plannedAt.getTime() - EPOCH_MS > sinceMs) counted.add(`${row.eventId} ${row.bindingId}`)
  }
  for (const { binding } of scenario.relyingParties) {
    const posts = received.filter(
      ({ bindingId, eventId }) => bindingId === binding.id && counted.has(`${eventId} ${bindingId}`),
    )
    yield* concurrencyViolations(binding, posts)
    yield* rateViolations(binding, posts, workers.length)
  }
}

function* concurrencyViolations(binding: Binding, posts: readonly Received[]): Iterable<string> {
  if (binding.concurrency === null) return
  const edges = posts
    .flatMap(({ atMs, endedMs }) => [
      { atMs, change: 1 },
      { atMs: endedMs ?? Number.POSITIVE_INFINITY, change: -1 },
    ])
    .toSorted((a, b) => a.atMs - b.atMs || a.change - b.change)
  let running = 0
  for (const { atMs, change } of edges) {
    running += change
    if (running > binding.concurrency) {
      yield `binding ${binding.id} had ${running} concurrent POSTs at ${atMs} ms, with a limit of ${binding.concurrency}`
      return
    }
  }
}

function* rateViolations(binding: Binding, posts: readonly Received[], workers: number): Iterable<string> {
  const { ratePerSecond } = binding
  if (ratePerSecond === null) return
  const most = ratePerSecond * (RATE_WINDOW_MS / 1_000) + workers * burstOf(ratePerSecond / workers)
  for (const [index, { atMs }] of posts.entries()) {
    const within = posts.slice(index).filter((post) => post.atMs < atMs + RATE_WINDOW_MS).length
    if (within > most) {
      yield `binding ${binding.id} had ${within} POSTs in the second from ${atMs} ms, with a limit of ${ratePerSecond} a second`
      return
    }
  }
}
