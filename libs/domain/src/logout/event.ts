import type { ClientId, EventId, GivenEventId, Issuer, Sid, Subject } from '../ids.ts'

/** Interactive: a person waits for it. Bulk: a mass logout, never in a person's way. */
export type Lane = 'interactive' | 'bulk'
/** Why the session ended, in the IdP's words. */
export type LogoutReason = 'user' | 'admin' | 'policy' | 'compromise' | 'expiry' | 'deletion'

interface Asserted {
  /** Derived from `iss` and `givenId`: the same id at two issuers is two events. */
  readonly id: EventId
  /** The id that the issuer gave it: the one that leaves Curfew. */
  readonly givenId: GivenEventId
  readonly iss: Issuer
  /** Null where the IdP did not say. */
  readonly reason: LogoutReason | null
  /** The client that started the logout. It knows already, so it is not told unless `includeInitiator`. */
  readonly initiator: ClientId | null
  readonly includeInitiator: boolean
  /** The subject's email address, for relying parties that know their users by it. Absent where the IdP did not say. */
  readonly email?: string
  /** Narrows the targets to these clients; null means every client that may hold a session. */
  readonly clients: readonly ClientId[] | null
  readonly lane: Lane
  /** When the session ended, as the IdP stated it, by its clock. Null where the IdP did not say: `occurrenceOf`. */
  readonly occurredAt: Date | null
  /** When we took responsibility (202), by our clock. The SLA counts from here. */
  readonly acceptedAt: Date
  /** Of an event that we made ourselves: the logout of everyone that it is a part of. Absent where an IdP posted it. */
  readonly parentId?: EventId
  /** Beside `parentId`: when that logout of everyone was accepted, by our clock. */
  readonly parentAcceptedAt?: Date
}

/** One session ended: `sid` at `iss`. */
export interface SessionLogout extends Asserted {
  readonly scope: 'session'
  readonly sid: Sid
  readonly sub: Subject | null
}

/** Every session of `sub` ended. `sid`, if given, is the one it started from: for the record only. */
export interface SubjectLogout extends Asserted {
  readonly scope: 'subject'
  readonly sub: Subject
  readonly sid: Sid | null
}

/** Every session of `sub` on one device ended. `sid`, if given, is the one it started from: for the record only. */
export interface DeviceLogout extends Asserted {
  readonly scope: 'device'
  readonly sub: Subject
  readonly sid: Sid | null
  /** In the IdP's words, as it gave them with the sessions. */
  readonly device: string
}

/** Every session of every subject ended. Nobody is told of it as such: for each subject an event of its own is made of it. */
export interface IssuerLogout extends Asserted {
  readonly scope: 'issuer'
  readonly sub: null
  readonly sid: null
  /** Name of the credential that asked for it. */
  readonly requestedBy: string
}

/** What an issuer asserts: this session, this subject, the subject on this device, or everyone is logged out. */
export type LogoutEvent = SessionLogout | SubjectLogout | DeviceLogout | IssuerLogout

/**
 * The event log's key: records of one key stay in order. The subject where it is known, so that a session's and
 * its subject's logouts do not overtake each other; else the session.
 */
export function logKey(event: {
  readonly iss: string
  readonly sub: string | null
  readonly sid: string | null
}): string {
  return JSON.stringify(event.sub !== null ? [event.iss, event.sub] : [event.iss, null, event.sid])
}

/** When the logout was asked of us, by our clock: what is made of an issuer logout was asked for with that. */
export function askedAtOf({
  acceptedAt,
  parentAcceptedAt,
}: Pick<Asserted, 'acceptedAt' | 'parentAcceptedAt'>): Date {
  return parentAcceptedAt ?? acceptedAt
}

/** When the session ended: as the IdP stated it, else when the logout was asked of us. */
export function occurrenceOf(event: Pick<Asserted, 'occurredAt' | 'acceptedAt' | 'parentAcceptedAt'>): Date {
  return event.occurredAt ?? askedAtOf(event)
}

/**
 * What two posts of one id must agree in. Our own stamps are left out: they differ each time. So is who asked. `givenId` is left
 * out: `id` follows from it.
 */
export function sameContent(event: LogoutEvent): string {
  const { acceptedAt, parentAcceptedAt, occurredAt, givenId: _, ...content } = event
  const occurred = occurredAt?.toISOString() ?? null
  const members = Object.entries(content).filter(([name]) => name !== 'requestedBy')
  return JSON.stringify([...members.sort(([a], [b]) => (a < b ? -1 : 1)), occurred])
}
