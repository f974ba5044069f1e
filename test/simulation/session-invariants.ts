import type { Binding, LogoutEvent, Session } from '@curfew/domain'
import { lastOf, type MemoryDelivery } from '../support/memory-rows.ts'
import type { MemorySession } from '../support/memory-session-index.ts'
import { describe, type Evidence, type Invariant, isPrivate, owedFor, userOf } from './evidence.ts'
import type { RelyingPartyPlan } from './scenario.ts'
import { EPOCH_MS } from './virtual-time.ts'

// Invariants of sessions in the index: a logout ends every session that began before it, and no later one. Stated independently
// of the domain.

export const SESSION_INVARIANTS: Readonly<Record<string, Invariant>> = {
  'no logout ends a session that began after it': laterSessionsKept,
  'every session that began before a logout is ended by it': earlierSessionsEnded,
  'an unposted session is ended, unless a later one is known': unpostedSessionsEnded,
  'the session index is correct': indexCorrect,
  'a pairwise session that shares a sid with the subject is ended': linkedSessionsEnded,
}

const APART_MS = 300_000

function endMsOf({ expiresAt }: Session): number {
  return expiresAt?.getTime() ?? Number.POSITIVE_INFINITY
}

/**
 * Whether a session began before an event. If the IdP states both times, one clock decides. Otherwise the clocks may differ by
 * APART_MS.
 */
function isBefore({ startedAt, startedStated, acceptedAt }: Session, event: LogoutEvent): boolean {
  if (startedStated && event.occurredAt !== null) return startedAt.getTime() <= event.occurredAt.getTime()
  const occurredMs = (event.occurredAt ?? event.acceptedAt).getTime()
  if (startedAt.getTime() - occurredMs > APART_MS) return false
  return Math.min(startedAt.getTime(), acceptedAt.getTime()) <= event.acceptedAt.getTime()
}

/**
 * Whether an event ends a session that began before it. If the event has another name of the user (`isByLink`), it ends the session
 * only if the index connects both names.
 */
function isAbout(event: LogoutEvent, session: Session): boolean {
  if (!isBefore(session, event)) return false
  const { sid, device } = session
  if (event.scope === 'session') return sid === event.sid
  const elsewhere = event.scope === 'device' && device !== null && device !== event.device
  return userOf(session) === userOf(event) && !elsewhere
}

/** Whether only the index can tell that an event is about a session. */
function isByLink(event: LogoutEvent, { sub }: Pick<Session, 'sub'>): boolean {
  return event.scope !== 'session' && event.sub !== sub
}

/**
 * A client's sessions that the index had between the first post of an event and its plan: all the time if `surely`, otherwise at
 * any time.
 */
function knownOf(
  { ledger }: Evidence,
  event: LogoutEvent,
  clientId: string | null,
  surely: boolean,
): readonly MemorySession[] {
  const fromMs = event.acceptedAt.getTime()
  const toMs = ledger.events.get(event.id)?.writtenAt.getTime() ?? 0
  return ledger.sessionRows.filter(({ session, knownAt, goneAt }) => {
    if (clientId !== null && session.clientId !== clientId) return false
    const same = event.scope === 'session' ? session.sid === event.sid : userOf(session) === userOf(event)
    const endMs = Math.min(goneAt?.getTime() ?? Number.POSITIVE_INFINITY, endMsOf(session))
    return (
      same &&
      (surely ? knownAt.getTime() < fromMs && endMs > toMs : knownAt.getTime() <= toMs && endMs >= fromMs)
    )
  })
}

/** Whether the index could justify that an event owes a binding no delivery. */
export function mayBeLeftOut(evidence: Evidence, event: LogoutEvent, binding: Binding): boolean {
  const { clientId } = binding
  if (evidence.ledger.events.get(event.id)?.basis !== 'sessions') return false
  // A logout is owed to it whatever sessions its client holds, unless only a session could be named and none was known.
  if (binding.always)
    return event.scope === 'device' || (event.scope === 'subject' && binding.names === 'session')
  const held = knownOf(evidence, event, clientId, false)
  if (evidence.scenario.pairwise.has(clientId) && event.scope !== 'session' && !isPrivate(event.sub))
    return true
  if (held.some(({ session }) => !isAbout(event, session))) return true
  // A token could not name an unposted session.
  const nameless = event.scope !== 'session' && binding.names === 'session'
  const surely = knownOf(evidence, event, clientId, true)
  if (nameless && surely.length === 0 && knownOf(evidence, event, null, false).length > 0) return true
  return (
    evidence.scenario.sessionIndex === 'complete' && knownOf(evidence, event, clientId, true).length === 0
  )
}

