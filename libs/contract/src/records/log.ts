import type {
  ClientId,
  Digest,
  EventId,
  GivenEventId,
  Issuer,
  LogLane,
  LogoutEvent,
  LogRecord,
  RelayedToken,
  Sid,
  Subject,
} from '@curfew/domain'
import { eventIdOf, logKey } from '@curfew/domain'
import { parseInstant } from '../api/instant.ts'
import type { AcceptedLogoutEvent } from '../api/logout-event.ts'
import { cloudEventHeaders } from './cloud-event.ts'

/** The name of each lane in spans. It is also the topic of the lane in Kafka, without the prefix of the deployment. */
export const DESTINATIONS: Readonly<Record<LogLane, string>> = {
  interactive: 'logout.events',
  bulk: 'logout.events.bulk',
  sessions: 'logout.sessions',
}

/** CloudEvents `type` of a logout event. */
export const LOGOUT_EVENT_TYPE = 'curfew.logout-event.v1'

/**
 * Writes a logout event as a log record: CloudEvents 1.0 attributes (Kafka protocol binding, binary content mode) and W3C trace
 * context in headers, the event as JSON in the value.
 */
export function encodeLogoutEvent(event: LogoutEvent, traceparent: string): LogRecord {
  return {
    lane: event.lane,
    key: logKey(event),
    value: new TextEncoder().encode(JSON.stringify(toAccepted(event))),
    headers: {
      ...cloudEventHeaders({
        id: event.givenId,
        type: LOGOUT_EVENT_TYPE,
        source: event.iss,
        time: event.acceptedAt.toISOString(),
      }),
      traceparent,
    },
  }
}

/** The reason why a record cannot be read, in words. */
export interface Unreadable {
  readonly unreadable: string
}

/**
 * Reads the logout event in a log record.
 *
 * @param check the validator of `AcceptedLogoutEvent`, which returns the faults of a value.
 * @param digest SHA-256, in hexadecimal.
 */
export function decodeLogoutEvent(
  { value, headers }: Pick<LogRecord, 'value' | 'headers'>,
  check: (value: unknown) => readonly { readonly pointer: string; readonly detail: string }[],
  digest: Digest,
): LogoutEvent | Unreadable {
  const type = headers.ce_type
  if (type !== LOGOUT_EVENT_TYPE)
    return { unreadable: `ce_type is ${type ?? 'absent'}, not ${LOGOUT_EVENT_TYPE}` }
  const read = readJson(value, check)
  return 'unreadable' in read ? read : fromAccepted(read.json as AcceptedLogoutEvent, digest)
}

/** The JSON in a record's value, if `check` finds no fault. */
export function readJson(
  value: Uint8Array,
  check: (value: unknown) => readonly { readonly pointer: string; readonly detail: string }[],
): { readonly json: unknown } | Unreadable {
  let json: unknown
  try {
    json = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(value))
  } catch {
    return { unreadable: 'the value is not JSON in UTF-8' }
  }
  const [fault] = check(json)
  return fault === undefined ? { json } : { unreadable: `${fault.pointer || 'the value'} ${fault.detail}` }
}

function toAccepted(event: LogoutEvent): AcceptedLogoutEvent {
  return {
    id: event.givenId,
    iss: event.iss,
    ...(event.sub !== null && { sub: event.sub }),
    ...(event.sid !== null && { sid: event.sid }),
    ...(event.email !== undefined && { email: event.email }),
    scope: event.scope,
    ...(event.scope === 'device' && { device: event.device }),
    ...(event.reason !== null && { reason: event.reason }),
    ...(event.initiator !== null && { initiator: event.initiator }),
    ...(event.includeInitiator && { include_initiator: true }),
    ...(event.occurredAt !== null && { occurred_at: event.occurredAt.toISOString() }),
    ...(event.clients !== null && { clients: [...event.clients] }),
    lane: event.lane,
    accepted_at: event.acceptedAt.toISOString(),
    ...(event.parentId !== undefined && { parent_id: event.parentId }),
    ...(event.parentAcceptedAt !== undefined && { parent_accepted_at: event.parentAcceptedAt.toISOString() }),
    ...(event.scope === 'issuer' && { requested_by: event.requestedBy }),
    ...(event.relayed !== undefined && { relay: toRelay(event.relayed) }),
    ...(event.txn !== undefined && { txn: event.txn }),
  }
}

