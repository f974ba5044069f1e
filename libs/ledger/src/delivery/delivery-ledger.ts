import type {
  BindingId,
  ClientId,
  DeliveryId,
  EventId,
  InFlightDelivery,
  LiveSession,
  LogFault,
  Session,
  SessionChanges,
  WorkerId,
} from '@curfew/domain'
import { noticeRemoved } from '../event-log/removed-records.ts'
import { announceSettled } from '../history/settled.ts'
import type { Database } from '../postgres/database.ts'
import type { OnDeliveryFault } from '../postgres/faults.ts'
import { disableBinding, type Registry, readRegistry, readRegistryRevision } from '../registry/registry.ts'
import { applySessions } from '../sessions/apply.ts'
import { findSessions, type SessionQuestion } from '../sessions/find.ts'
import { oweLateLogouts } from '../sessions/projection.ts'
import { findSessionTokens } from '../sessions/tokens.ts'
import { noteBreakers } from './breakers.ts'
import { type ClaimRequest, claimDue, releaseDeliveries } from './claim.ts'
import { type PlanRequest, type PlanResult, planEvents } from './plan.ts'
import { bringForward, giveUpUnreachable, type Settled, settleDeliveries, supersedeOlder } from './settle.ts'
import {
  type Beat,
  beat,
  type HeldLeases,
  reclaimLeases,
  registerWorker,
  releaseUnheld,
  retireWorker,
} from './workers.ts'

/**
 * The ledger as the delivery service uses it: one interface, so that a simulation can replace it. Each method rejects with
 * LedgerUnavailableError if PostgreSQL is unavailable. The statement may have been carried out all the same.
 */
export interface DeliveryLedger {
  readRegistry(): Promise<Registry>
  readRegistryRevision(): Promise<number>
  disableBinding(id: BindingId, gone: { readonly uri: string; readonly reason: string }): Promise<void>
  findSessions(questions: readonly SessionQuestion[]): Promise<ReadonlyMap<EventId, readonly LiveSession[]>>
  planEvents(request: PlanRequest): Promise<PlanResult>
  applySessions(changes: SessionChanges): Promise<void>
  oweLateLogouts(sessions: readonly Session[]): Promise<void>
  /** The sealed tokens of the session that a delivery names. Empty if the session index has none. */
  findSessionTokens(request: {
    readonly deliveryId: DeliveryId
    readonly clientId: ClientId
  }): Promise<readonly string[]>
  claimDue(request: ClaimRequest): Promise<readonly InFlightDelivery[]>
  settleDeliveries(request: {
    batch: readonly Settled[]
    workerId: WorkerId
    now: Date
  }): Promise<ReadonlySet<DeliveryId>>
  releaseDeliveries(request: { ids: readonly DeliveryId[]; workerId: WorkerId }): Promise<void>
  supersedeOlder(request: { ids: readonly DeliveryId[]; now: Date }): Promise<number>
  bringForward(request: { bindingId: BindingId; now: Date }): Promise<number>
  giveUpUnreachable(request: {
    dueBefore: ReadonlyMap<BindingId, Date>
    now: Date
    limit: number
  }): Promise<number>
  /**
   * Wakes the callers that wait for these events, or for the events of these deliveries, to be settled. A failure need not be
   * retried: a caller that is not woken finds out by polling.
   */
  announceSettled(ids: readonly (EventId | DeliveryId)[]): Promise<void>
  noteBreakers(request: {
    workerId: WorkerId
    opened: readonly BindingId[]
    closed: readonly BindingId[]
  }): Promise<void>
  registerWorker(worker: { id: WorkerId; name: string }): Promise<void>
  beat(id: WorkerId, state?: { readonly working?: boolean }): Promise<Beat>
  reclaimLeases(request: { leaseMs: number }): Promise<number>
  releaseUnheld(request: HeldLeases): Promise<number>
  retireWorker(id: WorkerId, how?: { readonly abandoned?: boolean }): Promise<number>
  /** Writes a notification of records that the event log removed before they were read. */
  noticeRemoved(fault: Omit<LogFault, 'kind'>): Promise<void>
}

/**
 * The ledger in PostgreSQL.
 *
 * @param beats connections for heartbeats alone, so that they wait for no other statement. Default `db`.
 * @param onFault called for each delivery whose values PostgreSQL refused. Default: faults are not reported.
 */
export function createDeliveryLedger(
  db: Database,
  { beats = db, onFault }: { readonly beats?: Database; readonly onFault?: OnDeliveryFault } = {},
): DeliveryLedger {
  return {
    readRegistry: () => readRegistry(db),
    readRegistryRevision: () => readRegistryRevision(db),
    disableBinding: (id, gone) => disableBinding(db, id, gone),
    findSessions: (questions) => findSessions(db, questions),
    planEvents: (request) => planEvents(db, request),
    applySessions: (changes) => applySessions(db, changes),
    oweLateLogouts: (sessions) => oweLateLogouts(db, sessions),
    findSessionTokens: (request) => findSessionTokens(db, request),
    claimDue: (request) => claimDue(db, request, onFault),
    settleDeliveries: (request) => settleDeliveries(db, request, onFault),
    releaseDeliveries: (request) => releaseDeliveries(db, request, onFault),
    supersedeOlder: (request) => supersedeOlder(db, request, onFault),
    bringForward: (request) => bringForward(db, request),
    giveUpUnreachable: (request) => giveUpUnreachable(db, request),
    announceSettled: (ids) => announceSettled(db, ids),
    noteBreakers: (request) => noteBreakers(db, request),
    registerWorker: (worker) => registerWorker(beats, worker),
    beat: (id, state) => beat(beats, id, state),
    reclaimLeases: (request) => reclaimLeases(db, request),
    releaseUnheld: (request) => releaseUnheld(db, request),
    retireWorker: (id, how) => retireWorker(db, id, how),
    noticeRemoved: (fault) => noticeRemoved(db, fault),
  }
}
