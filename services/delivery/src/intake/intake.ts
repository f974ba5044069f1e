import {
  type BatchHandler,
  type Consumer,
  type EventId,
  type EventLog,
  type Lane,
  LedgerUnavailableError,
  type Quarantined,
} from '@curfew/domain'
import { type DeliveryLedger, isDataFault, isStatementTimeout, type PlannedEvent } from '@curfew/ledger'
import type { Metrics } from '@curfew/runtime'
import type { BulkPace } from '../dispatch/bulk-pace.ts'
import type { Dispatcher } from '../dispatch/dispatcher.ts'
import { type Holdings, ROOM_WAIT_MS } from '../dispatch/holdings.ts'
import type { Announcer } from '../settle/announcer.ts'
import type { Worker } from '../worker/worker.ts'
import type { LaneWatch } from './lane-watch.ts'
import { issuersOf, type Part, PLAN_DELIVERIES, partsOf } from './parts.ts'
import { type PlanBatchDeps, planBatch } from './plan-batch.ts'
import { createPlanTurns } from './plan-turns.ts'
import { conflict, type Incoming, readBatch } from './read-batch.ts'
import type { RegistryCache } from './registry-cache.ts'

export interface IntakeDeps extends PlanBatchDeps {
  readonly lane: Lane
  readonly ledger: Pick<DeliveryLedger, 'findSessions' | 'planEvents'>
  readonly registry: Pick<RegistryCache, 'current' | 'refresh'>
  readonly worker: Pick<Worker, 'leasing' | 'register'>
  readonly announcer: Pick<Announcer, 'announce'>
  readonly dispatcher: Pick<Dispatcher, 'room' | 'acceptAll'>
  readonly holdings: Pick<Holdings, 'free' | 'shares' | 'waitForRoom' | 'isUnavailable'>
  readonly bulkPace: Pick<BulkPace, 'ready' | 'spend'>
  /** Counts events that were planned whose issuer is not registered, so that no delivery is owed. */
  readonly unknownIssuers: Pick<ReturnType<Metrics['counter']>, 'inc'>
  /** Ends the wait for the pace of the bulk lane. */
  readonly stopping: AbortSignal
  readonly now: () => Date
}

const LANES: readonly Lane[] = ['interactive', 'bulk']
/** Events planned in one statement. Few of the bulk lane, so that people's get in between. */
const BATCH: Readonly<Record<Lane, number>> = { interactive: 200, bulk: 10 }
/** Issuers that a log line names, of all that it counts. */
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
    'Accepted logout events that owed no delivery, because their iss is not registered.',
  )
  return LANES.map((lane) =>
    eventLog.consume(
      { ...watched(lane), batchSize: BATCH[lane], batchesInFlight: 2 },
      createIntake({ ...deps, lane, unknownIssuers }),
    ),
  )
}

/**
 * Turns log records of one lane into the ledger's plan: events and the deliveries they owe in one transaction for the whole
 * batch. What this worker has room for is born leased to it and attempted at once; the rest is born pending.
 */
export function createIntake(deps: IntakeDeps): BatchHandler {
  // Of this lane alone: a large plan of the bulk lane has its turn for as long as the pace makes it wait, which may be minutes.
  const turns = createPlanTurns()
  return async (records, slow) => {
    const { events, quarantined } = readBatch(records)
    for (const { record, reason } of quarantined)
      deps.log.error({ event: 'event.quarantined', position: record.position, reason })
    const refused = [...quarantined]
    for (const [index, part] of partsOf(events, deps.registry.current()).entries()) {
      if (index === 0 && part.size <= PLAN_DELIVERIES) {
        refused.push(...(await writePart(deps, part)))
        continue
      }
      slow()
      refused.push(...(await turns.run(part.issuer, () => writePart(deps, part))))
    }
    return refused
  }
}

async function writePart(deps: IntakeDeps, { events }: Part<Incoming>): Promise<readonly Quarantined[]> {
  if (deps.lane === 'bulk') await deps.bulkPace.ready(deps.stopping)
  else await deps.holdings.waitForRoom(ROOM_WAIT_MS, issuersOf(events))
  return writeAround(deps, events)
}

/** The batch as a whole, or, when PostgreSQL refuses something in it, each event by itself: one that cannot be written must not hold up the rest. */
async function writeAround(deps: IntakeDeps, batch: readonly Incoming[]): Promise<readonly Quarantined[]> {
  try {
    return await write(deps, batch)
  } catch (error) {
    if (isStatementTimeout(error) && batch.length > 1) {
      // More is owed than one statement can write in its time: again and again it would hold up all that follows.
      const half = Math.ceil(batch.length / 2)
      deps.log.warn({ event: 'intake.halved', events: batch.length, err: error })
      return [
        ...(await writeAround(deps, batch.slice(0, half))),
        ...(await writeAround(deps, batch.slice(half))),
      ]
    }
    if (error instanceof LedgerUnavailableError || !isDataFault(error)) {
      // It may have been carried out: the batch comes again, and is then known. The worker finds what was leased for it.
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

/** Writes the plan of a batch, and begins what was born leased. @returns events that the ledger has with another content. */
async function write(deps: IntakeDeps, batch: readonly Incoming[]): Promise<readonly Quarantined[]> {
  const { ledger, registry, worker, now } = deps
  // Whether our copy of the registry was read after the batch came. Then it has everybody who was registered before, and goes
  // on to serve: changes that follow one another faster than it is read would hold up every logout.
  let readSince = false
  for (;;) {
    const known = registry.current()
    const plans = await planBatch(deps, batch, known)
    const result = await worker.leasing(async (lease) => {
      const registryRevision = readSince ? null : known.revision
      const written = await ledger.planEvents({ batch: plans, lease, registryRevision, now: now() })
      // Of an event that the ledger had before, nothing was born leased.
      if (written.ok) await deps.dispatcher.acceptAll(leasedOf(plans, written.planned), lease)
      return written
    })
    if (result.ok) {
      noteWritten(deps, plans, result.planned)
      return conflictsOf(deps, batch, result.conflicts)
    }
    if (result.why === 'worker_lost') await worker.register()
    else {
      await registry.refresh()
      readSince = true
    }
  }
}

function leasedOf(plans: readonly PlannedEvent[], planned: ReadonlySet<EventId>) {
  return plans
    .filter(({ event }) => planned.has(event.id))
    .flatMap(({ deliveries }) => deliveries.filter((one) => one.leased).map(({ delivery }) => delivery))
}

/** Announces, counts and logs what was planned. */
function noteWritten(
  { lane, bulkPace, announcer, unknownIssuers, log }: IntakeDeps,
  plans: readonly PlannedEvent[],
  ids: ReadonlySet<EventId>,
): void {
  const planned = plans.filter(({ event }) => ids.has(event.id))
  // What is owed to nobody is settled by being planned.
  announcer.announce(planned.filter(({ deliveries }) => deliveries.length === 0).map(({ event }) => event.id))
  // No issuer has their `iss`: a registration is missing, or has a slip in it.
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
