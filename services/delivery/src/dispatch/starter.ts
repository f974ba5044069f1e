import {
  type BindingId,
  type Breaker,
  createRoundRobin,
  type InFlightDelivery,
  type Issuer,
  shareLeft,
  type WorkerId,
} from '@curfew/domain'
import type { DeliveryLedger, Lease } from '@curfew/ledger'
import type { Log } from '@curfew/runtime'
import type { Attempt, Round } from '../attempt/attempt.ts'
import type { SettleRound } from '../settle/settle-round.ts'
import type { Worker } from '../worker/worker.ts'
import { wantsMore } from './appetite.ts'
import type { BindingQueue, Held } from './binding-queue.ts'
import type { BreakerReports } from './breaker-reports.ts'
import type { Bell } from './claims.ts'
import type { Holdings } from './holdings.ts'

export interface StarterDeps {
  readonly holdings: Holdings
  readonly log: Log
  readonly ledger: Pick<DeliveryLedger, 'releaseDeliveries' | 'bringForward'>
  readonly worker: Pick<Worker, 'id' | 'alive' | 'ended'>
  readonly attempt: Attempt
  readonly settleRound: SettleRound
  readonly breakers: BreakerReports
  readonly bell: Pick<Bell, 'ring'>
  /** Ends the quick retries of attempts. */
  readonly stopping: AbortSignal
  /**
   * The attempts that start before other work gets a turn on the event loop. An attempt signs and posts synchronously. Without
   * this limit, ten thousand simultaneous attempts would block the process.
   */
  readonly startsPerTurn: number
  readonly now: () => Date
  readonly monotonicMs: () => number
}

/** A delivery that waits in memory for longer than this is given back, because another worker may have a free slot for it. */
const HELD_MS_MAX = 60_000
/**
 * The attempts that start in one turn while several issuers have deliveries. Shorter turns let the logouts of one issuer wait
 * less for those of another.
 */
const STARTS_OF_SEVERAL = 16
/** Limits the running attempts of one binding: at most this fraction of them and of those that its issuer may still start. */
const BINDING_PART = 1 / 16

/** Starts attempts. Issuers take turns, and so do the bindings of every issuer. */
export class Starter {
  readonly #deps: StarterDeps
  readonly #turns = createRoundRobin<Issuer, BindingId>()
  #startsLeft: number

  constructor(deps: StarterDeps) {
    this.#deps = deps
    this.#startsLeft = deps.startsPerTurn
  }