/** Whether a delivery of the subject would have ended a session that its event does not end. */
export function mayBeWithheld(
  { ledger, accepted }: Evidence,
  { delivery: { sid }, eventId }: MemoryDelivery,
  { clientId }: Binding,
): boolean {
  const event = accepted.get(eventId)?.event
  if (sid !== null || event === undefined) return false
  const held = ledger.sessionRows.filter(({ session }) => {
    return session.clientId === clientId && userOf(session) === userOf(event)
  })
  return held.some(({ session }) => !isAbout(event, session))
}

/** Whether the index could leave unknown by which `sub` a client knows the user of a delivery, which needs it. */
export function maySubBeUnknown(
  evidence: Evidence,
  { delivery, eventId }: MemoryDelivery,
  { clientId, names, always }: Binding,
): boolean {
  const { ledger, scenario, accepted } = evidence
  const event = accepted.get(eventId)?.event
  if (event === undefined || delivery.event.sub !== null) return false
  if (names !== 'subject' && delivery.sid !== null) return false
  const isUsed = scenario.sessionIndex !== 'off' && ledger.events.get(eventId)?.basis !== 'index_unavailable'
  // The admin API of an issuer knows no sub that only one client knows.
  const known = always
    ? []
    : knownOf(evidence, event, clientId, true).filter(({ session }) => !isByLink(event, session))
  const shared = scenario.pairwise.has(clientId)
    ? []
    : knownOf(evidence, event, null, true).filter(({ session: { sub } }) => !isPrivate(sub))
  return !isUsed || known.length + shared.length === 0
}

const takesNoSids = ({ names }: Binding) => names === 'subject'

/** Whether a binding is for the sessions of the issuer itself, or stands in for such a binding. */
export function standsForIssuer(evidence: Evidence, { clientId, always, fallbackFor }: Binding): boolean {
  if (always) return true
  return evidence.scenario.relyingParties.some(
    ({ binding }) =>
      binding.clientId === clientId && binding.kind === fallbackFor && standsForIssuer(evidence, binding),
  )
}

function* laterSessionsKept(evidence: Evidence): Iterable<string> {
  const { scenario, ledger, received, planByBinding, accepted } = evidence
  if (scenario.sessionIndex === 'off') return
  for (const { bindingId, claims, eventId, atMs } of received) {
    const binding = planByBinding.get(bindingId)?.binding
    const event = accepted.get(eventId)?.event
    if (binding === undefined || event === undefined || event.scope === 'session') continue
    const of = `binding ${bindingId} was notified of event ${event.id} at ${atMs} ms`
    const basis = ledger.events.get(event.id)?.basis
    const unnamed = claims.sid === undefined && basis !== 'index_unavailable'
    const spared = sparedSessions(evidence, { event, binding, atMs })
    const ofClient = ledger.sessionRows.filter(({ session }) => session.clientId === binding.clientId)
    // A binding that takes only the subject is owed a delivery if any session of the client must end, known then or found later.
    // One for the sessions of the issuer itself is owed the subject, unless the plan knew both sessions that must end and later ones.
    const known = knownOf(evidence, event, null, true).map(({ session }) => isAbout(event, session))
    const owesSubject = binding.always
      ? takesNoSids(binding) || !known.includes(true) || !known.includes(false)
      : takesNoSids(binding) && ofClient.some(({ session }) => isAbout(event, session))
    if (unnamed && spared.length > 0 && !owesSubject)
      yield `${of} without a sid, but the index knew ${spared.map(({ session }) => session.sid)}`
    const ended = ofClient.find(({ session }) => session.sid === claims.sid)
    // A binding for the sessions of the issuer itself may name a session that another client holds too.
    if (ended !== undefined && !isAbout(event, ended.session) && !binding.always)
      yield `${of} and of ${claims.sid}, which the event does not end`
    const others = knownOf(evidence, event, null, true).length
    const anyOfClient = ofClient.some(({ session }) => userOf(session) === userOf(event))
    if (
      scenario.sessionIndex === 'complete' &&
      basis === 'sessions' &&
      others > 0 &&
      !anyOfClient &&
      !standsForIssuer(evidence, binding)
    )
      yield `${of}, but never had a session of ${event.sub}`
  }
}

/**
 * The sessions that a POST of the subject must not end: those that the index had when the delivery was claimed, or before the
 * logout was posted. If the index is complete or the scope is a device, known sessions are named individually anyway.
 */
