import {
  type BindingId,
  createFairTurns,
  type DeliveryId,
  type InFlightDelivery,
  type Issuer,
  type Lane,
  shareLeft,
} from '@curfew/domain'
import type { ClaimRequest, Lease, Slots } from '@curfew/ledger'
import { type Log, sleep } from '@curfew/runtime'
import type { Round } from '../attempt/attempt.ts'
import type { Worker } from '../worker/worker.ts'
import { breathe } from './breathe.ts'
import type { BulkPace } from './bulk-pace.ts'
import { createClaimTurns } from './claim-turns.ts'
import { createIssuerShares } from './issuer-shares.ts'
import { createLine, type Held, type Limits, type Line } from './line.ts'

export interface DispatcherDeps {
  readonly log: Log
  /** The worker that leases are taken for, and whether they may be trusted now. */
  readonly worker: Pick<Worker, 'id' | 'alive' | 'leasing' | 'took'>
  /** What this worker may do to a binding. */
  limitsOf(id: BindingId): Limits
  /** Bindings of which this worker may have nothing at all. */
  barred(): Iterable<BindingId>
  /** The bindings of an issuer's relying parties. */
  bindingsOf(issuer: Issuer): Iterable<BindingId>
  readonly bulkPace: Pick<BulkPace, 'available' | 'spend'>
  /** Leases what is due. */
  claim(request: Omit<ClaimRequest, 'now'>): Promise<readonly InFlightDelivery[]>
  /** Attempts one delivery. Never rejects for what an RP did. */
  attempt(delivery: InFlightDelivery): Promise<Round>
  /** Resolves when the ledger has what an attempt came to, or will never take it from this worker. */
  settle(delivery: InFlightDelivery, round: Round, lease: Lease): Promise<void>
  /** Gives back what was not attempted under its lease, all of one worker id. */
  release(held: readonly Held[]): Promise<void>
  /** Told when a binding was found to be down, at first or still; and when it answers again. */
  onBreaker(id: BindingId, state: 'opened' | 'closed'): void
  /** Makes due what waits for its next attempt at a binding that was down and has come back. */
  recovered(id: BindingId): Promise<void>
  /** Gives up on what has been due for too long at bindings that are known to be down. */
  giveUp(ids: readonly BindingId[]): Promise<void>
  /** Most deliveries in memory. */
  readonly heldMax: number
  /** Most attempts under way. */
  readonly attemptsMax: number
  /**
   * Attempts begun before all else that waits for the processor gets its turn. An attempt signs and posts at once: without this,
   * ten thousand that come together would run one after the other, and the process would do nothing else meanwhile.
   */
  readonly startsPerTurn: number
  /** Pause between two looks at what is due, in milliseconds. */
  readonly idleMs: number
  readonly monotonicMs: () => number
  /** Uniform in [0, 1). */
  readonly random: () => number
}

export interface Dispatcher {
  /** How many fresh deliveries a binding may be leased now. What is above goes to the ledger as pending. */
  room(id: BindingId, lane: Lane, issuer: Issuer): number
  /** Takes a delivery that is leased to this worker, and attempts it when its binding has a free slot. Drops it when the worker's leases were lost meanwhile. */
  accept(delivery: InFlightDelivery, lease: Lease): void
  /** Takes all that a lease gave, as `accept` does each. Of thousands, a few are taken at a time, while all count as held from the call on. */
  acceptAll(deliveries: readonly InFlightDelivery[], lease: Lease): Promise<void>
  /**
   * Resolves when there is room for a batch, or after `ms`: never longer, for the way in waits for no RP. What is held for
   * RPs that have not ended an attempt within the last `ms` is not counted: waiting would not make room.
   *
   * @param issuers whose deliveries count. Default: all.
   */
  waitForRoom(ms: number, issuers?: ReadonlySet<Issuer>): Promise<void>
  /** Claims what is due until `stopping` aborts. */
  claimUntil(stopping: AbortSignal): Promise<void>
  /** Drops what has not been started: its lease is lost, or given back by others. */
  clear(): void
  /** Resolves when no attempt is running. */
  idle(): Promise<void>
  readonly held: number
  /** How many more may be held, of all bindings together. */
  readonly free: number
  /** How many more may be held of one issuer's. */
  freeOf(issuer: Issuer): number
  /** Attempts under way. */
  readonly running: number
  /** The most attempts that one issuer has under way. */
  readonly mostRunning: number
  /** What is held, from the lease to the ledger's having the outcome. */
  ids(): readonly DeliveryId[]
  /** How many bindings are known to be down. */
  readonly open: number
  /** Whether a binding is known to be unavailable. */
  isUnavailable(id: BindingId): boolean
}