  /** Takes a delivery that is leased to this worker. Drops it if the worker has lost its leases meanwhile. */
  accept(delivery: InFlightDelivery, lease: Lease): void {
    if (lease.workerId !== this.#deps.worker.id()) return
    this.#deps.holdings.hold(delivery)
    this.take(delivery, lease)
  }

  /** Puts a held delivery into its binding queue, and attempts it when the binding has a free slot. */
  take(delivery: InFlightDelivery, lease: Lease): void {
    const queue = this.#deps.holdings.queueOf(delivery.bindingId, delivery.event.iss)
    queue.push({ delivery, lease, sinceMs: this.#deps.monotonicMs() })
    this.start(delivery.bindingId, queue)
  }

  /** Gives back deliveries that waited too long, and starts those that may start. */
  start(id: BindingId, queue: BindingQueue): void {
    const { holdings, monotonicMs } = this.#deps
    this.#giveBack(queue, queue.takeOlder(monotonicMs() - HELD_MS_MAX))
    this.#enqueue(id, queue)
    this.#startNext()
    holdings.forgetQuiet(id, queue)
  }

  #enqueue(id: BindingId, queue: BindingQueue): void {
    if (queue.startable) this.#turns.add(queue.issuer, id)
  }

  #startNext(): void {
    const { holdings, worker } = this.#deps
    const { queues, shares } = holdings
    while (this.#startsLeft > 0 && worker.alive()) {
      const id = this.#turns.next((issuer) => shares.attemptsOf(issuer) > 0)
      if (id === null) return
      const queue = queues.get(id)
      const next = queue === undefined || !this.#hasSlot(queue) ? null : queue.next()
      // The binding gets its next turn when one of its attempts ends, and with every claim.
      if (queue === undefined || next === null) continue
      this.#startsLeft -= 1
      if (this.#startsLeft === 0) setImmediate(() => this.#nextTurn())
      this.#enqueue(id, queue)
      void this.#run(queue, next)
    }
  }

  /** Whether a binding may start another attempt. Unresponsive relying parties of an issuer must leave slots to its others. */
  #hasSlot({ running, issuer }: BindingQueue): boolean {
    return shareLeft(running, this.#deps.holdings.shares.attemptsOf(issuer), BINDING_PART) > 0
  }

  #nextTurn(): void {
    const { holdings, startsPerTurn } = this.#deps
    this.#startsLeft = holdings.shares.shared ? Math.min(startsPerTurn, STARTS_OF_SEVERAL) : startsPerTurn
    this.#startNext()
  }

  /** Attempts one delivery, and waits until the ledger has stored the outcome. */
  async #run(queue: BindingQueue, held: Held): Promise<void> {
    const { holdings, attempt, settleRound, bell, stopping, log } = this.#deps
    const { delivery } = held
    const { issuer } = queue
    /**
     * Logs an error of our own code, or a ledger that is unavailable while stopping. The delivery is no longer held, so it is
     * attempted again.
     */
    const failed = (error: unknown) =>
      log.error({ event: 'delivery.attempt-failed', delivery_id: delivery.id, err: error })
    let round: Round | null = null
    let settling: Promise<void> | null = null
    holdings.shares.run(issuer, 1)
    try {
      round = await attempt(delivery, stopping)
      settling = settleRound(held, round)
    } catch (error) {
      failed(error)
    }
    // The RP is done, so its next delivery may start while this outcome is written.
    const { breaker } = queue
    queue.attempted(delivery.event.lane, round?.outcome ?? null)
    holdings.shares.run(issuer, -1)
    this.#turns.recall(issuer)
    this.#followBreaker(queue, delivery.bindingId, breaker)
    this.start(delivery.bindingId, queue)
    try {
      await settling
    } catch (error) {
      failed(error)
    }
    queue.settled()
    holdings.drop(issuer, [delivery.id])
    holdings.forgetQuiet(delivery.bindingId, queue)
    if (wantsMore(queue, holdings.shares)) bell.ring()
  }

  /** Acts on a change of the binding's breaker after an attempt. */
  #followBreaker(queue: BindingQueue, id: BindingId, { state: before }: Breaker): void {
    const { state } = queue.breaker
    if (state === 'open') this.#giveBack(queue, queue.takeWaiting())
    else if (before !== 'closed' && state === 'closed') void this.#bringForward(queue, id)
    if (before !== state && state !== 'half_open')
      this.#deps.breakers.note(id, state === 'open' ? 'opened' : 'closed')
  }

  /** Makes the waiting retries of a recovered binding due now. */
  async #bringForward(queue: BindingQueue, id: BindingId): Promise<void> {
    const { ledger, bell, log, now } = this.#deps
    queue.backlog.interactive = true
    queue.backlog.bulk = true
    try {
      const deliveries = await ledger.bringForward({ bindingId: id, now: now() })
      log.info({ event: 'binding.recovered', binding_id: id, deliveries })
      bell.ring()
    } catch (error) {
      // The waiting deliveries become due later, by their schedule.
      log.warn({ event: 'deliveries.bring-forward-failed', binding_id: id, err: error })
    }
  }

  /** Gives deliveries back to the ledger, behind those that wait there. This costs no attempt. */
  #giveBack(queue: BindingQueue, back: readonly Held[]): void {
    if (back.length === 0) return
    for (const { delivery } of back) queue.backlog[delivery.event.lane] = true
    const ids = back.map(({ delivery }) => delivery.id)
    this.#deps.holdings.drop(queue.issuer, ids)
    for (const [workerId, held] of Map.groupBy(back, ({ lease }) => lease.workerId))
      void this.#release(workerId, held)
  }

  /** Gives back deliveries that were leased to one worker id. */
  async #release(workerId: WorkerId, held: readonly Held[]): Promise<void> {
    const { holdings, ledger, worker, log } = this.#deps
    const ids = held.map(({ delivery }) => delivery.id)
    for (const id of ids) holdings.releasing.add(id)
    try {
      await ledger.releaseDeliveries({ ids, workerId })
      for (const { delivery, lease } of held) worker.ended(lease, [delivery.id])
    } catch (error) {
      // The deliveries are not held any more, so the worker's next heartbeat gives them back.
      log.warn({ event: 'deliveries.release-failed', deliveries: held.length, err: error })
    } finally {
      for (const id of ids) holdings.releasing.delete(id)
    }
  }
}
