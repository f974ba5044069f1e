import type { BindingId, InFlightDelivery, WorkerId } from '@curfew/domain'
import { type Log, sleep } from '@curfew/runtime'

export interface DispatcherDeps {
  readonly log: Log
  /** The worker that leases are taken for, and whether they may be trusted now. */
  readonly worker: { id(): WorkerId; alive(): boolean }
  /** Most POSTs at once to a binding; undefined for one that is no longer registered. */
  concurrencyOf(id: BindingId): number | undefined
  /** Leases what is due. `slots`: how many of each binding that has some in hand; `slotsElse`: of any other. */
  claim(request: {
    slots: ReadonlyMap<BindingId, number>
    slotsElse: number
    limit: number
  }): Promise<readonly InFlightDelivery[]>
  /** Attempts and settles one delivery. Never rejects for what an RP did. */
  attempt(delivery: InFlightDelivery, workerId: WorkerId): Promise<void>
  /** Gives back what has been held too long to be attempted under its lease. */
  release(deliveries: readonly InFlightDelivery[], workerId: WorkerId): Promise<void>
  /** Most deliveries in memory. */
  readonly heldMax: number
  /** Pause between two looks at what is due, in milliseconds. */
  readonly idleMs: number
  readonly monotonicMs: () => number
}

export interface Dispatcher {
  /** How many fresh deliveries a binding may be leased now. What is above goes to the ledger as pending. */
  room(id: BindingId): number
  /** Takes a delivery that is leased to `workerId`, and attempts it when its binding has a free slot. */
  accept(delivery: InFlightDelivery, workerId: WorkerId): void
  /** Resolves when there is room for a batch, or after `ms`: never longer, for the way in waits for no RP. */
  waitForRoom(ms: number): Promise<void>
  /** Claims what is due until `stopping` aborts. */
  claimUntil(stopping: AbortSignal): Promise<void>
  /** Drops what has not been started: its lease is lost, or given back by others. */
  clear(): void
  /** Resolves when no attempt is running. */
  idle(): Promise<void>
  readonly held: number
}

interface Held {
  readonly delivery: InFlightDelivery
  readonly workerId: WorkerId
  readonly sinceMs: number
}

/** The deliveries of one binding that this worker holds. */
interface Line {
  readonly waiting: Held[]
  running: number
}

/** Most that a binding may have waiting in memory, so that one RP does not fill it. */
const WAITING_MAX = 512
/** Claimed ahead of need, in multiples of the binding's concurrency: enough to keep it busy for one round trip to the ledger. */
const CLAIM_AHEAD = 4
/** Held longer than this a delivery is given back: leases are searched for among what was leased lately. */
const HELD_MS_MAX = 60_000
const DEFAULT_CONCURRENCY = 16
const CLAIM_LIMIT = 1_000

/**
 * Holds what this worker has leased, one line for each binding, so that no RP waits for another; and claims from the
 * ledger what is due. While a binding has more due in the ledger than this worker can hold, what is new goes there too,
 * behind it.
 */
