import type { ClientId } from './ids.ts'
import type { LogoutEvent } from './logout-event.ts'
import type { Session } from './session.ts'

/** A session in the index, as far as a logout asks about it. */
export type LiveSession = Pick<Session, 'sub' | 'sid' | 'clientId' | 'device' | 'startedAt' | 'expiresAt'>

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
export function coversSession(event: LogoutEvent, { sub, sid, device, startedAt }: LiveSession): boolean {
  if (startedAt > event.occurredAt) return false
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
