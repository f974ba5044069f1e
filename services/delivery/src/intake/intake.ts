import {
  type BatchHandler,
  type Consumer,
  type EventId,
  type EventLog,
  type Lane,
  LedgerUnavailableError,
  type Quarantined,
} from '@curfew/domain'
import {
  type DeliveryLedger,
  isDataFault,
  isStatementTimeout,
  type PlannedEvent,
  type PlanResult,
} from '@curfew/ledger'
import type { Metrics, Span } from '@curfew/runtime'
import type { BulkPace } from '../dispatch/bulk-pace.ts'
import type { Dispatcher } from '../dispatch/dispatcher.ts'
import { type Holdings, ROOM_WAIT_MS } from '../dispatch/holdings.ts'
import type { Announcer } from '../settle/announcer.ts'
import type { Worker } from '../worker/worker.ts'
import { spanning } from './batch-span.ts'
import type { LaneWatch } from './lane-watch.ts'
import { issuersOf, type Part, PLAN_DELIVERIES, partsOf } from './parts.ts'
import { type PlanBatchDeps, planBatch } from './plan-batch.ts'
import { startPlans } from './plan-spans.ts'
import { createPlanTurns } from './plan-turns.ts'
import { conflict, type Incoming, readBatch } from './read-batch.ts'
import type { RegistryCache } from './registry-cache.ts'
import { type RelayedDeps, verifyRelayed } from './relayed.ts'

export interface IntakeDeps extends PlanBatchDeps, RelayedDeps {
  readonly lane: Lane
  readonly ledger: Pick<DeliveryLedger, 'findSessions' | 'planEvents'>
  readonly registry: Pick<RegistryCache, 'current' | 'refresh'>
  readonly worker: Pick<Worker, 'leasing' | 'register'>
  readonly announcer: Pick<Announcer, 'announce'>
  readonly dispatcher: Pick<Dispatcher, 'room' | 'acceptAll'>
  readonly holdings: Pick<Holdings, 'free' | 'shares' | 'waitForRoom' | 'isUnavailable'>
  readonly bulkPace: Pick<BulkPace, 'ready' | 'spend'>
  /** Counts planned events that owe no delivery because their issuer is not registered. */
  readonly unknownIssuers: Pick<ReturnType<Metrics['counter']>, 'inc'>
  /** Aborts the wait for the pace of the bulk lane. */
  readonly stopping: AbortSignal
  readonly now: () => Date
}

const LANES: readonly Lane[] = ['interactive', 'bulk']
/** Events planned in one statement. The bulk lane plans few, so that interactive statements run in between. */
const BATCH: Readonly<Record<Lane, number>> = { interactive: 200, bulk: 10 }
/** The most issuers that a log line names. */
const ISSUERS_IN_LOG = 5

export interface LogoutConsumerDeps extends Omit<IntakeDeps, 'lane' | 'unknownIssuers'> {
  readonly eventLog: Pick<EventLog, 'consume'>
  readonly metrics: Metrics
  readonly watched: LaneWatch
}

/** Consumes both lanes of logouts. */
export function consumeLogouts({
  eventLog,
  metrics,
  watched,
  ...deps
}: LogoutConsumerDeps): readonly Consumer[] {
  const unknownIssuers = metrics.counter(
    'events_of_unknown_issuers_total',
    'Accepted logout events that owed no delivery because their iss is not registered.',
  )
  return LANES.map((lane) =>
    eventLog.consume(
      { ...watched(lane), batchSize: BATCH[lane], batchesInFlight: 2 },
      createIntake({ ...deps, lane, unknownIssuers }),
    ),
  )
}

/**
 * Turns log records of one lane into the ledger's plan. One transaction writes the events of a batch and the deliveries they owe.
 * Deliveries that this worker has room for are leased to it and attempted at once. The others are pending.
 */
export function createIntake(given: IntakeDeps): BatchHandler {
  // Every lane has its own turns, because a large plan of the bulk lane keeps its turn for minutes while it waits for its pace.
  const turns = createPlanTurns()
  return spanning(given.lane, (batchSpan) => async (records, slow) => {
    const deps = { ...given, batchSpan }
    const { events: read, quarantined } = readBatch(records)
    for (const { record, reason } of quarantined)
      deps.log.error({ event: 'event.quarantined', position: record.position, reason })
    const { verified, quarantined: unverified } = await verifyRelayed(deps, read, slow)
    const refused = [...quarantined, ...unverified]
    for (const [index, part] of partsOf(verified, deps.registry.current()).entries()) {
      if (index === 0 && part.size <= PLAN_DELIVERIES) {
        refused.push(...(await writePart(deps, part)))
        continue
      }
      slow()
      refused.push(...(await turns.run(part.issuer, () => writePart(deps, part))))
    }
    return refused
  })
}

/** The dependencies of one batch. */
interface BatchDeps extends IntakeDeps {
  readonly batchSpan: Span
}

async function writePart(deps: BatchDeps, { events }: Part<Incoming>): Promise<readonly Quarantined[]> {
  if (deps.lane === 'bulk') await deps.bulkPace.ready(deps.stopping)
  else await deps.holdings.waitForRoom(ROOM_WAIT_MS, issuersOf(events))
  return writeAround(deps, events)
}

