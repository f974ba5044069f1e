import type { BindingId, DeliveryId, InFlightDelivery, WorkerId } from '@curfew/domain'
import { type Log, sleep } from '@curfew/runtime'
import type { Round } from './attempt.ts'

export interface DispatcherDeps {
  readonly log: Log
  /** The worker that leases are taken for, and whether they may be trusted now. */
  readonly worker: { id(): WorkerId; alive(): boolean; doubt(): void }
  /** Most POSTs at once to a binding; undefined for one that is no longer registered. */
  concurrencyOf(id: BindingId): number | undefined
  /** Leases what is due. `slots`: how many of each binding that has some in hand; `slotsElse`: of any other. */
  claim(request: {
    slots: ReadonlyMap<BindingId, number>
    slotsElse: number
    limit: number
  }): Promise<readonly InFlightDelivery[]>
  /** Attempts one delivery. Never rejects for what an RP did. */
  attempt(delivery: InFlightDelivery): Promise<Round>
  /** Resolves when the ledger has what an attempt came to, or will never take it from this worker. */
  settle(delivery: InFlightDelivery, round: Round, workerId: WorkerId): Promise<void>
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
  /** Takes a delivery that is leased to `workerId`, and attempts it when its binding has a free slot. Drops it when that worker's leases were lost meanwhile. */
  accept(delivery: InFlightDelivery, workerId: WorkerId): void
  /**
   * Resolves when there is room for a batch, or after `ms`: never longer, for the way in waits for no RP. What is held for
   * RPs that have not ended an attempt within the last `ms` is not counted: waiting would not make room.
   */
  waitForRoom(ms: number): Promise<void>
  /** Claims what is due until `stopping` aborts. */
  claimUntil(stopping: AbortSignal): Promise<void>
  /** Drops what has not been started: its lease is lost, or given back by others. */
  clear(): void
  /** Resolves when no attempt is running. */
  idle(): Promise<void>
  readonly held: number
  /** How many more may be held, of all bindings together. */
  readonly free: number
  /** What is held, from the lease to the ledger's having the outcome. */
  ids(): readonly DeliveryId[]
}

interface Held {
  readonly delivery: InFlightDelivery
  readonly workerId: WorkerId
  readonly sinceMs: number
}

/** The deliveries of one binding that this worker holds. */
interface Line {
  readonly waiting: Held[]
  /** Attempts under way. */
  running: number
  /** Attempts that have ended and that the ledger does not have yet. */
  settling: number
  /** When an attempt of it last ended. */
  endedMs: number
  /** Attempts that have ended since the ledger was last asked for more. */
  ended: number
}

/** Most that a binding may have waiting in memory, so that one RP does not fill it. */
const WAITING_MAX = 1_024
/** The part of the free memory that one binding may take, so that however many RPs hang, some is left for the next. */
const SHARE = 1 / 4
/** The part of all memory that is kept for bindings with little in hand, and the part of what is free that one may take of it. */
const RESERVE = 1 / 4
const RESERVE_SHARE = 1 / 32
/** Claimed ahead of need, in multiples of the binding's concurrency: enough to keep a slow RP busy for one round trip to the ledger. */
const CLAIM_AHEAD = 4
/** The same in multiples of what ended since the last claim: a fast RP's backlog soon fits in memory, and is over. */
const CLAIM_AHEAD_OF_ENDED = 2
/** Held longer than this a delivery is given back: leases are searched for among what was leased lately. */
const HELD_MS_MAX = 60_000
const DEFAULT_CONCURRENCY = 16
const CLAIM_LIMIT = 1_000