const LANES: readonly Lane[] = ['interactive', 'bulk']
/** Most that a binding may have waiting in memory, so that one RP does not fill it. */
const WAITING_MAX = 1_024
/** The part of its issuer's free memory that one binding may take, so that however many RPs hang, some is left for the next. */
const SHARE = 1 / 4
/** The part of its issuer's memory that is kept for bindings with little in hand, and the part of what is free that one may take of it. */
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
/** Attempts that begin in one turn while several issuers have deliveries: shorter turns, so that the logouts of one wait less for those of another. */
const STARTS_OF_SEVERAL = 16
/** Of its part of the memory: an issuer with less room than that does not hurry the next claim. */
const HUNGRY_PART = 1 / 8
const NONE: Slots = { interactive: 0, bulk: 0 }
/** Of each lane of a binding that nothing is known of here. */
const SLOTS_ELSE = 16
const GIVE_UP_EVERY_MS = 30_000
const ACCEPT_SLICE = 50
/** Bindings that are looked at before all else that waits for the processor gets its turn. */
const SWEEP_SLICE = 250
/** The part that one binding may have of the attempts that it has under way and of those that its issuer may begin. */
const BINDING_PART = 1 / 16

const isDown = ({ breaker }: Line) => breaker.state !== 'closed'

/**
 * Holds what this worker has leased, one line for each binding, so that no RP waits for another; and claims from the
 * ledger what is due. While a binding has more due in the ledger than this worker can hold, or is down, what is new goes
 * there too, behind it.
 */
