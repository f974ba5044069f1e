import { type Traced, undeliverable } from '../delivery/delivery.ts'
import type { BindingId, Digest, Subject } from '../ids.ts'
import type { Binding } from '../registry/binding.ts'
import type { PairwiseClients } from '../registry/subject-type.ts'
import type { SessionIndexUse } from '../session/session.ts'
import type { LogoutEvent } from './event.ts'
import { isDue } from './fallback.ts'
import { canName, mayName } from './names.ts'
import { type Named, type OwedDelivery, owed } from './owed.ts'
import {
  concernsClient,
  isEndedByInitiator,
  isInitiator,
  type LiveSession,
  matchesSession,
} from './session-match.ts'
import { type SubjectsFor, subjectsOf } from './subjects.ts'

/** The parts of an issuer's registration that planning needs. */
export interface RegisteredIssuer {
  readonly bindings: readonly Binding[]
  /** How its indexed sessions narrow a logout. */
  readonly sessionIndex: SessionIndexUse
  /** Its clients that know a user by a `sub` of their own. Absent: none. */
  readonly pairwise?: PairwiseClients | null
}

/**
 * The session index's answer about an event: the sessions of its subject, or of its `sid` if its scope is `session`. The sessions of
 * a subject include those under its other names, with `linked`.
 */
export type KnownSessions =
  /** The index has no sessions of this issuer, or is switched off for it. */
  | { readonly kind: 'silent' }
  /** The index did not answer. */
  | { readonly kind: 'unavailable' }
  | { readonly kind: 'known'; readonly sessions: readonly LiveSession[] }

/**
 * The knowledge that an event was planned with.
 * - `sessions`: the session index. For an issuer logout: the index has sessions of the issuer.
 * - `registered`: the index knew no session, so the plan considered every relying party of the issuer.
 * - `index_unavailable`: the index did not answer, so the plan considered every relying party of the issuer.
 * - `unknown_issuer`: no issuer is registered with this `iss`.
 */
export type PlanBasis = 'sessions' | 'registered' | 'index_unavailable' | 'unknown_issuer'

/** The deliveries that an event owes, and the knowledge behind them. */
export interface Plan {
  readonly basis: PlanBasis
  readonly deliveries: readonly OwedDelivery[]
}

/**
 * How long a widened delivery waits for its client's own token, in milliseconds. An IdP notifies its clients one after another,
 * and the RP accepts the IdP's own token even if Curfew's key is published nowhere.
 */
const WIDEN_GRACE_MS = 2_000

/**
 * Decides which deliveries an event owes. The rule is to over-notify, never to under-notify: every client that may hold a session
 * gets a delivery. The plan skips:
 * - the initiator, except for its other sessions;
 * - clients that the event leaves out by naming others;
 * - clients that hold no session according to a `complete` index;
 * - a fallback, unless the channel that it replaces is unusable;
 * - sessions under another name of the user, if the event is a part of an issuer logout: they are in a part of their own.
 *
 * A binding for the sessions of the issuer itself (`always`) is owed every event about its client, also if the client is the
 * initiator or holds no session.
 *
 * A relayed event is about the client that the IdP notified. If its issuer widens such events, deliveries to the other clients
 * wait for the tokens that the IdP may send for them.
 *
 * With a `complete` index, a logout of the subject names each session that began before it, so that a late delivery ends no other
 * session. The exception is a client that the IdP sent its own token for, if none of its sessions is to be spared. With a `partial` index, a relying party may hold unknown sessions, so its delivery names the subject.
 *
 * A binding that needs the tokens of a session (`posted`) is owed only the logouts of sessions in the index.
 *
 * A delivery names the user by the `sub` that its client knows (`subjectsOf`).
 *
 * A binding that can name anything (`any`) gets one delivery of each event, whatever the index knows. It gets an issuer logout whole,
 * and not its parts. It gets a relayed event and a logout of one session also if they are for other clients: a token that names the
 * session may be from any client.
 *
 * @param event its deliveries carry its trace context, if it has one.
 * @param issuer the event's issuer; null if none is registered with this `iss`.
 * @param isUnavailable whether a binding's breaker is open. Default: no breaker is open.
 */
