import {
  type BindingId,
  DEFAULT_RETRY_POLICY,
  horizonMs,
  type InFlightDelivery,
  type Issuer,
  type Lane,
} from '@curfew/domain'
import type { ClaimRequest, DeliveryLedger, Lease, Slots } from '@curfew/ledger'
import { type Log, sleep } from '@curfew/runtime'
import type { RegistryCache } from '../intake/registry-cache.ts'
import type { Worker } from '../worker/worker.ts'
import { isUnavailable, RESERVE_SHARE, SHARE, wanted, wantsMore } from './appetite.ts'
import type { BindingLimits } from './binding-limits.ts'
import { breathe } from './breathe.ts'
import type { BulkPace } from './bulk-pace.ts'
import type { ClaimTurns } from './claim-turns.ts'
import type { Holdings } from './holdings.ts'
import type { Starter } from './starter.ts'

export interface ClaimDeps {
  readonly ledger: Pick<DeliveryLedger, 'claimDue' | 'giveUpUnreachable'>
  readonly registry: Pick<RegistryCache, 'current'>
  /** The worker that takes the leases. It also tells whether the leases can be trusted now. */
  readonly worker: Pick<Worker, 'alive' | 'leasing' | 'took'>
  readonly holdings: Holdings
  readonly starter: Pick<Starter, 'accept' | 'start'>
  readonly limits: Pick<BindingLimits, 'barred'>
  readonly turns: ClaimTurns
  readonly bulkPace: Pick<BulkPace, 'available' | 'spend'>
  readonly bell: Pick<Bell, 'listen'>
  readonly log: Log
  /** The pause between two claims, in milliseconds. */
  readonly idleMs: number
  readonly now: () => Date
  readonly monotonicMs: () => number
}

const LANES: readonly Lane[] = ['interactive', 'bulk']
const CLAIM_LIMIT = 1_000
const NONE: Slots = { interactive: 0, bulk: 0 }
/** The slots of each lane for a binding without a queue here. */
const SLOTS_ELSE = 16
const GIVE_UP_EVERY_MS = 30_000
/** The most deliveries of a binding and lane that are given up at once. */
const GIVE_UP_BATCH = 500
/** The binding queues started before other work gets a turn on the event loop. */
const SWEEP_SLICE = 250

/** Ends the pause before the next claim when there is room for more deliveries, or more are due. */
export class Bell {
  #woken = new AbortController()

  ring(): void {
    this.#woken.abort()
  }

  /** Returns a signal that the next ring aborts. */
  listen(): AbortSignal {
    this.#woken = new AbortController()
    return this.#woken.signal
  }
}

/** Claims due deliveries until `stopping` aborts, and gives up deliveries to bindings that were unavailable for too long. */
export async function claimUntil(deps: ClaimDeps, stopping: AbortSignal): Promise<void> {
  const { holdings, bell, log, idleMs, monotonicMs } = deps
  let gaveUpMs = monotonicMs()
  while (!stopping.aborted) {
    const woken = bell.listen()
    let claimed = 0
    try {
      await sweep(deps)
      claimed = await claimOnce(deps)
      if (monotonicMs() - gaveUpMs >= GIVE_UP_EVERY_MS) {
        gaveUpMs = monotonicMs()
        await giveUp(deps)
      }
    } catch (error) {
      log.warn({ event: 'ledger.claim-failed', err: error })
    }
    const busy = [...holdings.queues.values()].some((queue) => wantsMore(queue, holdings.shares))
    // Skips the pause only after progress: an unavailable ledger or a lost lease must not cause a busy loop.
    if (!busy || claimed === 0) await sleep(idleMs, AbortSignal.any([stopping, woken]))
  }
}

/** Starts deliveries that waited for a heartbeat or for their rate limit. */
async function sweep({ holdings: { queues }, starter }: ClaimDeps): Promise<void> {
  let seen = 0
  for (const [id, queue] of [...queues]) {
    seen += 1
    if (seen % SWEEP_SLICE === 0) await breathe()
    if (queues.get(id) === queue) starter.start(id, queue)
  }
}

/** Claims once. @returns the number of claimed deliveries. */
async function claimOnce(deps: ClaimDeps): Promise<number> {
  const { ledger, worker, holdings, turns, bulkPace, now } = deps
  // Never claims all free memory: it must not fill with deliveries to unresponsive RPs.
  const limit = Math.min(CLAIM_LIMIT, Math.floor(holdings.free / 2))
  if (limit <= 0 || !worker.alive()) return 0
  const bulk = bulkPace.available('due')
  // Leaves a quarter to bindings without a queue here.
  const slots = slotsWithin(deps, Math.ceil(limit * (1 - SHARE)), Math.ceil(bulk * (1 - SHARE)))
  const most = Math.min(SLOTS_ELSE, Math.ceil(limit * RESERVE_SHARE))
  const otherSlots = { interactive: most, bulk: Math.min(most, bulk) }
  for (const queue of holdings.queues.values()) queue.ended = 0
  return worker.leasing(async (lease) => {
    const known = new Set(holdings.queues.keys())
    const asked = { slots, otherSlots, limit }
    const claimed = await ledger.claimDue({ now: now(), lease, ...asked, after: turns.after })
    turns.claimed(
      claimed.filter(({ bindingId }) => !known.has(bindingId)),
      claimed.length >= limit,
    )
    takeClaimed(deps, claimed, lease, asked)
    return claimed.length
  })
}

