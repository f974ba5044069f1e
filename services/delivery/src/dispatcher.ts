import type { BindingId, DeliveryId, InFlightDelivery, Lane, WorkerId } from '@curfew/domain'
import type { ClaimRequest, Slots } from '@curfew/ledger'
import { type Log, sleep } from '@curfew/runtime'
import type { Round } from './attempt.ts'
import type { BulkPace } from './bulk-pace.ts'
import { createLine, type Held, type Limits, type Line } from './line.ts'
import type { Worker } from './worker.ts'

export interface DispatcherDeps {
  readonly log: Log
  /** The worker that leases are taken for, and whether they may be trusted now. */
  readonly worker: Pick<Worker, 'id' | 'alive' | 'leasing'>
  /** What this worker may do to a binding. */
  limitsOf(id: BindingId): Limits
  /** Bindings of which this worker may have nothing at all. */
  barred(): Iterable<BindingId>
  readonly bulkPace: Pick<BulkPace, 'available' | 'spend'>
  /** Leases what is due. */
  claim(request: Omit<ClaimRequest, 'now'>): Promise<readonly InFlightDelivery[]>
  /** Attempts one delivery. Never rejects for what an RP did. */
  attempt(delivery: InFlightDelivery): Promise<Round>
  /** Resolves when the ledger has what an attempt came to, or will never take it from this worker. */
  settle(delivery: InFlightDelivery, round: Round, workerId: WorkerId): Promise<void>
  /** Gives back what was not attempted under its lease. */
  release(deliveries: readonly InFlightDelivery[], workerId: WorkerId): Promise<void>
  /** Told when a binding was found to be down, at first or still; and when it answers again. */
  onBreaker(id: BindingId, state: 'opened' | 'closed'): void
  /** Makes due what waits for its next attempt at a binding that was down and has come back. */
  recovered(id: BindingId): Promise<void>
  /** Gives up on what has been due for too long at bindings that are known to be down. */
  giveUp(ids: readonly BindingId[]): Promise<void>
  /** Most deliveries in memory. */
  readonly heldMax: number
  /** Pause between two looks at what is due, in milliseconds. */
  readonly idleMs: number
  readonly monotonicMs: () => number
  /** Uniform in [0, 1). */
  readonly random: () => number
}

export interface Dispatcher {
  /** How many fresh deliveries a binding may be leased now. What is above goes to the ledger as pending. */
  room(id: BindingId, lane: Lane): number
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
  /** How many bindings are known to be down. */
  readonly open: number
}

const LANES: readonly Lane[] = ['interactive', 'bulk']
/** Most that a binding may have waiting in memory, so that one RP does not fill it. */
const WAITING_MAX = 1_024
/** The part of the free memory that one binding may take, so that however many RPs hang, some is left for the next. */
const SHARE = 1 / 4
/** The part of all memory that is kept for bindings with little in hand, and the part of what is free that one may take of it. */
const RESERVE = 1 / 4
const RESERVE_SHARE = 1 / 32
/** Claimed ahead of need, in multiples of the attempts at once: enough to keep a slow RP busy for one round trip to the ledger. */
const CLAIM_AHEAD = 4
/** The same in multiples of what ended since the last claim: a fast RP's backlog soon fits in memory, and is over. */
const CLAIM_AHEAD_OF_ENDED = 2
/** A binding with a rate has no more in memory than it takes in so long. */
const AHEAD_MS = 5_000
/** A delivery that waits longer than this in memory is given back: another worker may have a free slot for it. */
const HELD_MS_MAX = 60_000
const CLAIM_LIMIT = 1_000
/** Of each lane of a binding that nothing is known of here. */
const SLOTS_ELSE = 16
const GIVE_UP_EVERY_MS = 30_000

const isDown = ({ breaker }: Line) => breaker.state !== 'closed'

/**
 * Holds what this worker has leased, one line for each binding, so that no RP waits for another; and claims from the
 * ledger what is due. While a binding has more due in the ledger than this worker can hold, or is down, what is new goes
 * there too, behind it.
 */
