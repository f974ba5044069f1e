import { CHANNELS } from '@curfew/channels'
import {
  type BindingId,
  type EventId,
  type Issuer,
  type KnownSessions,
  LedgerUnavailableError,
  type LiveSession,
  type LogoutEvent,
  type OwedDelivery,
  type PlanBasis,
  plan,
  widened,
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
import type { MessageSealer } from '@curfew/tokens'
import { breathe } from '../dispatch/breathe.ts'
import type { Dispatcher } from '../dispatch/dispatcher.ts'
import type { Holdings } from '../dispatch/holdings.ts'
import { digest, type Incoming } from './read-batch.ts'

export interface PlanBatchDeps {
  readonly ledger: Pick<DeliveryLedger, 'findSessions'>
  readonly dispatcher: Pick<Dispatcher, 'room'>
  readonly holdings: Pick<Holdings, 'free' | 'shares' | 'isUnavailable'>
  readonly messages: Pick<MessageSealer, 'seal'>
  readonly log: Log
}

const SILENT: KnownSessions = { kind: 'silent' }
const LISTED_LATER: KnownSessions = { kind: 'known', sessions: [] }
const UNAVAILABLE: KnownSessions = { kind: 'unavailable' }

/** Live sessions by the id of the event that ends them. */
type Found = ReadonlyMap<EventId, readonly LiveSession[]>
const NO_SESSIONS: Found = new Map()

/**
 * Plans the deliveries that the events of a batch owe, by this copy of the registry. Deliveries that this worker has room for are
 * leased to it.
 */
export async function planBatch(
  deps: PlanBatchDeps,
  batch: readonly Incoming[],
  known: Registry,
): Promise<readonly PlannedEvent[]> {
  const sessionsOf = await findSessions(deps, batch, known)
  const lease = createLeases(deps)
  const planned: PlannedEvent[] = []
  let sinceBreathe = 0
  for (const { event: received, digest: content, traceparent } of batch) {
    const sessions = sessionsOf(received)
    const issuer = known.issuers.get(received.iss) ?? null
    const event = widened(withEmail(received, sessions), issuer?.relay)
    const traced = { ...event, traceparent }
    const deliveries: PlannedEvent['deliveries'][number][] = []
    let basis: PlanBasis = 'unknown_issuer'
    for (const slice of slicesOf(issuer)) {
      const owed = plan(traced, slice, sessions, digest, (id) => deps.holdings.isUnavailable(id))
      basis = owed.basis
      for (const { doubtful, ...one } of owed.deliveries) {
        // A doubtful delivery is checked when it is claimed, so it is not leased now.
        const isLater = doubtful === true || one.dueAt !== undefined || one.offerMs !== undefined
        const leased = !isLater && lease(one.delivery.bindingId, event)
        const made = event.relayed === undefined ? one : await withFirstMessage(deps, event, one, slice)
        deliveries.push({ ...made, leased })
      }
      sinceBreathe += owed.deliveries.length
      if (sinceBreathe < SLICE) continue
      sinceBreathe = 0
      await breathe()
    }
    planned.push({ event, digest: content, basis, traceparent, deliveries })
  }
  return planned
}

/**
 * Adds the sealed message of the first attempt, if the event has one for the binding's channel. The message names what the event
 * names, so a delivery that names one of several sessions has none: the message would end the others.
 */
async function withFirstMessage(
  { messages }: PlanBatchDeps,
  event: LogoutEvent,
  owed: Omit<OwedDelivery, 'doubtful'>,
  issuer: KnownIssuer | null,
): Promise<Omit<OwedDelivery, 'doubtful'>> {
  if (owed.delivery.sid !== event.sid) return owed
  const { delivery } = owed
  const binding = issuer?.bindings.find(({ id }) => id === delivery.bindingId)
  // A newer release may have registered a channel that this one lacks. The attempt reports it.
  const channel = CHANNELS.find(({ kind }) => kind === binding?.kind)
  const message = binding === undefined || channel?.mode !== 'push' ? null : channel.prepare?.(event, binding)
  if (message == null) return owed
  return { ...owed, delivery: { ...delivery, firstMessage: await messages.seal(message, delivery.id) } }
}

/**
 * Returns the event with the email address of its subject. The event's own address comes first, then that of the subject's
 * session posted last.
 */
function withEmail(event: LogoutEvent, known: KnownSessions): LogoutEvent {
  if (event.email !== undefined || known.kind !== 'known') return event
  let latest: LiveSession | null = null
  for (const session of known.sessions) {
    const isOther = event.sub !== null && session.sub !== event.sub && session.linked !== true
    if (session.email == null || isOther) continue
    if (latest === null || session.acceptedAt > latest.acceptedAt) latest = session
  }
  return latest?.email == null ? event : { ...event, email: latest.email }
}

/** Finds the sessions of every event in the session index. Skips issuers whose sessions are not indexed. */
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
    const pairwise = known.issuers.get(event.iss)?.pairwise != null
    // For an issuer logout the bookkeeper pages through the session index.
    return issuer === null || event.scope === 'issuer' ? [] : [{ event, issuer, pairwise }]
  })
  const found = questions.length === 0 ? NO_SESSIONS : await ask(deps, questions)
  return (event) => {
    if (indexOf(event) === null) return SILENT
    if (event.scope === 'issuer') return LISTED_LATER
    if (found === null) return UNAVAILABLE
    const sessions = found.get(event.id)
    return sessions === undefined ? SILENT : { kind: 'known', sessions }
  }
}

/** The sessions of the events; null if the index does not answer. */
async function ask(
  { ledger, log }: PlanBatchDeps,
  questions: readonly SessionQuestion[],
): Promise<Found | null> {
  try {
    return await ledger.findSessions(questions)
  } catch (error) {
    if (!(error instanceof LedgerUnavailableError) && !isRefusal(error)) throw error
    log.warn({ event: 'session-index.unavailable', events: questions.length, err: error })
    return null
  }
}

/** The bindings planned for one event before other work gets a turn on the event loop. */
const SLICE = 100

/**
 * Splits an issuer into copies with a few of its bindings at a time. The bindings of one relying party are adjacent in the
 * registry and stay together: the deliveries of a fallback depend on the other channels.
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

/**
 * Decides whether a delivery of a statement is leased: there must be room for its binding, its issuer and in the worker's memory.
 */
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