export function plan(
  event: LogoutEvent & Partial<Traced>,
  issuer: RegisteredIssuer | null,
  known: KnownSessions,
  digest: Digest,
  isUnavailable: (id: BindingId) => boolean = () => false,
): Plan {
  if (issuer === null) return { basis: 'unknown_issuer', deliveries: [] }
  if (event.scope === 'issuer') {
    // A token must name a session or a subject (Back-Channel Logout 2.4), and only the index knows the issuer's subjects.
    const isIndexed = known.kind === 'known' && issuer.sessionIndex !== 'off'
    return { basis: isIndexed ? 'sessions' : 'registered', deliveries: wholeOf(event, issuer, digest) }
  }
  const sessions = known.kind === 'known' && issuer.sessionIndex !== 'off' ? known.sessions : []
  const complete = issuer.sessionIndex === 'complete' && sessions.length > 0
  const byClient = Map.groupBy(sessions, ({ clientId }) => clientId)
  const subjectsFor = subjectsOf(event, sessions, issuer.pairwise ?? null)
  const deliveries = issuer.bindings
    .filter((binding) => concernsBinding(event, binding))
    .flatMap((binding) => {
      if (binding.names === 'any') {
        const isOwed =
          event.parentId === undefined &&
          isDueNow(event, binding, [], { bindings: issuer.bindings, isUnavailable })
        return isOwed ? [whole(event, binding, digest)] : []
      }
      const found = byClient.get(binding.clientId) ?? []
      const held = found.filter((session) => !hasOwnPart(event, session))
      if (!binding.always && held.length === 0 && found.length > 0) return []
      const left = held.filter((session) => !isEndedByInitiator(event, session))
      if (!binding.always && left.length === 0 && isInitiator(event, binding.clientId)) return []
      if (!mayName(event, binding) && !isLeftBehind(event, binding, left, issuer.bindings)) return []
      if (!isDueNow(event, binding, left, { bindings: issuer.bindings, isUnavailable })) return []
      const index = { held: left, complete, known: sessions.length > 0, subjectsFor }
      const names = binding.always
        ? namedAtIssuer(event, binding, sessions, subjectsFor(binding.clientId, []))
        : namedFor(event, binding, index)
      return names.map(({ doubtful, ...named }: Named & Pick<OwedDelivery, 'doubtful'>) => ({
        ...owed(event, binding, named, digest),
        ...(doubtful && { doubtful }),
        ...timesOf(event, binding, named, left),
      }))
    })
  const basis =
    known.kind === 'unavailable' ? 'index_unavailable' : sessions.length > 0 ? 'sessions' : 'registered'
  return { basis, deliveries }
}

/** The deliveries of an issuer logout itself. Every other delivery belongs to one of its parts. */
function wholeOf(
  event: LogoutEvent,
  { bindings }: RegisteredIssuer,
  digest: Digest,
): readonly OwedDelivery[] {
  return bindings
    .filter((binding) => binding.names === 'any' && concernsBinding(event, binding))
    .map((binding) => whole(event, binding, digest))
}

/** A delivery that names what the event names. */
function whole(event: LogoutEvent, binding: Binding, digest: Digest): OwedDelivery {
  const sid = event.scope === 'session' ? event.sid : null
  return owed(event, binding, { sid, sessionEndsAt: null }, digest)
}

function concernsBinding(event: LogoutEvent, { names, clientId }: Binding): boolean {
  if (concernsClient(event, clientId)) return true
  return names === 'any' && (event.relayed !== undefined || event.scope === 'session')
}

/** Whether the event is a part of an issuer logout, and another part is about the session, because the user has another name there. */
function hasOwnPart(event: LogoutEvent, session: LiveSession): boolean {
  return event.parentId !== undefined && session.linked === true && matchesSession(event, session)
}

/** When the first attempt may start, and when the named session was last posted. @param held the sessions of the client. */
function timesOf(
  event: LogoutEvent,
  { clientId, always }: Binding,
  { sid }: Named,
  held: readonly LiveSession[],
): Pick<OwedDelivery, 'dueAt' | 'postedAt'> {
  // The IdP posts no token of its own to a binding for its own sessions.
  const widened = !always && event.relayed !== undefined && event.relayed.clientId !== clientId
  const posted = held.filter((session) => session.sid === sid).map(({ acceptedAt }) => acceptedAt.getTime())
  return {
    ...(widened && { dueAt: new Date(event.acceptedAt.getTime() + WIDEN_GRACE_MS) }),
    ...(posted.length > 0 && { postedAt: new Date(Math.max(...posted)) }),
  }
}

/**
 * Whether the client holds a session that the event ends, but has no channel that may name it. The session would stay logged in
 * unnoticed. Its delivery is therefore owed and becomes a visible dead letter.
 */
function isLeftBehind(
  event: LogoutEvent,
  { clientId, fallbackFor }: Binding,
  held: readonly LiveSession[],
  bindings: readonly Binding[],
): boolean {
  if (fallbackFor !== null || !held.some((session) => matchesSession(event, session))) return false
  return !bindings.some((other) => other.clientId === clientId && mayName(event, other))
}

