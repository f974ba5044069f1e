import { AcceptedSession, AcceptedSessionEnd, decodeSessionRecord } from '@curfew/contract'
import {
  type BatchHandler,
  type ConsumedRecord,
  type Consumer,
  type EventLog,
  LedgerUnavailableError,
  netOf,
  type Quarantined,
  type Session,
  type SessionChange,
} from '@curfew/domain'
import { type DeliveryLedger, isDataFault } from '@curfew/ledger'
import { createValidator, type Log, type Metrics } from '@curfew/runtime'
import { type Holdings, ROOM_WAIT_MS } from '../dispatch/holdings.ts'
import { spanning } from './batch-span.ts'
import type { LaneWatch } from './lane-watch.ts'

export interface SessionIntakeDeps {
  readonly ledger: Pick<DeliveryLedger, 'applySessions' | 'oweLateLogouts'>
  readonly log: Log
  /** The next batch waits until there is room for deliveries: logouts come first. */
  readonly holdings: Pick<Holdings, 'waitForRoom'>
  /** Counts applied changes by kind. */
  readonly applied: Pick<ReturnType<Metrics['counter']>, 'inc'>
  readonly now: () => Date
}

/** Changes applied in one statement, one batch at a time. A storm of logins must leave room for logouts. */
const BATCH = 500

/**
 * The tolerance for a clock that is ahead of the ledger's. Without it a live session could count as expired and miss its logout.
 */
const CLOCKS_DIFFER_MS_MAX = 86_400_000

/** Compiled once per process: compiling takes milliseconds. */
const checks = { start: createValidator(AcceptedSession), end: createValidator(AcceptedSessionEnd) }

/** One change of a batch, with its record. */
interface Incoming {
  readonly change: SessionChange
  readonly record: ConsumedRecord
}

/** The result of applying a batch. */
interface Applied {
  readonly started: readonly Session[]
  readonly refused: readonly Quarantined[]
}

/** Applies session starts and ends to the session index, a batch at a time, in order. */
export function createSessionIntake(deps: SessionIntakeDeps): BatchHandler {
  const { ledger, log, holdings, applied, now } = deps

  /** Applies a batch. @returns the sessions that started and have not expired. */
  async function apply(batch: readonly Incoming[]): Promise<Applied> {
    const { ends, starts } = netOf(batch.map(({ change }) => change))
    // A session that expired long ago needs no logout. The ledger decides by its own clock about sessions that expired recently:
    // it stores no expired session.
    const longOver = now().getTime() - CLOCKS_DIFFER_MS_MAX
    const current = starts.filter(({ expiresAt }) => expiresAt === null || expiresAt.getTime() > longOver)
    await ledger.applySessions({ ends, starts: current })
    applied.inc({ kind: 'started' }, current.length)
    applied.inc({ kind: 'ended' }, ends.length)
    return { started: current, refused: [] }
  }

  /**
   * Applies a batch as a whole. When PostgreSQL refuses a value in it, applies every change by itself, so that an unwritable
   * change does not block the rest.
   */
  async function applyAround(batch: readonly Incoming[]): Promise<Applied> {
    try {
      return await apply(batch)
    } catch (error) {
      if (error instanceof LedgerUnavailableError || !isDataFault(error)) throw error
      const [only, ...others] = batch
      if (only !== undefined && others.length === 0) {
        const reason = `the ledger refused it: ${error.message}`
        return { started: [], refused: [{ record: only.record, kind: 'refused', reason }] }
      }
      const each: Applied[] = []
      for (const incoming of batch) each.push(await applyAround([incoming]))
      return {
        started: each.flatMap(({ started }) => started),
        refused: each.flatMap(({ refused }) => refused),
      }
    }
  }

  return spanning('sessions', () => async (records) => {
    const unreadable: Quarantined[] = []
    const changes: Incoming[] = []
    for (const record of records) {
      const change = decodeSessionRecord(record, checks)
      if ('unreadable' in change) unreadable.push({ record, kind: 'unreadable', reason: change.unreadable })
      else changes.push({ change, record })
    }
    if (changes.length > 0) await holdings.waitForRoom(ROOM_WAIT_MS)
    const { started, refused } =
      changes.length > 0 ? await applyAround(changes) : { started: [], refused: [] }
    // A logout of these sessions may have been planned before the index knew them.
    const unowed = started.length > 0 ? await oweAround(ledger, started, changes) : []
    const quarantined = [...unreadable, ...refused, ...unowed]
    for (const { record, reason } of quarantined) {
      log.error({ event: 'session.quarantined', position: record.position, reason })
    }
    return quarantined
  })
}

/**
 * Owes late logouts to all started sessions at once. When PostgreSQL refuses a value, does it for every session by itself. A
 * record whose logout cannot be owed is quarantined for an operator to requeue. Redelivered forever, it would block every session
 * behind it.
 */
async function oweAround(
  ledger: Pick<DeliveryLedger, 'oweLateLogouts'>,
  started: readonly Session[],
  batch: readonly Incoming[],
): Promise<readonly Quarantined[]> {
  try {
    await ledger.oweLateLogouts(started)
    return []
  } catch (error) {
    if (error instanceof LedgerUnavailableError || !isDataFault(error)) throw error
    const [only, ...others] = started
    if (only === undefined || others.length > 0) {
      const each: Quarantined[] = []
      for (const session of started) each.push(...(await oweAround(ledger, [session], batch)))
      return each
    }
    const incoming = batch.findLast(({ change }) => change.kind === 'started' && isSame(change.session, only))
    if (incoming === undefined) throw error
    const reason = `the ledger could not plan a logout that arrived before the session: ${error.message}`
    return [{ record: incoming.record, kind: 'refused', reason }]
  }
}

function isSame(one: Session, other: Session): boolean {
  return (
    one.iss === other.iss && one.sid === other.sid && one.clientId === other.clientId && one.sub === other.sub
  )
}

export interface SessionConsumerDeps extends Omit<SessionIntakeDeps, 'applied'> {
  readonly eventLog: Pick<EventLog, 'consume'>
  readonly metrics: Metrics
  readonly watched: LaneWatch
}

/** Consumes the lane of sessions, independently of the lanes of logouts. */
export function consumeSessions({ eventLog, metrics, watched, ...deps }: SessionConsumerDeps): Consumer {
  const applied = metrics.counter(
    'session_changes_applied_total',
    'Session starts and ends applied to the session index, including repetitions.',
    ['kind'],
  )
  return eventLog.consume(
    { ...watched('sessions'), batchSize: BATCH, batchesInFlight: 1 },
    createSessionIntake({ ...deps, applied }),
  )
}