function sparedSessions(
  evidence: Evidence,
  { event, binding, atMs }: { event: LogoutEvent; binding: Binding; atMs: number },
): readonly MemorySession[] {
  const { ledger, scenario } = evidence
  const own = [...ledger.deliveries.values()].find(
    (row) => row.eventId === event.id && row.bindingId === binding.id && row.delivery.sid === null,
  )
  const claimedMs = ledger.claims
    .filter(({ id, at }) => id === own?.id && at.getTime() <= EPOCH_MS + atMs)
    .at(-1)
    ?.at.getTime()
  const planned = knownOf(evidence, event, binding.clientId, true)
  const named = scenario.sessionIndex === 'complete' || event.scope === 'device'
  if (claimedMs === undefined)
    return named ? planned : planned.filter(({ session }) => !isAbout(event, session))
  return ledger.sessionRows.filter(({ session, knownAt, goneAt }) => {
    const endMs = Math.min(goneAt?.getTime() ?? Number.POSITIVE_INFINITY, endMsOf(session))
    const held = session.clientId === binding.clientId && userOf(session) === userOf(event)
    return held && knownAt.getTime() < claimedMs && endMs > claimedMs && !isAbout(event, session)
  })
}

/**
 * Checks that a logout of the subject reaches relying parties that may hold an unposted session. Such a logout names no known
 * session.
 */
function* unpostedSessionsEnded(evidence: Evidence): Iterable<string> {
  const { scenario, ledger, accepted, received, finished } = evidence
  if (scenario.sessionIndex !== 'partial' || !finished) return
  for (const { event } of accepted.values()) {
    if (event.scope !== 'subject') continue
    for (const { binding, registeredMs, removedMs, steady } of scenario.relyingParties) {
      if (!owedFor({ event }, binding) || registeredMs > 0 || removedMs !== null) continue
      if (binding.names === 'session' || binding.fallbackFor !== null) continue
      // Without a known session, the sub by which a pairwise client knows the user is unknown.
      if (scenario.pairwise.has(binding.clientId)) continue
      const held = ledger.sessionRows.filter(({ session }) => {
        return session.clientId === binding.clientId && userOf(session) === userOf(event)
      })
      if (held.some(({ session }) => !isAbout(event, session))) continue
      const [own] = [...ledger.deliveries.values()].filter(
        (row) => row.eventId === event.id && row.bindingId === binding.id && row.delivery.sid === null,
      )
      const what = `event ${event.id} at binding ${binding.id}`
      if (own === undefined) yield `${what} names known sessions only`
      else if (steady) {
        const { eventId } = lastOf(own, ledger.deliveries)
        const notified = received.some(({ bindingId, claims, eventId: receivedId }) => {
          return bindingId === binding.id && receivedId === eventId && claims.sid === undefined
        })
        if (!notified) yield `${what}: its RP was always available but was not notified of the subject`
      }
    }
  }
}

/** The deliveries to a binding that name a session, of any logout that ends it. */
function naming(
  { ledger, accepted }: Evidence,
  binding: Binding,
  session: Session,
): readonly MemoryDelivery[] {
  return [...ledger.deliveries.values()].filter(({ bindingId, eventId, delivery: { sid } }) => {
    const event = accepted.get(eventId)?.event
    if (bindingId !== binding.id || event === undefined || !isAbout(event, session)) return false
    return sid === null || sid === session.sid
  })
}

function* earlierSessionsEnded(evidence: Evidence): Iterable<string> {
  const { scenario, ledger, accepted, received, finished } = evidence
  if (scenario.sessionIndex === 'off' || !finished) return
  for (const { session } of ledger.sessionRows) {
    // The session expires before everything is settled, so its deliveries may lapse.
    if (endMsOf(session) < EPOCH_MS + scenario.boundMs) continue
    for (const plan of scenario.relyingParties) {
      const { binding, registeredMs, removedMs, steady } = plan
      if (binding.clientId !== session.clientId || registeredMs > 0 || removedMs !== null) continue
      const events = [...accepted.values()]
        .map(({ event }) => event)
        .filter((event) => isAbout(event, session))
      if (!events.some((event) => owedFor({ event }, binding))) continue
      if (events.some((event) => isByLink(event, session))) continue
      // The initiator of one of the events has ended its own session.
      if (events.some((event) => event.initiator === session.clientId && !event.includeInitiator)) continue
      const last = naming(evidence, binding, session).map((row) => lastOf(row, ledger.deliveries))
      if (last.length === 0 && binding.fallbackFor !== null) continue
      const what = `${session.sid} of ${session.sub} at binding ${binding.id}`
      if (last.length === 0) yield `${what} must end, but no delivery names it`
      const notified = last.some(({ eventId, state }) =>
        received.some(
          ({ bindingId, claims, eventId: receivedId, status }) =>
            state === 'acknowledged' &&
            bindingId === binding.id &&
            receivedId === eventId &&
            (claims.sid === session.sid || claims.sub === session.sub) &&
            (status === 200 || status === 204),
        ),
      )
      if (!notified && last.every(({ state }) => state !== 'dead_lettered'))
        yield `${what}: ${last.map(describe).join('; ')}`
      if (steady && !notified)
        yield `${what} must end, but its RP was not notified, although it was always available`
    }
  }
}

