import type { ClientId } from '../ids.ts'
import type { Beginning, Session } from '../session/session.ts'
import { askedAtOf, type LogoutEvent, occurrenceOf } from './event.ts'

/** A session in the index, as far as a logout asks about it. */
export type LiveSession = Beginning &
  Pick<Session, 'sub' | 'sid' | 'clientId' | 'device' | 'expiresAt'> & {
    /** Null where the IdP has not said; absent where it was not asked for. */
    readonly email?: string | null
  }

/** Most that an IdP's clock may be ahead of ours, in milliseconds: a time that lies further ahead is refused with a 400. */
export const CLOCKS_APART_MS_MAX = 5 * 60_000

/** An event, as far as it says when it happened. */
export type Occurrence = Pick<LogoutEvent, 'occurredAt' | 'acceptedAt' | 'parentAcceptedAt'>

/**
 * Whether a session began after an event, and so is not ended by it. The ledger's SQL says the same (`beganBy`).
 *
 * Where the IdP stated both times, they are of one clock. Otherwise one is the IdP's and one is ours, which may differ by up to
 * five minutes, and our order of acceptance decides: what was posted before the logout began before it. A session that is posted
 * after the logout began after it, unless its IdP states an earlier start: a session that is posted late is logged out too.
 */
export function beganAfter(session: Beginning, event: Occurrence): boolean {
  const { startedAt, startedStated, acceptedAt } = session
  if (startedStated && event.occurredAt !== null) return startedAt > event.occurredAt
  if (+startedAt > +occurrenceOf(event) + CLOCKS_APART_MS_MAX) return true
  const askedAt = askedAtOf(event)
  return startedAt > askedAt && acceptedAt > askedAt
}

/** Whether an event is about a client's sessions. */
export function isMeant({ clients }: LogoutEvent, clientId: ClientId): boolean {
  return clients === null || clients.includes(clientId)
}

/** Whether a client knows of an event already, for it started the logout. */
export function isInitiator(event: LogoutEvent, clientId: ClientId): boolean {
  return clientId === event.initiator && !event.includeInitiator
}

/**
 * Whether a client has ended a session by itself, for it started the logout. Where the event names the session that it was started
 * in, the client's others are not over by that: those on the user's other devices, say.
 */
export function isEndedByInitiator(
  event: LogoutEvent,
  { clientId, sid }: Pick<LiveSession, 'clientId' | 'sid'>,
): boolean {
  return isInitiator(event, clientId) && (event.sid === null || event.sid === sid)
}

/**
 * Whether an event is about a session that began before it. One of which nobody has said the device may be on the one that is
 * logged out.
 */
export function matchesSession(event: LogoutEvent, session: LiveSession): boolean {
  if (beganAfter(session, event)) return false
  const { sub, sid, device } = session
  switch (event.scope) {
    case 'session':
      return sid === event.sid
    case 'subject':
      return sub === event.sub
    case 'device':
      return sub === event.sub && (device === null || device === event.device)
    case 'issuer':
      return true
  }
}
