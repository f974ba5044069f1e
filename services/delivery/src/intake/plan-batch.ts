import {
  type BindingId,
  type EventId,
  type Issuer,
  type KnownSessions,
  LedgerUnavailableError,
  type LiveSession,
  type LogoutEvent,
  type PlanBasis,
  plan,
} from '@curfew/domain'
import {
  type DeliveryLedger,
  isRefusal,
  type KnownIssuer,
  type PlannedEvent,
  type Registry,
  type SessionQuestion,
} from '@curfew/ledger'
import type { Log } from '@curfew/runtime'
import { breathe } from '../dispatch/breathe.ts'
import type { Dispatcher } from '../dispatch/dispatcher.ts'
import type { Holdings } from '../dispatch/holdings.ts'
import { digest, type Incoming } from './read-batch.ts'

export interface PlanBatchDeps {
  readonly ledger: Pick<DeliveryLedger, 'findSessions'>
  readonly dispatcher: Pick<Dispatcher, 'room'>
  readonly holdings: Pick<Holdings, 'free' | 'shares' | 'isUnavailable'>
  readonly log: Log
}

const SILENT: KnownSessions = { kind: 'silent' }
const SPEAKS: KnownSessions = { kind: 'known', sessions: [] }
const AWAY: KnownSessions = { kind: 'away' }

/** Sessions by the event that is about them. */
type Found = ReadonlyMap<EventId, readonly LiveSession[]>
const NOTHING: Found = new Map()

/** Plans what the events of a batch owe, by this copy of the registry. What this worker has room for is to be born leased to it. */
export async function planBatch(
  deps: PlanBatchDeps,
  batch: readonly Incoming[],
  known: Registry,
): Promise<readonly PlannedEvent[]> {
  const sessionsOf = await findSessions(deps, batch, known)
  const lease = createLeases(deps)
  const planned: PlannedEvent[] = []
  let sinceBreath = 0
  for (const { event: posted, digest: content, record } of batch) {
    const sessions = sessionsOf(posted)
    const event = withEmail(posted, sessions)
    const deliveries: PlannedEvent['deliveries'][number][] = []
    let basis: PlanBasis = 'unknown_issuer'
    for (const issuer of slicesOf(known.issuers.get(event.iss) ?? null)) {
      const owed = plan(event, issuer, sessions, digest, (id) => deps.holdings.isUnavailable(id))
      basis = owed.basis
      for (const { delivery, target, doubtful } of owed.deliveries) {
        // What is in doubt is looked at when it is claimed.
        const leased = doubtful !== true && lease(delivery.bindingId, event)
        deliveries.push({ delivery, target, leased })
      }
      sinceBreath += owed.deliveries.length
      if (sinceBreath < SLICE) continue
      sinceBreath = 0
      await breathe()
    }
    const traceparent = record.headers.traceparent ?? null
    planned.push({ event, digest: content, basis, traceparent, deliveries })
  }
  return planned
}

/** The event with the email address of its subject: its own, or else that of the session of the subject that was posted last. */
function withEmail(event: LogoutEvent, known: KnownSessions): LogoutEvent {
  if (event.email !== undefined || known.kind !== 'known') return event
  let latest: LiveSession | null = null
  for (const session of known.sessions) {
    if (session.email == null || (event.sub !== null && session.sub !== event.sub)) continue
    if (latest === null || session.acceptedAt > latest.acceptedAt) latest = session
  }
  return latest?.email == null ? event : { ...event, email: latest.email }
}

/** What the session index knows of each event's. Nobody is asked where it knows nothing of the issuer. */
async function findSessions(
  deps: PlanBatchDeps,
  batch: readonly Incoming[],
  known: Registry,
): Promise<(event: LogoutEvent) => KnownSessions> {
  const indexOf = ({ iss }: LogoutEvent): number | null => {
    const issuer = known.issuers.get(iss)
    return issuer === undefined || issuer.sessionIndex === 'off' ? null : issuer.sessionIssuer
  }
  const questions = batch.flatMap(({ event }) => {
    const issuer = indexOf(event)
    // Whom a logout of everyone is about is asked page by page, by the bookkeeper.
    return issuer === null || event.scope === 'issuer' ? [] : [{ event, issuer }]
  })
  const found = questions.length === 0 ? NOTHING : await ask(deps, questions)
  return (event) => {
    if (indexOf(event) === null) return SILENT
    if (event.scope === 'issuer') return SPEAKS
    if (found === null) return AWAY
    const sessions = found.get(event.id)
    return sessions === undefined ? SILENT : { kind: 'known', sessions }
  }
}

/** The sessions of each event's; null where the index does not answer. */
async function ask(
  { ledger, log }: PlanBatchDeps,
  questions: readonly SessionQuestion[],
): Promise<Found | null> {
  try {
    return await ledger.findSessions(questions)
  } catch (error) {
    if (!(error instanceof LedgerUnavailableError) && !isRefusal(error)) throw error
    log.warn({ event: 'session-index.away', events: questions.length, err: error })
    return null
  }
}

/** Bindings that one event is planned for before all else that waits for the processor gets its turn. */
const SLICE = 100

/**
 * An issuer with a few of its bindings, then with the next few. The bindings of one relying party stand side by side in the registry
 * and stay together, for what a fallback is owed depends on the others.
 */
function* slicesOf(issuer: KnownIssuer | null): Iterable<KnownIssuer | null> {
  const bindings = issuer?.bindings ?? []
  if (issuer === null || bindings.length <= SLICE) return yield issuer
  for (let from = 0; from < bindings.length; ) {
    let to = Math.min(from + SLICE, bindings.length)
    while (to < bindings.length && bindings[to]?.clientId === bindings[to - 1]?.clientId) to += 1
    yield { ...issuer, bindings: bindings.slice(from, to) }
    from = to
  }
}

/** Says of each delivery of a statement whether it is born leased: as long as there is room for its binding, its issuer and at all. */
function createLeases({
  dispatcher,
  holdings,
}: PlanBatchDeps): (bindingId: BindingId, event: LogoutEvent) => boolean {
  const room = new Map<BindingId, number>()
  const freeOf = new Map<Issuer, number>()
  let { free } = holdings
  return (bindingId, { iss, lane }) => {
    const left = room.get(bindingId) ?? dispatcher.room(bindingId, lane, iss)
    const ofIssuer = freeOf.get(iss) ?? holdings.shares.roomOf(iss)
    const leased = left > 0 && ofIssuer > 0 && free > 0
    room.set(bindingId, left - 1)
    freeOf.set(iss, leased ? ofIssuer - 1 : ofIssuer)
    if (leased) free -= 1
    return leased
  }
}