function* linkedSessionsEnded(evidence: Evidence): Iterable<string> {
  const { scenario, ledger, accepted, finished } = evidence
  if (scenario.sessionIndex === 'off' || !finished) return
  for (const { event } of accepted.values()) {
    if (event.scope === 'session' || ledger.events.get(event.id)?.basis !== 'sessions') continue
    const known = knownOf(evidence, event, null, true).map(({ session }) => session)
    const sids = new Set(known.filter(({ sub }) => sub === event.sub).map(({ sid }) => sid))
    for (const session of known) {
      if (session.sub === event.sub || !isPrivate(session.sub) || !sids.has(session.sid)) continue
      if (!isAbout(event, session) || (event.initiator === session.clientId && !event.includeInitiator))
        continue
      for (const { binding, registeredMs, removedMs } of scenario.relyingParties) {
        if (binding.clientId !== session.clientId || registeredMs > 0 || removedMs !== null) continue
        if (binding.fallbackFor !== null || !owedFor({ event }, binding)) continue
        const named = [...ledger.deliveries.values()].some(
          ({ eventId, bindingId, delivery: { sid, event: of } }) =>
            eventId === event.id &&
            bindingId === binding.id &&
            (sid === session.sid || of.sub === session.sub),
        )
        if (!named)
          yield `event ${event.id} owes binding ${binding.id} no delivery for ${session.sid} of ${session.sub}`
      }
    }
  }
}

function* indexCorrect(evidence: Evidence): Iterable<string> {
  const { scenario, ledger, accepted, finished, planByBinding } = evidence
  if (scenario.sessionIndex === 'off' || !finished) return
  for (const { session, goneAt, logoutEventId, orphanedAt } of ledger.sessionRows) {
    const what = `${session.sid} of ${session.sub} at ${session.clientId}`
    const events = [...accepted.values()]
      .map(({ event }) => event)
      .filter((event) => isAbout(event, session) && (event.clients?.includes(session.clientId) ?? true))
    // An expired session is deleted by a bookkeeper, independently of logouts.
    const lasts = endMsOf(session) > EPOCH_MS + scenario.boundMs
    if (goneAt === null && lasts) {
      const surely = events.some((event) => !isByLink(event, session))
      if (surely && (logoutEventId === null || orphanedAt === null))
        yield `${what} must end by ${events.map(({ id }) => id)}, but is neither over nor orphaned`
      const required = [...planByBinding.values()].filter(
        ({ binding, removedMs }) =>
          binding.clientId === session.clientId && binding.fallbackFor === null && removedMs === null,
      )
      const outcomes = required.map(({ binding }) =>
        naming(evidence, binding, session).map((row) => lastOf(row, ledger.deliveries).state),
      )
      if (
        outcomes.length > 0 &&
        outcomes.every((states) => states.length > 0 && states.every((state) => state === 'acknowledged'))
      )
        yield `${what} is kept, but every required channel acknowledged its end`
      if (events.length === 0 && logoutEventId !== null)
        yield `${what} is marked as logged out, but no event ends it`
    }
    if (goneAt === null) continue
    const initiated = events.some((event) => event.initiator === session.clientId && !event.includeInitiator)
    const plans = [...planByBinding.values()].filter(({ binding }) => binding.clientId === session.clientId)
    const acknowledged = ({ binding }: RelyingPartyPlan) =>
      naming(evidence, binding, session).some(
        (row) => lastOf(row, ledger.deliveries).state === 'acknowledged',
      )
    // A later logout that names only the subject does not concern every channel. Channels that it skips do not count.
    const counts = ({ binding }: RelyingPartyPlan) => events.every((event) => owedFor({ event }, binding))
    const byFallback = plans.some((plan) => plan.binding.fallbackFor !== null && acknowledged(plan))
    const required = plans.filter(
      ({ binding, registeredMs, removedMs }) =>
        binding.fallbackFor === null && registeredMs === 0 && removedMs === null,
    )
    if (!initiated && !plans.some(acknowledged))
      yield `${what} was deleted, but no channel acknowledged its end`
    else if (!initiated && !byFallback && !required.every((plan) => acknowledged(plan) || !counts(plan)))
      yield `${what} was deleted, but some required channel did not acknowledge its end`
  }
}
