import {
  type BindingId,
  type Breaker,
  createFairTurns,
  type InFlightDelivery,
  type Issuer,
  shareLeft,
} from '@curfew/domain'
import type { DeliveryLedger, Lease } from '@curfew/ledger'
import type { Log } from '@curfew/runtime'
import type { Attempt, Round } from '../attempt/attempt.ts'
import type { SettleRound } from '../settle/settle-round.ts'
import type { Worker } from '../worker/worker.ts'
import { isHungry } from './appetite.ts'
import type { BreakerReports } from './breaker-reports.ts'
import type { Bell } from './claims.ts'
import type { Holdings } from './holdings.ts'
import type { Held, Line } from './line.ts'

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
   * Attempts begun before all else that waits for the processor gets its turn. An attempt signs and posts at once: without this,
   * ten thousand that come together would run one after the other, and the process would do nothing else meanwhile.
   */
  readonly startsPerTurn: number
  readonly now: () => Date
  readonly monotonicMs: () => number
}

/** Begins attempts: issuer by issuer, and in each of them binding by binding. */
export interface Starter {
  /** Takes a delivery that is leased to this worker. Drops it when the worker's leases were lost meanwhile. */
  accept(delivery: InFlightDelivery, lease: Lease): void
  /** Puts a delivery that is held into its line, and attempts it when its binding has a free slot. */
  take(delivery: InFlightDelivery, lease: Lease): void
  /** Goes on with a line. */
  start(id: BindingId, line: Line): void
  /** Lets an issuer begin more, for an attempt of its own has ended. */
  recall(issuer: Issuer): void
}

/** A delivery that waits longer than this in memory is given back: another worker may have a free slot for it. */
const HELD_MS_MAX = 60_000
/** Attempts that begin in one turn while several issuers have deliveries: shorter turns, so that the logouts of one wait less for those of another. */
const STARTS_OF_SEVERAL = 16
/** The part that one binding may have of the attempts that it has under way and of those that its issuer may begin. */
const BINDING_PART = 1 / 16

export function createStarter(deps: StarterDeps): Starter {
  const { holdings, worker, startsPerTurn, monotonicMs } = deps
  const { lines, shares } = holdings
  const turns = createFairTurns<Issuer, BindingId>()
  let startsLeft = startsPerTurn

  function queue(id: BindingId, line: Line): void {
    if (line.startable) turns.add(line.issuer, id)
  }

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
      void run(deps, starter, line, next)
    }
  }

  /** Where many relying parties of an issuer hang, none of them takes what is left to the others. */
  const hasSlot = ({ running, issuer }: Line) =>
    shareLeft(running, shares.attemptsOf(issuer), BINDING_PART) > 0

  function nextTurn(): void {
    startsLeft = shares.shared ? Math.min(startsPerTurn, STARTS_OF_SEVERAL) : startsPerTurn
    startNext()
  }

  const starter: Starter = {
    accept(delivery, lease) {
      if (lease.workerId !== worker.id()) return
      holdings.hold(delivery)
      starter.take(delivery, lease)
    },
    take(delivery, lease) {
      const line = holdings.lineOf(delivery.bindingId, delivery.event.iss)
      line.push({ delivery, lease, sinceMs: monotonicMs() })
      starter.start(delivery.bindingId, line)
    },
    start(id, line) {
      giveBack(deps, line, line.takeOlder(monotonicMs() - HELD_MS_MAX))
      queue(id, line)
      startNext()
      holdings.forgetQuiet(id, line)
    },
    recall: (issuer) => turns.recall(issuer),
  }
  return starter
}

/** One delivery, from the attempt to the ledger's having what it came to. */
async function run(deps: StarterDeps, starter: Starter, line: Line, held: Held): Promise<void> {
  const { holdings, attempt, settleRound, bell, stopping, log } = deps
  const { delivery } = held
  const { issuer } = line
  /** A fault of ours, or the ledger gone while stopping: it is not held any more, and so is attempted again. */
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
  // The RP is done with it: the next may go out while the ledger is told of this one.
  const { breaker } = line
  line.attempted(delivery.event.lane, round?.outcome ?? null)
  holdings.shares.run(issuer, -1)
  starter.recall(issuer)
  followBreaker(deps, line, delivery.bindingId, breaker)
  starter.start(delivery.bindingId, line)
  try {
    await settling
  } catch (error) {
    failed(error)
  }
  line.settled()
  holdings.drop(issuer, [delivery.id])
  holdings.forgetQuiet(delivery.bindingId, line)
  if (isHungry(line, holdings.shares)) bell.ring()
}

/** Acts on what an attempt made of the breaker of its binding. */
function followBreaker(deps: StarterDeps, line: Line, id: BindingId, { state: before }: Breaker): void {
  const { state } = line.breaker
  if (state === 'open') giveBack(deps, line, line.takeWaiting())
  else if (before !== 'closed' && state === 'closed') void bringForward(deps, line, id)
  if (before !== state && state !== 'half_open')
    deps.breakers.note(id, state === 'open' ? 'opened' : 'closed')
}

/** Makes due what waits for its next attempt at a binding that was down and has come back. */
async function bringForward(
  { ledger, bell, log, now }: StarterDeps,
  line: Line,
  id: BindingId,
): Promise<void> {
  line.backlog.interactive = true
  line.backlog.bulk = true
  try {
    const deliveries = await ledger.bringForward({ bindingId: id, now: now() })
    log.info({ event: 'binding.recovered', binding_id: id, deliveries })
    bell.ring()
  } catch (error) {
    // What waits is due by its schedule, later.
    log.warn({ event: 'deliveries.bring-forward-failed', binding_id: id, err: error })
  }
}

/** To the ledger, where it waits behind what waits there; it has cost no attempt. */
function giveBack(deps: StarterDeps, line: Line, back: readonly Held[]): void {
  if (back.length === 0) return
  for (const { delivery } of back) line.backlog[delivery.event.lane] = true
  deps.holdings.drop(
    line.issuer,
    back.map(({ delivery }) => delivery.id),
  )
  for (const ofWorker of Map.groupBy(back, ({ lease }) => lease.workerId).values())
    void release(deps, ofWorker)
}

/** Gives back what was leased to one incarnation of the worker. */
async function release(
  { holdings: { releasing }, ledger, worker, log }: StarterDeps,
  held: readonly Held[],
): Promise<void> {
  const [first] = held
  if (first === undefined) return
  const ids = held.map(({ delivery }) => delivery.id)
  for (const id of ids) releasing.add(id)
  try {
    await ledger.releaseDeliveries({ ids, workerId: first.lease.workerId })
    for (const { delivery, lease } of held) worker.ended(lease, [delivery.id])
  } catch (error) {
    // It is not held any more: the worker's next heartbeat finds it.
    log.warn({ event: 'deliveries.release-failed', deliveries: held.length, err: error })
  } finally {
    for (const id of ids) releasing.delete(id)
  }
}
