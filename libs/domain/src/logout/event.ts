import type { ClientId, EventId, GivenEventId, Issuer, Sid, Subject } from '../ids.ts'
import type { RelaySettings } from '../registry/relay.ts'

/** `interactive`: a person waits for the logout. `bulk`: a mass logout, which never delays an interactive one. */
export type Lane = 'interactive' | 'bulk'
/** Why the session ended, as the IdP stated it. `audit`: Curfew made the session itself, to see whether a logout ends it. */
export type LogoutReason = 'user' | 'admin' | 'policy' | 'compromise' | 'expiry' | 'deletion' | 'audit'

/** The logout token that the IdP posted to the relay, from which the event was made. */
export interface RelayedToken {
  /** The client that the IdP addressed the token to: its `aud`. */
  readonly clientId: ClientId
  /** A compact JWS, byte for byte as the IdP posted it. */
  readonly token: string
  /** False: the issuer's keys were unavailable when the token was accepted, so intake verifies it before it plans the event. */
  readonly verified: boolean
}

interface LogoutBase {
  /** Derived from `iss` and `givenId`, because two issuers may give the same id. */
  readonly id: EventId
  /** The id that the issuer gave the event. Only this id leaves Curfew. */
  readonly givenId: GivenEventId
  readonly iss: Issuer
  /** Null if the IdP stated none. */
  readonly reason: LogoutReason | null
  /** The client that started the logout. It gets no delivery unless `includeInitiator` is true. */
  readonly initiator: ClientId | null
  readonly includeInitiator: boolean
  /** The subject's email address, for relying parties that identify users by it. Absent if the IdP stated none. */
  readonly email?: string
  /** The only clients that the event is about. Null: every client that may hold a session. */
  readonly clients: readonly ClientId[] | null
  readonly lane: Lane
  /** When the session ended, by the IdP's clock. Null if the IdP stated no time; see `occurrenceOf`. */
  readonly occurredAt: Date | null
  /** When Curfew accepted the event (202), by its own clock. The SLA counts from this time. */
  readonly acceptedAt: Date
  /** The issuer logout that the event is a part of. Absent if an IdP posted the event. */
  readonly parentId?: EventId
  /** When Curfew accepted the issuer logout `parentId`, by its own clock. */
  readonly parentAcceptedAt?: Date
  /** Absent if the event did not come by the relay. */
  readonly relayed?: RelayedToken
  /** The IdP's own id of the logout (`txn`, RFC 8417 section 2.2), which every token of the event repeats. Absent if it gave none. */
  readonly txn?: string
}

/** The session `sid` at `iss` ended. */
export interface SessionLogout extends LogoutBase {
  readonly scope: 'session'
  readonly sid: Sid
  readonly sub: Subject | null
}

/** Every session of `sub` ended. `sid` is the session in which the logout was started, if known. */
export interface SubjectLogout extends LogoutBase {
  readonly scope: 'subject'
  readonly sub: Subject
  readonly sid: Sid | null
}

/** Every session of `sub` on one device ended. `sid` is the session in which the logout was started, if known. */
export interface DeviceLogout extends LogoutBase {
  readonly scope: 'device'
  readonly sub: Subject
  readonly sid: Sid | null
  /** The device as the IdP names it in the sessions that it posts. */
  readonly device: string
}

/** Every session of every subject ended. Curfew makes one event for each subject; the issuer logout itself owes no delivery. */
export interface IssuerLogout extends LogoutBase {
  readonly scope: 'issuer'
  readonly sub: null
  readonly sid: null
  /** The name of the credential that requested it. */
  readonly requestedBy: string
}

/** An issuer's statement that a session, a subject, a subject on one device, or every subject is logged out. */
export type LogoutEvent = SessionLogout | SubjectLogout | DeviceLogout | IssuerLogout

/**
 * The event log's key of a logout. Records with one key stay in order. The key is the subject if it is known, so that logouts of
 * a session and of its subject stay in order; otherwise the key is the session.
 */
export function logKey(event: {
  readonly iss: string
  readonly sub: string | null
  readonly sid: string | null
}): string {
  return JSON.stringify(event.sub !== null ? [event.iss, event.sub] : [event.iss, null, event.sid])
}

/** Widens a relayed event to all clients of its issuer, if the issuer's relay settings say so. */
export function widened(event: LogoutEvent, relay: Pick<RelaySettings, 'widen'> | undefined): LogoutEvent {
  return event.relayed !== undefined && relay?.widen === true ? { ...event, clients: null } : event
}

/** When the logout was requested, by our clock. For a part of an issuer logout, this is when the issuer logout was accepted. */
export function requestedAtOf({
  acceptedAt,
  parentAcceptedAt,
}: Pick<LogoutBase, 'acceptedAt' | 'parentAcceptedAt'>): Date {
  return parentAcceptedAt ?? acceptedAt
}

/** When the session ended: the time that the IdP stated, or else when the logout was requested. */
export function occurrenceOf(
  event: Pick<LogoutBase, 'occurredAt' | 'acceptedAt' | 'parentAcceptedAt'>,
): Date {
  return event.occurredAt ?? requestedAtOf(event)
}

/**
 * The content that two posts of one id must share, as text. It contains neither our own timestamps, nor the requester, nor whether
 * a relayed token was verified, which differ between posts. It does not contain `givenId`, because `id` is derived from it.
 */
export function sameContent(event: LogoutEvent): string {
  const { acceptedAt, parentAcceptedAt, occurredAt, givenId: _, relayed, ...content } = event
  const occurred = occurredAt?.toISOString() ?? null
  const members = Object.entries(content).filter(([name]) => name !== 'requestedBy')
  return JSON.stringify([...members.sort(([a], [b]) => (a < b ? -1 : 1)), occurred])
}