export function createDispatcher(deps: DispatcherDeps): Dispatcher {
  const { log, worker, bulkPace, heldMax, attemptsMax, startsPerTurn, idleMs, monotonicMs } = deps
  const lines = new Map<BindingId, Line>()
  /** Every delivery in a line, waiting or running. */
  const ids = new Set<DeliveryId>()
  /** Those of which the ledger is being told that they are given back. */
  const releasing = new Set<DeliveryId>()
  const shares = createIssuerShares({ heldMax, attemptsMax, monotonicMs })
  const turns = createFairTurns<Issuer, BindingId>()
  const claims = createClaimTurns(deps.bindingsOf)
  let startsLeft = startsPerTurn
  let wake: (() => void) | null = null
  let gaveUpMs = monotonicMs()
  const roomWaiters = new Set<{ readonly atHeld: number; resolve(): void }>()
  const idleWaiters: (() => void)[] = []

  function lineOf(id: BindingId, issuer: Issuer): Line {
    const known = lines.get(id)
    if (known !== undefined) return known
    const line = createLine({ issuer, limits: () => deps.limitsOf(id), monotonicMs, random: deps.random })
    lines.set(id, line)
    return line
  }
  /** Most that a binding may have in hand, when `free` are free for its issuer. */
  const allowance = (line: Line, free: number) => {
    if (line.limit === 0) return 0
    const reserve = shares.partOf(line.issuer) * RESERVE
    const most = Math.max((free - reserve) * SHARE, Math.min(line.limit, free * RESERVE_SHARE))
    return Math.floor(Math.min(WAITING_MAX, most, line.startableWithin(AHEAD_MS)))
  }
  /** What it should have in hand while the ledger has more. */
  const wanted = (line: Line, free: number) => {
    if (isDown(line)) return line.limit
    const ahead = Math.max(line.limit * CLAIM_AHEAD, line.ended * CLAIM_AHEAD_OF_ENDED)
    return Math.min(ahead, allowance(line, free))
  }
  const hungry = (line: Line) => {
    if (!line.backlog.interactive && !line.backlog.bulk) return false
    const { issuer } = line
    // A claim costs as much for one delivery as for many: an issuer that has nearly its part waits until there is room for some.
    if (shares.roomOf(issuer) < shares.partOf(issuer) * HUNGRY_PART) return false
    const want = wanted(line, shares.roomOf(line.issuer))
    return want > 0 && line.inHand <= want / 2
  }

  function start(id: BindingId, line: Line): void {
    giveBack(line, line.takeOlder(monotonicMs() - HELD_MS_MAX))
    queue(id, line)
    startNext()
    if (line.quiet) lines.delete(id)
  }

  function queue(id: BindingId, line: Line): void {
    if (line.startable) turns.add(line.issuer, id)
  }

  /** Begins what may begin, issuer by issuer, and in each of them binding by binding. */
  function startNext(): void {
    while (startsLeft > 0 && worker.alive()) {
      const id = turns.next((issuer) => shares.attemptsOf(issuer) > 0)
      if (id === null) return
      const line = lines.get(id)
      const next = line === undefined || !hasSlot(line) ? null : line.next()
      // It comes again when one of its own has ended, and with each look at the ledger.
      if (line === undefined || next === null) continue
      startsLeft -= 1
      if (startsLeft === 0) setImmediate(nextTurn)
      queue(id, line)
      void attempt(id, line, next)
    }
  }

  /** Where many relying parties of an issuer hang, none of them takes what is left to the others. */
  const hasSlot = ({ running, issuer }: Line) =>
    shareLeft(running, shares.attemptsOf(issuer), BINDING_PART) > 0

  function nextTurn(): void {
    startsLeft = shares.shared ? Math.min(startsPerTurn, STARTS_OF_SEVERAL) : startsPerTurn
    startNext()
  }

  async function attempt(id: BindingId, line: Line, { delivery, lease }: Held): Promise<void> {
    const { issuer } = line
    let round: Round | null = null
    let settling: Promise<void> | null = null
    shares.run(issuer, 1)
    try {
      round = await deps.attempt(delivery)
      settling = deps.settle(delivery, round, lease)
    } catch (error) {
      failed(delivery, error)
    }
    // The RP is done with it: the next may go out while the ledger is told of this one.
    const { state: before } = line.breaker
    line.attempted(delivery.event.lane, round?.outcome ?? null)
    shares.run(issuer, -1)
    turns.recall(issuer)
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
    left(issuer, 1)
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
    left(line.issuer, back.length)
    for (const ofWorker of Map.groupBy(back, ({ lease }) => lease.workerId).values()) void release(ofWorker)
  }

  async function release(held: readonly Held[]): Promise<void> {
    for (const { delivery } of held) releasing.add(delivery.id)
    try {
      await deps.release(held)
    } catch (error) {
      // It is not held any more: the worker's next heartbeat finds it.
      log.warn({ event: 'deliveries.release-failed', deliveries: held.length, err: error })
    } finally {
      for (const { delivery } of held) releasing.delete(delivery.id)
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

  function left(issuer: Issuer, count: number): void {
    shares.hold(issuer, -count)
    const { held } = shares
    for (const waiter of roomWaiters) if (held <= waiter.atHeld) waiter.resolve()
    if (held === 0) {
      for (const resolve of idleWaiters.splice(0)) resolve()
    }
  }

  function accept(delivery: InFlightDelivery, lease: Lease): void {
    if (lease.workerId !== worker.id()) return
    hold(delivery)
    take(delivery, lease)
  }

  function hold({ id, event }: InFlightDelivery): void {
    shares.hold(event.iss, 1)
    ids.add(id)
  }

  function take(delivery: InFlightDelivery, lease: Lease): void {
    const line = lineOf(delivery.bindingId, delivery.event.iss)
    line.push({ delivery, lease, sinceMs: monotonicMs() })
    start(delivery.bindingId, line)
  }

  /** Tells the worker which deliveries a lease gave; they are held from then on. */
  function noteTaken(deliveries: readonly InFlightDelivery[], lease: Lease): void {
    worker.took(
      lease,
      deliveries.map(({ id }) => id),
    )
  }

  async function acceptAll(deliveries: readonly InFlightDelivery[], lease: Lease): Promise<void> {
    if (lease.workerId !== worker.id()) return
    noteTaken(deliveries, lease)
    for (const delivery of deliveries) hold(delivery)
    for (const [index, delivery] of deliveries.entries()) {
      if (index > 0 && index % ACCEPT_SLICE === 0) await breathe()
      if (lease.workerId === worker.id()) take(delivery, lease)
      else {
        // Its lease was lost meanwhile.
        ids.delete(delivery.id)
        left(delivery.event.iss, 1)
      }
    }
  }

  /** How many to claim of each binding that is known here, at most `budget` in all, and `bulk` of the bulk lane. */
  function slotsWithin(budget: number, bulk: number): ReadonlyMap<BindingId, Slots> {
    const slots = new Map<BindingId, Slots>()
    for (const id of deps.barred()) slots.set(id, NONE)
    let asked = 0
    let bulkAsked = 0
    const askedOf = new Map<Issuer, number>()
    for (const [id, line] of claims.inOrder(lines)) {
      if (slots.has(id)) continue
      if (asked >= budget) {
        slots.set(id, NONE)
        continue
      }
      const { issuer } = line
      const before = askedOf.get(issuer) ?? 0
      const free = Math.min(heldMax - shares.held - asked, shares.roomOf(issuer) - before)
      const missing = wanted(line, free) - line.inHand
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
      askedOf.set(issuer, before + interactive + ofBulk)
      if (asked < budget) claims.filled(id, line)
    }
    for (const id of claims.resting()) if (!slots.has(id)) slots.set(id, NONE)
    return slots
  }

  /** @returns how many were claimed. */
  async function claimOnce(): Promise<number> {
    // Never all that is free: what turns up next must not find memory full of what hangs.
    const limit = Math.min(CLAIM_LIMIT, Math.floor((heldMax - shares.held) / 2))
    if (limit <= 0 || !worker.alive()) return 0
    const bulk = bulkPace.available('due')
    // A quarter is left to bindings that nothing is known of here.
    const slots = slotsWithin(Math.ceil(limit * (1 - SHARE)), Math.ceil(bulk * (1 - SHARE)))
    const most = Math.min(SLOTS_ELSE, Math.ceil(limit * RESERVE_SHARE))
    const slotsElse = { interactive: most, bulk: Math.min(most, bulk) }
    for (const line of lines.values()) line.ended = 0
    return worker.leasing(async (lease) => {
      const known = new Set(lines.keys())
      const claimed = await deps.claim({ lease, slots, slotsElse, limit, after: claims.after })
      claims.claimed(
        claimed.filter(({ bindingId }) => !known.has(bindingId)),
        claimed.length >= limit,
      )
      noteTaken(claimed, lease)
      takeClaimed(claimed, lease, { slots, slotsElse, limit })
      return claimed.length
    })
  }

  /** Takes what was claimed, and learns from it which bindings have more. */
  function takeClaimed(
    claimed: readonly InFlightDelivery[],
    lease: Lease,
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
    for (const delivery of claimed) accept(delivery, lease)
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
      const [first] = deliveries
      if (first === undefined || deliveries.length < (slots.get(id) ?? slotsElse)[lane]) continue
      lineOf(id, first.event.iss).backlog[lane] = true
    }
  }

  /** Goes on with what waited for a beat of the heart, or for its rate. */
  async function sweep(): Promise<void> {
    let seen = 0
    for (const [id, line] of [...lines]) {
      seen += 1
      if (seen % SWEEP_SLICE === 0) await breathe()
      if (lines.get(id) === line) start(id, line)
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
      return shares.held
    },
    freeOf: shares.roomOf,
    get running() {
      return shares.running
    },
    get mostRunning() {
      return shares.mostRunning
    },
    ids: () => [...ids, ...releasing],
    get free() {
      return Math.max(0, heldMax - shares.held)
    },
    get open() {
      return [...lines.values()].filter(isDown).length
    },
    isUnavailable(id) {
      const line = lines.get(id)
      return line !== undefined && isDown(line)
    },
    room(id, lane, issuer) {
      if (!worker.alive()) return 0
      const line = lineOf(id, issuer)
      if (line.backlog[lane]) return 0
      const room = isDown(line) ? 0 : allowance(line, shares.roomOf(issuer)) - line.inHand
      if (room <= 0) line.backlog[lane] = true
      return Math.max(0, room)
    },
    accept,
    acceptAll,
    async waitForRoom(ms, issuers) {
      const nowMs = monotonicMs()
      const moving = [...lines.values()].filter(
        ({ endedMs, issuer }) => nowMs - endedMs <= ms && (issuers?.has(issuer) ?? true),
      )
      const excess = moving.reduce((sum, line) => sum + line.inHand, 0) - heldMax / 2
      if (excess <= 0) return
      const { promise, resolve } = Promise.withResolvers<void>()
      const timer = setTimeout(resolve, ms)
      const waiter = { atHeld: shares.held - excess, resolve }
      roomWaiters.add(waiter)
      await promise
      clearTimeout(timer)
      roomWaiters.delete(waiter)
    },
    async claimUntil(stopping) {
      while (!stopping.aborted) {
        const woken = new AbortController()
        wake = () => woken.abort()
        let claimed = 0
        try {
          await sweep()
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
        left(line.issuer, dropped.length)
        if (line.quiet) lines.delete(id)
      }
    },
    async idle() {
      if (shares.held === 0) return
      const { promise, resolve } = Promise.withResolvers<void>()
      idleWaiters.push(resolve)
      await promise
    },
  }
}