const newLine = (): Line => ({
  waiting: [],
  running: 0,
  settling: 0,
  endedMs: Number.NEGATIVE_INFINITY,
  ended: 0,
})

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
  /** Every delivery in a line, waiting or running. */
  const ids = new Set<DeliveryId>()
  let held = 0
  let wake: (() => void) | null = null
  const roomWaiters = new Set<{ readonly atHeld: number; resolve(): void }>()
  const idleWaiters: (() => void)[] = []

  const concurrencyOf = (id: BindingId) => deps.concurrencyOf(id) ?? DEFAULT_CONCURRENCY
  const inHand = (line: Line | undefined) =>
    line === undefined ? 0 : line.waiting.length + line.running + line.settling
  /** Most that a binding may have in hand, when `free` are free for all. */
  const allowance = (id: BindingId, free: number) =>
    Math.floor(
      Math.max((free - heldMax * RESERVE) * SHARE, Math.min(concurrencyOf(id), free * RESERVE_SHARE)),
    )
  /** What it should have in hand while the ledger has more. */
  const wanted = (id: BindingId, free: number) => {
    const ahead = (lines.get(id)?.ended ?? 0) * CLAIM_AHEAD_OF_ENDED
    return Math.min(Math.max(concurrencyOf(id) * CLAIM_AHEAD, ahead), WAITING_MAX, allowance(id, free))
  }
  const hungry = (id: BindingId) => {
    const want = wanted(id, heldMax - held)
    return want > 0 && inHand(lines.get(id)) <= want / 2
  }

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
    if (expired.length > 0) {
      backlogged.add(id)
      void giveBack(expired)
    }
    if (inHand(line) === 0) lines.delete(id)
  }

  async function attempt(id: BindingId, line: Line, { delivery, workerId }: Held): Promise<void> {
    let settling: Promise<void> | null = null
    try {
      const round = await deps.attempt(delivery)
      settling = deps.settle(delivery, round, workerId)
    } catch (error) {
      failed(delivery, error)
    }
    // The RP is done with it: the next may go out while the ledger is told of this one.
    line.running -= 1
    line.settling += 1
    line.endedMs = monotonicMs()
    line.ended += 1
    start(id, line)
    try {
      await settling
    } catch (error) {
      failed(delivery, error)
    }
    line.settling -= 1
    ids.delete(delivery.id)
    left(1)
    if (inHand(line) === 0) lines.delete(id)
    if (backlogged.has(id) && hungry(id)) wake?.()
  }

  /** A fault of ours, or the ledger gone while stopping: the lease runs out, and the delivery is attempted again. */
  function failed(delivery: InFlightDelivery, error: unknown): void {
    log.error({ event: 'delivery.attempt-failed', delivery_id: delivery.id, err: error })
    worker.doubt()
  }

  async function giveBack(expired: readonly Held[]): Promise<void> {
    for (const { delivery } of expired) ids.delete(delivery.id)
    left(expired.length)
    const byWorker = Map.groupBy(expired, ({ workerId }) => workerId)
    for (const [workerId, ofWorker] of byWorker) {
      try {
        await deps.release(
          ofWorker.map(({ delivery }) => delivery),
          workerId,
        )
      } catch (error) {
        worker.doubt()
        log.warn({ event: 'deliveries.release-failed', deliveries: ofWorker.length, err: error })
      }
    }
  }

  function left(count: number): void {
    held -= count
    for (const waiter of roomWaiters) if (held <= waiter.atHeld) waiter.resolve()
    if (held === 0) {
      for (const resolve of idleWaiters.splice(0)) resolve()
    }
  }

  function accept(delivery: InFlightDelivery, workerId: WorkerId): void {
    if (workerId !== worker.id()) return
    const id = delivery.bindingId
    const line = lines.get(id) ?? newLine()
    lines.set(id, line)
    held += 1
    ids.add(delivery.id)
    line.waiting.push({ delivery, workerId, sinceMs: monotonicMs() })
    start(id, line)
  }

  /** How many to claim of each binding that is known here, at most `budget` in all. */
  function slotsWithin(budget: number): ReadonlyMap<BindingId, number> {
    const slots = new Map<BindingId, number>()
    let asked = 0
    for (const id of new Set([...lines.keys(), ...backlogged])) {
      // One at least of those not known to have more: what a full line sent to the ledger must not wait there unseen.
      const least = backlogged.has(id) ? 0 : 1
      const missing = wanted(id, heldMax - held - asked) - inHand(lines.get(id))
      const ask = Math.min(Math.max(missing, least), budget - asked)
      slots.set(id, ask)
      asked += ask
    }
    return slots
  }

  /** @returns how many were claimed. */
  async function claimOnce(): Promise<number> {
    // Never all that is free: what turns up next must not find memory full of what hangs.
    const limit = Math.min(CLAIM_LIMIT, Math.floor((heldMax - held) / 2))
    if (limit <= 0 || !worker.alive()) return 0
    // A quarter is left to bindings that nothing is known of here.
    const slots = slotsWithin(Math.ceil(limit * (1 - SHARE)))
    const slotsElse = Math.min(DEFAULT_CONCURRENCY, Math.ceil(limit * RESERVE_SHARE))
    const workerId = worker.id()
    for (const line of lines.values()) line.ended = 0
    const claimed = await deps.claim({ slots, slotsElse, limit })
    const taken = Map.groupBy(claimed, ({ bindingId }) => bindingId)
    for (const id of backlogged) {
      const asked = slots.get(id) ?? 0
      if (asked > 0 && (taken.get(id)?.length ?? 0) < asked && claimed.length < limit) backlogged.delete(id)
    }
    for (const [id, deliveries] of taken) {
      if (deliveries.length >= (slots.get(id) ?? slotsElse)) backlogged.add(id)
      for (const delivery of deliveries) accept(delivery, workerId)
    }
    return claimed.length
  }

  return {
    get held() {
      return held
    },
    ids: () => [...ids],
    get free() {
      return Math.max(0, heldMax - held)
    },
    room(id) {
      if (backlogged.has(id) || !worker.alive()) return 0
      const room = Math.min(WAITING_MAX, allowance(id, heldMax - held)) - inHand(lines.get(id))
      if (room <= 0) backlogged.add(id)
      return Math.max(0, room)
    },
    accept,
    async waitForRoom(ms) {
      const nowMs = monotonicMs()
      const moving = [...lines.values()].filter(({ endedMs }) => nowMs - endedMs <= ms)
      const excess = moving.reduce((sum, line) => sum + inHand(line), 0) - heldMax / 2
      if (excess <= 0) return
      const { promise, resolve } = Promise.withResolvers<void>()
      const timer = setTimeout(resolve, ms)
      const waiter = { atHeld: held - excess, resolve }
      roomWaiters.add(waiter)
      await promise
      clearTimeout(timer)
      roomWaiters.delete(waiter)
    },
    async claimUntil(stopping) {
      while (!stopping.aborted) {
        const woken = new AbortController()
        wake = () => woken.abort()
        // What waited for a beat of the heart goes on.
        for (const [id, line] of lines) start(id, line)
        let claimed = 0
        try {
          claimed = await claimOnce()
        } catch (error) {
          worker.doubt()
          log.warn({ event: 'ledger.claim-failed', err: error })
        }
        const busy = [...backlogged].some(hungry)
        // Without a pause only after progress: a ledger that is away or a lost lease must not make this spin.
        if (!busy || claimed === 0) await sleep(idleMs, AbortSignal.any([stopping, woken.signal]))
      }
    },
    clear() {
      for (const [id, line] of lines) {
        const dropped = line.waiting.splice(0)
        for (const { delivery } of dropped) ids.delete(delivery.id)
        left(dropped.length)
        if (inHand(line) === 0) lines.delete(id)
      }
    },
    async idle() {
      if (held === 0) return
      const { promise, resolve } = Promise.withResolvers<void>()
      idleWaiters.push(resolve)
      await promise
    },
  }
}
