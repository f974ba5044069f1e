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
import type { LaneWatch } from './lane-watch.ts'

export interface SessionIntakeDeps {
  readonly ledger: Pick<DeliveryLedger, 'applySessions' | 'oweLateLogouts'>
  readonly log: Log
  /** The next batch waits for room: logouts come first. */
  readonly holdings: Pick<Holdings, 'waitForRoom'>
  /** Counts what was applied, by kind. */
  readonly applied: Pick<ReturnType<Metrics['counter']>, 'inc'>
  readonly now: () => Date
}

/** Changes applied at once, one batch at a time: a storm of logins must leave room for logouts. */
const BATCH = 500

/** A clock that is ahead must not make a session over that lives: nobody would be told of its logout. */
const CLOCKS_DIFFER_MS_MAX = 86_400_000

/** Compiled once for a process, for it takes milliseconds. */
const checks = { start: createValidator(AcceptedSession), end: createValidator(AcceptedSessionEnd) }

/** One change of a batch, and the record it came in. */
interface Incoming {
  readonly change: SessionChange
  readonly record: ConsumedRecord
}

/** What became of a batch. */
interface Applied {
  readonly started: readonly Session[]
  readonly refused: readonly Quarantined[]
}

/** Brings the session index up to what IdPs say: a batch of starts and ends at a time, in their order. */
export function createSessionIntake(deps: SessionIntakeDeps): BatchHandler {
  const { ledger, log, holdings, applied, now } = deps

  /** @returns what started, and is not over yet. */
  async function apply(batch: readonly Incoming[]): Promise<Applied> {
    const { ends, starts } = netOf(batch.map(({ change }) => change))
    // What came too late is over: there is nothing left to log out of. Where that is a matter of whose clock is right, the
    // ledger's is: it enters nothing that is over.
    const longOver = now().getTime() - CLOCKS_DIFFER_MS_MAX
    const current = starts.filter(({ expiresAt }) => expiresAt.getTime() > longOver)
    await ledger.applySessions({ ends, starts: current })
    applied.inc({ kind: 'started' }, current.length)
    applied.inc({ kind: 'ended' }, ends.length)
    return { started: current, refused: [] }
  }

  /** The batch as a whole, or, when PostgreSQL refuses something in it, each by itself: one that cannot be written must not hold up the rest. */
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

  return async (records) => {
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
    // A logout of theirs may have been planned before they were known.
    const unowed = started.length > 0 ? await oweAround(ledger, started, changes) : []
    const quarantined = [...unreadable, ...refused, ...unowed]
    for (const { record, reason } of quarantined) {
      log.error({ event: 'session.quarantined', position: record.position, reason })
    }
    return quarantined
  }
}

/**
 * Owes late logouts to the sessions that started: to all at once or, where PostgreSQL refuses something, to each by itself. A record
 * whose logout cannot be owed is quarantined, for a person to requeue: redelivered for ever, it would hold up every session behind it.
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
    const reason = `a logout that came before the session could not be owed to it: ${error.message}`
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

/** Consumes the sessions' lane, beside those of logouts and in the way of neither. */
export function consumeSessions({ eventLog, metrics, watched, ...deps }: SessionConsumerDeps): Consumer {
  const applied = metrics.counter(
    'session_changes_applied_total',
    'Starts and ends of sessions that the session index was told of, repetitions too.',
    ['kind'],
  )
  return eventLog.consume(
    { ...watched('sessions'), batchSize: BATCH, batchesInFlight: 1 },
    createSessionIntake({ ...deps, applied }),
  )
}