export function createDispatcher(deps: DispatcherDeps): Dispatcher {
  const { log, worker, heldMax, idleMs, monotonicMs } = deps
  const lines = new Map<BindingId, Line>()
  /** Bindings of which the ledger has more that is due. */
  const backlogged = new Set<BindingId>()
  let held = 0
  let wake: (() => void) | null = null
  let roomWaiters: (() => void)[] = []
  const idleWaiters: (() => void)[] = []

  const concurrencyOf = (id: BindingId) => deps.concurrencyOf(id) ?? DEFAULT_CONCURRENCY
  const inHand = (line: Line | undefined) => (line === undefined ? 0 : line.waiting.length + line.running)
  const claimable = (id: BindingId) => Math.max(0, concurrencyOf(id) * CLAIM_AHEAD - inHand(lines.get(id)))

  function start(id: BindingId, line: Line): void {
    const expired: Held[] = []
    while (line.running < concurrencyOf(id) && worker.alive()) {
      const next = line.waiting.shift()
      if (next === undefined) break
      if (monotonicMs() - next.sinceMs > HELD_MS_MAX) {
        expired.push(next)
        continue
      }
      line.running += 1
      void attempt(id, line, next)
    }
    if (expired.length > 0) void giveBack(expired)
  }

  async function attempt(id: BindingId, line: Line, { delivery, workerId }: Held): Promise<void> {
    try {
      await deps.attempt(delivery, workerId)
    } catch (error) {
      // A fault of ours, or the ledger gone while stopping: the lease runs out, and the delivery is attempted again.
      log.error({ event: 'delivery.attempt-failed', delivery_id: delivery.id, err: error })
    }
    line.running -= 1
    left(1)
    start(id, line)
    if (line.running === 0 && line.waiting.length === 0) lines.delete(id)
    if (backlogged.has(id) && claimable(id) >= concurrencyOf(id) * 2) wake?.()
  }

  async function giveBack(expired: readonly Held[]): Promise<void> {
    left(expired.length)
    const byWorker = Map.groupBy(expired, ({ workerId }) => workerId)
    for (const [workerId, ofWorker] of byWorker) {
      try {
        await deps.release(
          ofWorker.map(({ delivery }) => delivery),
          workerId,
        )
      } catch (error) {
        log.warn({ event: 'deliveries.release-failed', deliveries: ofWorker.length, err: error })
      }
    }
  }

  function left(count: number): void {
    held -= count
    if (held <= heldMax / 2) {
      for (const resolve of roomWaiters.splice(0)) resolve()
    }
    if (held === 0) {
      for (const resolve of idleWaiters.splice(0)) resolve()
    }
  }

  function accept(delivery: InFlightDelivery, workerId: WorkerId): void {
    const id = delivery.bindingId
    const line = lines.get(id) ?? { waiting: [], running: 0 }
    lines.set(id, line)
    held += 1
    line.waiting.push({ delivery, workerId, sinceMs: monotonicMs() })
    start(id, line)
  }

  /** @returns how many were claimed. */
  async function claimOnce(): Promise<number> {
    const limit = Math.min(CLAIM_LIMIT, heldMax - held)
    if (limit <= 0 || !worker.alive()) return 0
    const slots = new Map([...lines.keys(), ...backlogged].map((id) => [id, claimable(id)] as const))
    const workerId = worker.id()
    const claimed = await deps.claim({ slots, slotsElse: DEFAULT_CONCURRENCY, limit })
    const taken = Map.groupBy(claimed, ({ bindingId }) => bindingId)
    for (const id of backlogged) {
      const asked = slots.get(id) ?? 0
      if (asked > 0 && (taken.get(id)?.length ?? 0) < asked && claimed.length < limit) backlogged.delete(id)
    }
    for (const [id, deliveries] of taken) {
      if (deliveries.length >= (slots.get(id) ?? DEFAULT_CONCURRENCY)) backlogged.add(id)
      for (const delivery of deliveries) accept(delivery, workerId)
    }
    return claimed.length
  }

  return {
    get held() {
      return held
    },
    room(id) {
      if (backlogged.has(id) || !worker.alive()) return 0
      const room = Math.min(WAITING_MAX - (lines.get(id)?.waiting.length ?? 0), heldMax - held)
      if (room <= 0) backlogged.add(id)
      return Math.max(0, room)
    },
    accept,
    async waitForRoom(ms) {
      if (held <= heldMax / 2) return
      const { promise, resolve } = Promise.withResolvers<void>()
      const timer = setTimeout(resolve, ms)
      roomWaiters.push(resolve)
      await promise
      clearTimeout(timer)
      roomWaiters = roomWaiters.filter((waiter) => waiter !== resolve)
    },
    async claimUntil(stopping) {
      while (!stopping.aborted) {
        const woken = new AbortController()
        wake = () => woken.abort()
        let claimed = 0
        try {
          claimed = await claimOnce()
        } catch (error) {
          log.warn({ event: 'ledger.claim-failed', err: error })
        }
        // What waited for a beat of the heart goes on.
        for (const [id, line] of lines) start(id, line)
        const busy = [...backlogged].some((id) => claimable(id) >= concurrencyOf(id) * 2)
        // Without a pause only after progress: a ledger that is away or a lost lease must not make this spin.
        if (!busy || claimed === 0) await sleep(idleMs, AbortSignal.any([stopping, woken.signal]))
      }
    },
    clear() {
      for (const line of lines.values()) left(line.waiting.splice(0).length)
    },
    async idle() {
      if (held === 0) return
      const { promise, resolve } = Promise.withResolvers<void>()
      idleWaiters.push(resolve)
      await promise
    },
  }
}