function toRelay({ clientId, token, verified }: RelayedToken): NonNullable<AcceptedLogoutEvent['relay']> {
  return { client_id: clientId, token, verified }
}

/** Parses the times of validated JSON, and makes the event. */
function fromAccepted(accepted: AcceptedLogoutEvent, digest: Digest): LogoutEvent | Unreadable {
  const { occurred_at, parent_accepted_at } = accepted
  const occurredAt = occurred_at === undefined ? null : parseInstant(occurred_at)
  const acceptedAt = parseInstant(accepted.accepted_at)
  const parentAcceptedAt = parent_accepted_at === undefined ? undefined : parseInstant(parent_accepted_at)
  if (occurredAt === null && occurred_at !== undefined)
    return { unreadable: '/occurred_at is not a time that exists' }
  if (acceptedAt === null) return { unreadable: '/accepted_at is not a time that exists' }
  if (parentAcceptedAt === null) return { unreadable: '/parent_accepted_at is not a time that exists' }
  const times = { occurredAt, acceptedAt, ...(parentAcceptedAt !== undefined && { parentAcceptedAt }) }
  return logoutEventOf(accepted, times, digest)
}

function relayedOf({
  client_id: clientId,
  token,
  verified,
}: NonNullable<AcceptedLogoutEvent['relay']>): RelayedToken {
  return { clientId: clientId as ClientId, token, verified }
}

/** Makes the domain's event from validated members and times. Only this function gives the members their branded types. */
export function logoutEventOf(
  accepted: Omit<AcceptedLogoutEvent, 'occurred_at' | 'accepted_at' | 'parent_accepted_at'>,
  times: Pick<LogoutEvent, 'occurredAt' | 'acceptedAt' | 'parentAcceptedAt'>,
  digest: Digest,
): LogoutEvent | Unreadable {
  const iss = accepted.iss as Issuer
  const givenId = accepted.id.toLowerCase() as GivenEventId
  const asserted = {
    ...{ id: eventIdOf(iss, givenId, digest), givenId, iss },
    ...(accepted.email !== undefined && { email: accepted.email }),
    reason: accepted.reason ?? null,
    initiator: (accepted.initiator ?? null) as ClientId | null,
    includeInitiator: accepted.include_initiator ?? false,
    clients: (accepted.clients ?? null) as readonly ClientId[] | null,
    lane: accepted.lane,
    ...times,
    ...(accepted.parent_id !== undefined && { parentId: accepted.parent_id.toLowerCase() as EventId }),
    ...(accepted.relay !== undefined && { relayed: relayedOf(accepted.relay) }),
    ...(accepted.txn !== undefined && { txn: accepted.txn }),
  }
  const sub = (accepted.sub ?? null) as Subject | null
  const sid = (accepted.sid ?? null) as Sid | null
  if (accepted.scope === 'session') {
    return sid === null
      ? { unreadable: '/sid is missing, and scope is session' }
      : { ...asserted, scope: 'session', sid, sub }
  }
  if (accepted.scope === 'issuer') {
    const { requested_by: requestedBy } = accepted
    if (requestedBy === undefined) return { unreadable: '/requested_by is missing, and scope is issuer' }
    return sub === null && sid === null
      ? { ...asserted, scope: 'issuer', sub, sid, requestedBy }
      : { unreadable: 'sub and sid must be absent where scope is issuer' }
  }
  if (sub === null) return { unreadable: `/sub is missing, and scope is ${accepted.scope}` }
  if (accepted.scope === 'subject') return { ...asserted, scope: 'subject', sub, sid }
  const { device } = accepted
  return device === undefined
    ? { unreadable: '/device is missing, and scope is device' }
    : { ...asserted, scope: 'device', sub, sid, device }
}