/** Whether a binding is required, or is the fallback for an unusable channel. @param held the sessions of its client. */
function isDueNow(
  event: LogoutEvent,
  binding: Binding,
  held: readonly LiveSession[],
  {
    bindings,
    isUnavailable,
  }: Pick<RegisteredIssuer, 'bindings'> & { isUnavailable: (id: BindingId) => boolean },
): boolean {
  // Nearly all bindings are required, so this skips the search for the relying party's other bindings.
  if (binding.fallbackFor === null) return true
  const sid = event.scope === 'session' ? event.sid : (held[0]?.sid ?? null)
  const party = bindings.filter(({ clientId }) => clientId === binding.clientId)
  const isUsable = (each: Binding) => !isUnavailable(each.id) && undeliverable(each, { sid, event }) === null
  return canName(event, binding, sid) && isDue(binding, party, isUsable)
}

/** The index's knowledge of one client. */
interface Holding {
  /** The client's sessions. */
  readonly held: readonly LiveSession[]
  /** Whether the client holds no other sessions. */
  readonly complete: boolean
  /** Whether the index knows a session at any client. */
  readonly known: boolean
  readonly subjectsFor: SubjectsFor
}

/** The sessions or the subject that the deliveries to one binding name. */
function namedFor(
  event: LogoutEvent,
  binding: Binding,
  { held, complete, known, subjectsFor }: Holding,
): readonly (Named & Pick<OwedDelivery, 'doubtful'>)[] {
  // If the session is posted later, its logout is owed then.
  if (held.length === 0 && (complete || binding.posted === true)) return []
  if (event.scope === 'session') {
    return subjectsFor(binding.clientId, held).map((sub) => {
      const own = held.filter((session) => session.sub === sub)
      return { sid: event.sid, sessionEndsAt: lastEnd(own.length > 0 ? own : held), sub }
    })
  }
  // A token cannot name an unposted session. If the session is posted later, it is logged out then.
  if (held.length === 0 && known && binding.names === 'session') return []
  if (held.length === 0)
    return subjectsFor(binding.clientId, held).map((sub) => unindexed(event, binding, sub))
  // A delivery must not end sessions that began after the event or are on another device.
  const matching = held.filter((session) => matchesSession(event, session))
  const later = matching.length < held.length
  // The identity provider's own token names the subject, and may be the only message that the RP accepts.
  const isOwn = event.relayed?.clientId === binding.clientId
  const bySubject = (sessions: readonly LiveSession[]): readonly Named[] =>
    subjectsFor(binding.clientId, sessions).map((sub) => ({ sid: null, sessionEndsAt: null, sub }))
  if (isOwn && event.scope === 'subject' && binding.names !== 'session' && !later) return bySubject(held)
  // The client may hold unposted sessions. A device logout never widens to a subject whose sessions are known.
  const others = !complete && event.scope === 'subject' && !isInitiator(event, binding.clientId)
  if (others && binding.names !== 'session') {
    if (!later) return bySubject(held)
    if (matching.length === 0) return bySubject(held).map((named) => ({ ...named, doubtful: true }))
  }
  if (binding.names !== 'subject')
    return matching.map(({ sid, expiresAt, sub }) => ({ sid, sessionEndsAt: expiresAt, sub }))
  return matching.length > 0 ? bySubject(matching) : []
}

/**
 * The names of the deliveries to a binding for the sessions of the issuer itself: the event's session, or its subject. Where the
 * subject would end too much or cannot be named, the names are the indexed sessions of the issuer that the event ends. Such a
 * delivery has no end: the session of the issuer may outlive those of its clients.
 */
function namedAtIssuer(
  event: LogoutEvent,
  { names }: Binding,
  sessions: readonly LiveSession[],
  subjects: readonly (Subject | null)[],
): readonly Named[] {
  const [first = null] = subjects
  if (event.scope === 'session') return [{ sid: event.sid, sessionEndsAt: null, sub: first }]
  const matching = sessions.filter((session) => matchesSession(event, session))
  const perDevice = event.scope === 'device' && names !== 'subject'
  const later = matching.length > 0 && matching.length < sessions.length && names === 'either'
  if (sessions.length > 0 && (names === 'session' || perDevice || later)) {
    const sids = new Set(matching.map(({ sid }) => sid))
    return [...sids].map((sid) => ({ sid, sessionEndsAt: null, sub: first }))
  }
  return subjects.map((sub) => ({ sid: null, sessionEndsAt: null, sub }))
}

/** Names the subject for a client without an indexed session. Without a subject that it may be sent, names the event's session. */
function unindexed(event: LogoutEvent, { names }: Binding, sub: Subject | null): Named {
  const sid = sub === null && names !== 'subject' ? event.sid : null
  return { sid, sessionEndsAt: null, sub }
}

/** When the last of the sessions ends by itself; null if one of them does not, or none is known. */
function lastEnd(sessions: readonly LiveSession[]): Date | null {
  const ends = sessions.map(({ expiresAt }) => expiresAt?.getTime() ?? Number.POSITIVE_INFINITY)
  const last = Math.max(...ends)
  return Number.isFinite(last) ? new Date(last) : null
}