/**
 * Writes a batch as a whole. When PostgreSQL refuses a value in it, writes every event by itself, so that an unwritable event
 * does not block the rest.
 */
async function writeAround(deps: BatchDeps, batch: readonly Incoming[]): Promise<readonly Quarantined[]> {
  try {
    return await write(deps, batch)
  } catch (error) {
    if (isStatementTimeout(error) && batch.length > 1) {
      // The batch owes more deliveries than one statement can write before its timeout. Repeated whole, it would block all later
      // events.
      const half = Math.ceil(batch.length / 2)
      deps.log.warn({ event: 'intake.halved', events: batch.length, err: error })
      return [
        ...(await writeAround(deps, batch.slice(0, half))),
        ...(await writeAround(deps, batch.slice(half))),
      ]
    }
    if (error instanceof LedgerUnavailableError || !isDataFault(error)) {
      // The statement may have been carried out. The log redelivers the batch, and the ledger then knows its events. The worker
      // gives back the leases it does not know.
      throw error
    }
    const [only, ...others] = batch
    if (only !== undefined && others.length === 0) {
      deps.log.error({
        event: 'event.quarantined',
        event_id: only.event.givenId,
        iss: only.event.iss,
        err: error,
      })
      return [{ record: only.record, kind: 'refused', reason: `the ledger refused it: ${error.message}` }]
    }
    const quarantined: Quarantined[] = []
    for (const incoming of batch) quarantined.push(...(await writeAround(deps, [incoming])))
    return quarantined
  }
}

/**
 * Writes the plan of a batch and starts its leased deliveries. @returns the events that the ledger already has with different
 * content.
 */
async function write(deps: BatchDeps, read: readonly Incoming[]): Promise<readonly Quarantined[]> {
  const { batch, end } = startPlans(read, deps.batchSpan)
  try {
    const { written, conflicts } = await writePlans(deps, batch)
    end(written)
    return conflicts
  } catch (error) {
    end(null, error)
    throw error
  }
}

interface Outcome {
  readonly written: Written
  readonly conflicts: readonly Quarantined[]
}

async function writePlans(deps: BatchDeps, batch: readonly Incoming[]): Promise<Outcome> {
  const { ledger, registry, worker, now } = deps
  // True once our copy of the registry was read after the batch arrived. The copy then has every client registered before, and
  // needs no newer read: otherwise frequent registry changes would block every logout.
  let isFresh = false
  for (;;) {
    const known = registry.current()
    const plans = await planBatch(deps, batch, known)
    const result = await worker.leasing(async (lease) => {
      const registryRevision = isFresh ? null : known.revision
      const written = await ledger.planEvents({ batch: plans, lease, registryRevision, now: now() })
      // Deliveries of events that the ledger already had are not leased.
      if (written.ok) await deps.dispatcher.acceptAll(leasedOf(plans, written), lease)
      return written
    })
    if (result.ok) {
      noteWritten(deps, plans, result)
      return { written: result, conflicts: conflictsOf(deps, batch, result.conflicts) }
    }
    if (result.why === 'worker_lost') await worker.register()
    else {
      await registry.refresh()
      isFresh = true
    }
  }
}

/** The events that a statement planned, and those of their deliveries that are settled already. */
type Written = Pick<Extract<PlanResult, { readonly ok: true }>, 'planned' | 'needless'>

function leasedOf(plans: readonly PlannedEvent[], { planned, needless }: Written) {
  return plans
    .filter(({ event }) => planned.has(event.id))
    .flatMap(({ deliveries }) =>
      deliveries.flatMap(({ delivery, leased }) => (leased && !needless.has(delivery.id) ? [delivery] : [])),
    )
}

/** Announces, counts and logs the planned events. */
function noteWritten(
  { lane, bulkPace, announcer, unknownIssuers, log }: IntakeDeps,
  plans: readonly PlannedEvent[],
  { planned: ids, needless }: Written,
): void {
  const planned = plans.filter(({ event }) => ids.has(event.id))
  // An event that owes no delivery, or none that is needed, is settled once it is planned.
  const isSettled = ({ deliveries }: PlannedEvent) =>
    deliveries.every(({ delivery }) => needless.has(delivery.id))
  announcer.announce(planned.filter(isSettled).map(({ event }) => event.id))
  // The issuer of these events is not registered, or its registration has a typing error.
  const unknown = planned.filter(({ basis }) => basis === 'unknown_issuer')
  if (unknown.length > 0) {
    const issuers = [...new Set(unknown.map(({ event }) => event.iss))].slice(0, ISSUERS_IN_LOG)
    log.warn({ event: 'events.unknown-issuer', events: unknown.length, issuers })
    unknownIssuers.inc(unknown.length)
  }
  if (lane === 'bulk')
    bulkPace.spend(
      'fresh',
      plans.reduce((sum, { deliveries }) => sum + deliveries.length, 0),
    )
}

function conflictsOf(
  { log }: IntakeDeps,
  batch: readonly Incoming[],
  conflicts: ReadonlySet<EventId>,
): readonly Quarantined[] {
  return batch
    .filter(({ event }) => conflicts.has(event.id))
    .map(({ event, record }) => {
      const reason = conflict(event)
      log.error({ event: 'event.quarantined', position: record.position, reason })
      return { record, kind: 'conflict', reason }
    })
}
