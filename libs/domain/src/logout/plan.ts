import type { InFlightDelivery } from '../delivery/delivery.ts'
import { type Digest, deliveryId, type Sid, type Target, targetOf } from '../ids.ts'
import type { Binding } from '../registry/binding.ts'
import type { SessionIndexUse } from '../session/session.ts'
import { coversSession, isEndedByInitiator, isInitiator, isMeant, type LiveSession } from './coverage.ts'
import type { LogoutEvent } from './event.ts'

/** An issuer as planning needs to know it. */
export interface RegisteredIssuer {
  readonly bindings: readonly Binding[]
  /** What its sessions in the index are good for. */
  readonly sessionIndex: SessionIndexUse
}

/** What the session index says of whom an event logs out: those of its subject, or of its `sid` where that is its scope. */
export type KnownSessions =
  /** It knows nothing of this issuer's sessions, or is not to be asked. */
  | { readonly kind: 'silent' }
  /** It was asked, and did not answer. */
  | { readonly kind: 'away' }
  | { readonly kind: 'known'; readonly sessions: readonly LiveSession[] }

/**
 * On what knowledge an event was planned. `sessions`: of the index. `registered`: the index knew of no session, and every relying
 * party of the issuer was considered. `index_away`: likewise, for the index did not answer. `unknown_issuer`: nobody is registered
 * for this `iss`. Of a logout of everyone: `sessions` where the index speaks about its issuer, `registered` where nobody is known.
 */
export type PlanBasis = 'sessions' | 'registered' | 'index_away' | 'unknown_issuer'

/** A delivery that is owed. */
export interface OwedDelivery {
  readonly delivery: InFlightDelivery
  /** Whom it logs out. A waiting delivery of the same target to the same binding is covered by it. */
  readonly target: Target
  /** True: its relying party is known to hold a later session, which it would end. It is born pending: `narrowingOf` decides. */
  readonly doubtful?: true
}

/** Whom an event was planned for, and on what knowledge. */
export interface Plan {
  readonly basis: PlanBasis
  readonly deliveries: readonly OwedDelivery[]
}

/** Whom a delivery names, and when that session ends by itself; `sid` null for the subject. */
type Named = Pick<InFlightDelivery, 'sid' | 'sessionEndsAt'> & Pick<OwedDelivery, 'doubtful'>

const SUBJECT: Named = { sid: null, sessionEndsAt: null }
const DOUBTFUL_SUBJECT: Named = { ...SUBJECT, doubtful: true }

/**
 * Decides which bindings are owed what. Over-notify, never under-notify: whoever could hold a session is told; left out are the
 * client that started the logout, but for sessions that it is known to hold beside the one that the event names, where the event names its clients all others, and whoever the index knows to hold none. Where the
 * index is `complete`, a logout of the subject names each session that began before: told late, it ends no other. Where it is
 * `partial`, a relying party may hold sessions that it does not know, and is told of the subject.
 *
 * @param issuer the event's, or null when no issuer has this `iss`.
 */
export function plan(
  event: LogoutEvent,
  issuer: RegisteredIssuer | null,
  known: KnownSessions,
  digest: Digest,
): Plan {
  if (issuer === null) return { basis: 'unknown_issuer', deliveries: [] }
  if (event.scope === 'issuer') {
    // A token must name a session or a subject (Back-Channel Logout 2.4), and only the index knows whom there are.
    const speaks = known.kind === 'known' && issuer.sessionIndex !== 'off'
    return { basis: speaks ? 'sessions' : 'registered', deliveries: [] }
  }
  const sessions = known.kind === 'known' && issuer.sessionIndex !== 'off' ? known.sessions : []
  const complete = issuer.sessionIndex === 'complete' && sessions.length > 0
  const byClient = Map.groupBy(sessions, ({ clientId }) => clientId)
  const deliveries = issuer.bindings
    .filter((binding) => isMeant(event, binding.clientId) && mayName(event, binding))
    .flatMap((binding) => {
      const held = byClient.get(binding.clientId) ?? []
      const left = held.filter((session) => !isEndedByInitiator(event, session))
      if (left.length === 0 && isInitiator(event, binding.clientId)) return []
      const index = { held: left, complete, known: sessions.length > 0 }
      return namedFor(event, binding, index).map(({ doubtful, ...named }) => ({
        ...owed(event, binding, named, digest),
        ...(doubtful && { doubtful }),
      }))
    })
  const basis = known.kind === 'away' ? 'index_away' : sessions.length > 0 ? 'sessions' : 'registered'
  return { basis, deliveries }
}

/** Whether a message of a binding may stand for an event: one that can name the subject only would end more than a session. */
export function mayName(
  { scope }: Pick<LogoutEvent, 'scope'>,
  { names, widens }: Pick<Binding, 'names' | 'widens'>,
): boolean {
  return names !== 'subject' || widens || scope === 'subject' || scope === 'issuer'
}

/** What the index says of a client: the sessions it holds; whether it holds no others; whether the index knows any of the subject. */
interface Holding {
  readonly held: readonly LiveSession[]
  readonly complete: boolean
  readonly known: boolean
}

/** What one binding is to be told. */
function namedFor(
  event: LogoutEvent,
  binding: Binding,
  { held, complete, known }: Holding,
): readonly Named[] {
  if (held.length === 0 && complete) return []
  if (event.scope === 'session') return [{ sid: event.sid, sessionEndsAt: lastEnd(held) }]
  // A token could not name an unposted session. One that is posted later is named then.
  if (held.length === 0) return known && binding.names === 'session' ? [] : [SUBJECT]
  // What began after the event, or is on another device, is not to be ended, not even by the way.
  const covered = held.filter((session) => coversSession(event, session))
  const later = covered.length < held.length
  // It may hold unposted sessions. The scope device never widens to a subject whose sessions are known.
  const others = !complete && event.scope === 'subject' && !isInitiator(event, binding.clientId)
  if (others && binding.names !== 'session') {
    if (!later) return [SUBJECT]
    if (covered.length === 0) return [DOUBTFUL_SUBJECT]
  }
  if (binding.names !== 'subject')
    return covered.map(({ sid, expiresAt }) => ({ sid, sessionEndsAt: expiresAt }))
  return covered.length > 0 ? [SUBJECT] : []
}

function lastEnd(sessions: readonly LiveSession[]): Date | null {
  if (sessions.length === 0) return null
  return new Date(Math.max(...sessions.map(({ expiresAt }) => expiresAt.getTime())))
}

/** What `binding` is owed of `event`: a delivery that has not been tried. */
export function owed(
  event: LogoutEvent,
  { id: bindingId }: Pick<Binding, 'id'>,
  { sid, sessionEndsAt }: { readonly sid: Sid | null; readonly sessionEndsAt: Date | null },
  digest: Digest,
): OwedDelivery {
  return {
    delivery: {
      state: 'in_flight',
      id: deliveryId(event.id, bindingId, sid, digest),
      ...{ bindingId, eventId: event.id, sid, sessionEndsAt, event },
      ...{ attempts: 0, retries: 0, refusals: 0 },
    },
    target: targetOf(event, sid, digest),
  }
}