export function createDispatcher(deps: DispatcherDeps): Dispatcher {
  const { log, worker, bulkPace, heldMax, idleMs, monotonicMs } = deps
  const lines = new Map<BindingId, Line>()
  /** Every delivery in a line, waiting or running. */
  const ids = new Set<DeliveryId>()
  /** Those of which the ledger is being told that they are given back. */
  const releasing = new Set<DeliveryId>()
  let held = 0
  let wake: (() => void) | null = null
  let gaveUpMs = monotonicMs()
  let firstInTurn: BindingId | null = null
  const roomWaiters = new Set<{ readonly atHeld: number; resolve(): void }>()
  const idleWaiters: (() => void)[] = []

  function lineOf(id: BindingId): Line {
    const known = lines.get(id)
    if (known !== undefined) return known
    const line = createLine({ limits: () => deps.limitsOf(id), monotonicMs, random: deps.random })
    lines.set(id, line)
    return line
  }
  /** Most that a binding may have in hand, when `free` are free for all. */
  const allowance = (line: Line, free: number) => {
    if (line.limit === 0) return 0
    const most = Math.max((free - heldMax * RESERVE) * SHARE, Math.min(line.limit, free * RESERVE_SHARE))
    return Math.floor(Math.min(WAITING_MAX, most, line.startable(AHEAD_MS)))
  }
  /** What it should have in hand while the ledger has more. */
  const wanted = (line: Line, free: number) => {
    if (isDown(line)) return line.limit
    const ahead = Math.max(line.limit * CLAIM_AHEAD, line.ended * CLAIM_AHEAD_OF_ENDED)
    return Math.min(ahead, allowance(line, free))
  }
  const hungry = (line: Line) => {
    if (!line.backlog.interactive && !line.backlog.bulk) return false
    const want = wanted(line, heldMax - held)
    return want > 0 && line.inHand <= want / 2
  }

  function start(id: BindingId, line: Line): void {
    giveBack(line, line.takeOlder(monotonicMs() - HELD_MS_MAX))
    while (worker.alive()) {
      const next = line.next()
      if (next === null) break
      void attempt(id, line, next)
    }
    if (line.quiet) lines.delete(id)
  }

  async function attempt(id: BindingId, line: Line, { delivery, workerId }: Held): Promise<void> {
    let round: Round | null = null
    let settling: Promise<void> | null = null
    try {
      round = await deps.attempt(delivery)
      settling = deps.settle(delivery, round, workerId)
    } catch (error) {
      failed(delivery, error)
    }
    // The RP is done with it: the next may go out while the ledger is told of this one.
    const { state: before } = line.breaker
    line.attempted(delivery.event.lane, round?.outcome ?? null)
    const { state } = line.breaker
    if (state === 'open') giveBack(line, line.takeWaiting())
    else if (before !== 'closed' && state === 'closed') recovered(id, line)
    if (before !== state && state !== 'half_open') deps.onBreaker(id, state === 'open' ? 'opened' : 'closed')
    start(id, line)
    try {
      await settling
    } catch (error) {
      failed(delivery, error)
    }
    line.settled()
    ids.delete(delivery.id)
    left(1)
    if (line.quiet) lines.delete(id)
    else if (hungry(line)) wake?.()
  }

  /** A fault of ours, or the ledger gone while stopping: it is not held any more, and so is attempted again. */
  function failed(delivery: InFlightDelivery, error: unknown): void {
    log.error({ event: 'delivery.attempt-failed', delivery_id: delivery.id, err: error })
  }

  /** To the ledger, where it waits behind what waits there; it has cost no attempt. */
  function giveBack(line: Line, back: readonly Held[]): void {
    if (back.length === 0) return
    for (const { delivery } of back) {
      line.backlog[delivery.event.lane] = true
      ids.delete(delivery.id)
    }
    left(back.length)
    for (const [workerId, ofWorker] of Map.groupBy(back, (one) => one.workerId)) {
      const deliveries = ofWorker.map(({ delivery }) => delivery)
      void release(deliveries, workerId)
    }
  }

  async function release(deliveries: readonly InFlightDelivery[], workerId: WorkerId): Promise<void> {
    for (const { id } of deliveries) releasing.add(id)
    try {
      await deps.release(deliveries, workerId)
    } catch (error) {
      // It is not held any more: the worker's next heartbeat finds it.
      log.warn({ event: 'deliveries.release-failed', deliveries: deliveries.length, err: error })
    } finally {
      for (const { id } of deliveries) releasing.delete(id)
    }
  }

  function recovered(id: BindingId, line: Line): void {
    for (const lane of LANES) line.backlog[lane] = true
    deps.recovered(id).then(
      () => wake?.(),
      // What waits is due by its schedule, later.
      (error: unknown) => log.warn({ event: 'deliveries.bring-forward-failed', binding_id: id, err: error }),
    )
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
    const line = lineOf(delivery.bindingId)
    held += 1
    ids.add(delivery.id)
    line.push({ delivery, workerId, sinceMs: monotonicMs() })
    start(delivery.bindingId, line)
  }

  /** The lines, beginning with the last that had its fill: who came too short this time comes first the next. */
  function inTurn(): readonly (readonly [BindingId, Line])[] {
    const all = [...lines]
    const place = all.findIndex(([id]) => id === firstInTurn)
    return place <= 0 ? all : [...all.slice(place), ...all.slice(0, place)]
  }

  /** How many to claim of each binding that is known here, at most `budget` in all, and `bulk` of the bulk lane. */
  function slotsWithin(budget: number, bulk: number): ReadonlyMap<BindingId, Slots> {
    const slots = new Map<BindingId, Slots>()
    for (const id of deps.barred()) slots.set(id, { interactive: 0, bulk: 0 })
    let asked = 0
    let bulkAsked = 0
    for (const [id, line] of inTurn()) {
      if (slots.has(id)) continue
      const missing = wanted(line, heldMax - held - asked) - line.inHand
      const ask = (lane: Lane, most: number) => {
        // One at least of those not known to have more: what a full line sent to the ledger must not wait there unseen.
        const least = line.backlog[lane] || isDown(line) ? 0 : 1
        return Math.max(0, Math.min(Math.max(missing, least), most))
      }
      const interactive = ask('interactive', budget - asked)
      const ofBulk = ask('bulk', Math.min(budget - asked - interactive, bulk - bulkAsked))
      slots.set(id, { interactive, bulk: ofBulk })
      asked += interactive + ofBulk
      bulkAsked += ofBulk
      if (asked < budget) firstInTurn = id
    }
    return slots
  }

  /** @returns how many were claimed. */
  async function claimOnce(): Promise<number> {
    // Never all that is free: what turns up next must not find memory full of what hangs.
    const limit = Math.min(CLAIM_LIMIT, Math.floor((heldMax - held) / 2))
    if (limit <= 0 || !worker.alive()) return 0
    const bulk = bulkPace.available('due')
    // A quarter is left to bindings that nothing is known of here.
    const slots = slotsWithin(Math.ceil(limit * (1 - SHARE)), Math.ceil(bulk * (1 - SHARE)))
    const most = Math.min(SLOTS_ELSE, Math.ceil(limit * RESERVE_SHARE))
    const slotsElse = { interactive: most, bulk: Math.min(most, bulk) }
    for (const line of lines.values()) line.ended = 0
    return worker.leasing(async (lease) => {
      const claimed = await deps.claim({ lease, slots, slotsElse, limit })
      take(claimed, lease.workerId, { slots, slotsElse, limit })
      return claimed.length
    })
  }

  /** Takes what was claimed, and learns from it which bindings have more. */
  function take(
    claimed: readonly InFlightDelivery[],
    workerId: WorkerId,
    { slots, slotsElse, limit }: Pick<ClaimRequest, 'slots' | 'slotsElse' | 'limit'>,
  ): void {
    bulkPace.spend('due', claimed.filter(({ event }) => event.lane === 'bulk').length)
    for (const lane of LANES) {
      const ofLane = claimed.filter(({ event }) => event.lane === lane)
      noteBacklog(
        lane,
        Map.groupBy(ofLane, ({ bindingId }) => bindingId),
        {
          slots,
          slotsElse,
          full: claimed.length >= limit,
        },
      )
    }
    for (const delivery of claimed) accept(delivery, workerId)
  }

  /** Learns from a claim which bindings have more: those of which all came that were asked for. */
  function noteBacklog(
    lane: Lane,
    taken: ReadonlyMap<BindingId, readonly InFlightDelivery[]>,
    { slots, slotsElse, full }: { slots: ReadonlyMap<BindingId, Slots>; slotsElse: Slots; full: boolean },
  ): void {
    for (const [id, line] of lines) {
      const asked = slots.get(id)?.[lane] ?? 0
      if (asked > 0 && (taken.get(id)?.length ?? 0) < asked && !full) line.backlog[lane] = false
    }
    for (const [id, deliveries] of taken) {
      if (deliveries.length >= (slots.get(id) ?? slotsElse)[lane]) lineOf(id).backlog[lane] = true
    }
  }

  /** Of what is known to be down, now and then, what nobody could try for too long. */
  async function giveUp(): Promise<void> {
    if (monotonicMs() - gaveUpMs < GIVE_UP_EVERY_MS) return
    gaveUpMs = monotonicMs()
    const down = [...lines].filter(([, line]) => isDown(line)).map(([id]) => id)
    if (down.length > 0) await deps.giveUp(down)
  }

  return {
    get held() {
      return held
    },
    ids: () => [...ids, ...releasing],
    get free() {
      return Math.max(0, heldMax - held)
    },
    get open() {
      return [...lines.values()].filter(isDown).length
    },
    room(id, lane) {
      if (!worker.alive()) return 0
      const line = lineOf(id)
      if (line.backlog[lane]) return 0
      const room = isDown(line) ? 0 : allowance(line, heldMax - held) - line.inHand
      if (room <= 0) line.backlog[lane] = true
      return Math.max(0, room)
    },
    accept,
    async waitForRoom(ms) {
      const nowMs = monotonicMs()
      const moving = [...lines.values()].filter(({ endedMs }) => nowMs - endedMs <= ms)
      const excess = moving.reduce((sum, line) => sum + line.inHand, 0) - heldMax / 2
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
        // What waited for a beat of the heart, or for its rate, goes on.
        for (const [id, line] of lines) start(id, line)
        let claimed = 0
        try {
          claimed = await claimOnce()
          await giveUp()
        } catch (error) {
          log.warn({ event: 'ledger.claim-failed', err: error })
        }
        const busy = [...lines.values()].some(hungry)
        // Without a pause only after progress: a ledger that is away or a lost lease must not make this spin.
        if (!busy || claimed === 0) await sleep(idleMs, AbortSignal.any([stopping, woken.signal]))
      }
    },
    clear() {
      for (const [id, line] of lines) {
        const dropped = line.takeWaiting()
        for (const { delivery } of dropped) ids.delete(delivery.id)
        left(dropped.length)
        if (line.quiet) lines.delete(id)
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
