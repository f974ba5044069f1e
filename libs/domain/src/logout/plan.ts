import { undeliverable } from '../delivery/delivery.ts'
import type { BindingId, Digest } from '../ids.ts'
import type { Binding } from '../registry/binding.ts'
import type { SessionIndexUse } from '../session/session.ts'
import type { LogoutEvent } from './event.ts'
import { isDue } from './fallback.ts'
import { canName, mayName } from './names.ts'
import { type Named, type OwedDelivery, owed } from './owed.ts'
import {
  isEndedByInitiator,
  isInitiator,
  isMeant,
  type LiveSession,
  matchesSession,
} from './session-match.ts'

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

/** Whom an event was planned for, and on what knowledge. */
export interface Plan {
  readonly basis: PlanBasis
  readonly deliveries: readonly OwedDelivery[]
}

const SUBJECT: Named = { sid: null, sessionEndsAt: null }
const DOUBTFUL_SUBJECT: Named & Pick<OwedDelivery, 'doubtful'> = { ...SUBJECT, doubtful: true }

/**
 * Decides which bindings are owed what. Over-notify, never under-notify: whoever could hold a session is told; left out are the
 * client that started the logout, but for sessions that it is known to hold beside the one that the event names, where the event names its clients all others, and whoever the index knows to hold none. Where the
 * index is `complete`, a logout of the subject names each session that began before: told late, it ends no other. Where it is
 * `partial`, a relying party may hold sessions that it does not know, and is told of the subject.
 *
 * Skips a fallback unless the channel that it stands in for is unusable.
 *
 * @param issuer the event's, or null when no issuer has this `iss`.
 * @param isUnavailable whether a binding is known not to answer. Default: none is.
 */
export function plan(
  event: LogoutEvent,
  issuer: RegisteredIssuer | null,
  known: KnownSessions,
  digest: Digest,
  isUnavailable: (id: BindingId) => boolean = () => false,
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
    .filter((binding) => isMeant(event, binding.clientId))
    .flatMap((binding) => {
      const held = byClient.get(binding.clientId) ?? []
      const left = held.filter((session) => !isEndedByInitiator(event, session))
      if (left.length === 0 && isInitiator(event, binding.clientId)) return []
      if (!mayName(event, binding) && !isLeftBehind(event, binding, left, issuer.bindings)) return []
      if (!isDueNow(event, binding, left, { bindings: issuer.bindings, isUnavailable })) return []
      const index = { held: left, complete, known: sessions.length > 0 }
      return namedFor(event, binding, index).map(({ doubtful, ...named }) => ({
        ...owed(event, binding, named, digest),
        ...(doubtful && { doubtful }),
      }))
    })
  const basis = known.kind === 'away' ? 'index_away' : sessions.length > 0 ? 'sessions' : 'registered'
  return { basis, deliveries }
}

/**
 * Whether a session would live on unnoticed: the client is known to hold it, and has no channel that may name it. It is owed all the
 * same, and becomes a dead letter that people see.
 */
function isLeftBehind(
  event: LogoutEvent,
  { clientId, fallbackFor }: Binding,
  held: readonly LiveSession[],
  bindings: readonly Binding[],
): boolean {
  if (fallbackFor !== null || !held.some((session) => matchesSession(event, session))) return false
  return !bindings.some((each) => each.clientId === clientId && mayName(event, each))
}

/** Whether a binding is required, or stands in for one that is unusable. @param held the sessions of its client. */
function isDueNow(
  event: LogoutEvent,
  binding: Binding,
  held: readonly LiveSession[],
  {
    bindings,
    isUnavailable,
  }: Pick<RegisteredIssuer, 'bindings'> & { isUnavailable: (id: BindingId) => boolean },
): boolean {
  // Nearly all are required: the others of their relying parties are not looked for.
  if (binding.fallbackFor === null) return true
  const sid = event.scope === 'session' ? event.sid : (held[0]?.sid ?? null)
  const party = bindings.filter(({ clientId }) => clientId === binding.clientId)
  const isUsable = (each: Binding) => !isUnavailable(each.id) && undeliverable(each, { sid, event }) === null
  return canName(event, binding, sid) && isDue(binding, party, isUsable)
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
): readonly (Named & Pick<OwedDelivery, 'doubtful'>)[] {
  if (held.length === 0 && complete) return []
  if (event.scope === 'session') return [{ sid: event.sid, sessionEndsAt: lastEnd(held) }]
  // A token could not name an unposted session. One that is posted later is named then.
  if (held.length === 0) return known && binding.names === 'session' ? [] : [SUBJECT]
  // What began after the event, or is on another device, is not to be ended, not even by the way.
  const covered = held.filter((session) => matchesSession(event, session))
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
