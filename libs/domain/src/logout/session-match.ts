import type { ClientId } from '../ids.ts'
import type { Session, SessionBeginning } from '../session/session.ts'
import { type LogoutEvent, occurrenceOf, requestedAtOf } from './event.ts'

/** The parts of an indexed session that a logout depends on. */
export type LiveSession = SessionBeginning &
  Pick<Session, 'sub' | 'sid' | 'clientId' | 'device' | 'expiresAt'> & {
    /** Null if the IdP stated none; absent if the query did not ask for it. */
    readonly email?: string | null
    /** Whether its `sub` is another name of the event's subject: its client's pairwise `sub`, for example. Default: it is not. */
    readonly linked?: boolean
  }

/** How far an IdP's clock may be ahead of ours, in milliseconds. Ingest refuses a later time with a 400. */
export const CLOCKS_APART_MS_MAX = 5 * 60_000

/** The parts of an event that say when it happened. */
export type Occurrence = Pick<LogoutEvent, 'occurredAt' | 'acceptedAt' | 'parentAcceptedAt'>

/**
 * Whether a session began after an event, so that the event does not end it. The ledger's SQL implements the same rule
 * (`beganBy`).
 *
 * If the IdP stated both times, they come from one clock and are compared. Otherwise one time is the IdP's and one is ours. The
 * two clocks may differ by up to five minutes, so our order of acceptance decides. A session posted before the logout began
 * before it. A session posted after the logout began after it, unless its IdP states an earlier start.
 */
export function beganAfter(session: SessionBeginning, event: Occurrence): boolean {
  const { startedAt, startedStated, acceptedAt } = session
  if (startedStated && event.occurredAt !== null) return startedAt > event.occurredAt
  if (+startedAt > +occurrenceOf(event) + CLOCKS_APART_MS_MAX) return true
  const requestedAt = requestedAtOf(event)
  return startedAt > requestedAt && acceptedAt > requestedAt
}

/** Whether an event is about a client's sessions. */
export function concernsClient({ clients }: LogoutEvent, clientId: ClientId): boolean {
  return clients === null || clients.includes(clientId)
}

/** Whether a client started the logout and so already knows of the event. */
export function isInitiator(event: LogoutEvent, clientId: ClientId): boolean {
  return clientId === event.initiator && !event.includeInitiator
}

/**
 * Whether a client ended a session itself when it started the logout. If the event names the session in which the logout was
 * started, the client's other sessions are not over, for example those on other devices.
 */
export function isEndedByInitiator(
  event: LogoutEvent,
  { clientId, sid }: Pick<LiveSession, 'clientId' | 'sid'>,
): boolean {
  return isInitiator(event, clientId) && (event.sid === null || event.sid === sid)
}

/**
 * Whether an event ends a session: the session is in the event's scope and began before the event. A session with an unknown
 * device may be on the logged-out device, so a device logout ends it.
 */
export function matchesSession(event: LogoutEvent, session: LiveSession): boolean {
  if (beganAfter(session, event)) return false
  const { sub, sid, device, linked = false } = session
  switch (event.scope) {
    case 'session':
      return sid === event.sid
    case 'subject':
      return linked || sub === event.sub
    case 'device':
      return (linked || sub === event.sub) && (device === null || device === event.device)
    case 'issuer':
      return true
  }
}