/** The slots to claim for bindings with a queue here: at most `budget` in total and `bulk` of the bulk lane. */
function slotsWithin(deps: ClaimDeps, budget: number, bulk: number): ReadonlyMap<BindingId, Slots> {
  const { holdings, limits, turns } = deps
  const { queues, shares, free } = holdings
  const slots = new Map<BindingId, Slots>()
  for (const id of limits.barred()) slots.set(id, NONE)
  let asked = 0
  let bulkAsked = 0
  const askedOf = new Map<Issuer, number>()
  for (const [id, queue] of turns.inOrder(queues)) {
    if (slots.has(id)) continue
    if (asked >= budget) {
      slots.set(id, NONE)
      continue
    }
    const { issuer } = queue
    const before = askedOf.get(issuer) ?? 0
    const missing =
      wanted(queue, shares, Math.min(free - asked, shares.roomOf(issuer) - before)) - queue.inHand
    const ask = (lane: Lane, most: number) => {
      // Asks for at least one delivery of a binding without a known backlog. Otherwise deliveries that a full queue sent to the
      // ledger would stay there unnoticed.
      const least = queue.backlog[lane] || isUnavailable(queue) ? 0 : 1
      return Math.max(0, Math.min(Math.max(missing, least), most))
    }
    const interactive = ask('interactive', budget - asked)
    const ofBulk = ask('bulk', Math.min(budget - asked - interactive, bulk - bulkAsked))
    slots.set(id, { interactive, bulk: ofBulk })
    asked += interactive + ofBulk
    bulkAsked += ofBulk
    askedOf.set(issuer, before + interactive + ofBulk)
    if (asked < budget) turns.filled(id, queue)
  }
  for (const id of turns.resting()) if (!slots.has(id)) slots.set(id, NONE)
  return slots
}

type Asked = Pick<ClaimRequest, 'slots' | 'otherSlots' | 'limit'>

/** Starts the claimed deliveries, and notes which bindings have a backlog. */
function takeClaimed(
  { worker, holdings, starter, bulkPace }: ClaimDeps,
  claimed: readonly InFlightDelivery[],
  lease: Lease,
  asked: Asked,
): void {
  worker.took(
    lease,
    claimed.map(({ id }) => id),
  )
  bulkPace.spend('due', claimed.filter(({ event }) => event.lane === 'bulk').length)
  for (const lane of LANES) noteBacklog(holdings, lane, claimed, asked)
  for (const delivery of claimed) starter.accept(delivery, lease)
}

/** Notes which bindings have a backlog: the claim returned as many of their deliveries as it asked for. */
function noteBacklog(
  holdings: Holdings,
  lane: Lane,
  claimed: readonly InFlightDelivery[],
  { slots, otherSlots, limit }: Asked,
): void {
  const taken = Map.groupBy(
    claimed.filter(({ event }) => event.lane === lane),
    ({ bindingId }) => bindingId,
  )
  for (const [id, queue] of holdings.queues) {
    const asked = slots.get(id)?.[lane] ?? 0
    if (asked > 0 && (taken.get(id)?.length ?? 0) < asked && claimed.length < limit)
      queue.backlog[lane] = false
  }
  for (const [id, deliveries] of taken) {
    const [first] = deliveries
    if (first === undefined || deliveries.length < (slots.get(id) ?? otherSlots)[lane]) continue
    holdings.queueOf(id, first.event.iss).backlog[lane] = true
  }
}

/** Gives up deliveries of unavailable bindings that have been due for longer than their whole retry schedule. */
async function giveUp({ ledger, registry, holdings, log, now }: ClaimDeps): Promise<void> {
  const nowMs = now().getTime()
  const { bindings } = registry.current()
  const dueBefore = new Map(
    [...holdings.queues]
      .filter(([, queue]) => isUnavailable(queue))
      .map(([id]) => [id, new Date(nowMs - horizonMs(bindings.get(id)?.retry ?? DEFAULT_RETRY_POLICY))]),
  )
  if (dueBefore.size === 0) return
  const given = await ledger.giveUpUnreachable({ dueBefore, now: now(), limit: GIVE_UP_BATCH })
  if (given > 0) log.error({ event: 'deliveries.given-up', deliveries: given, reason: 'unreachable' })
}
