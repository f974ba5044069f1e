import type {
  ClientId,
  Issuer,
  LogRecord,
  Session,
  SessionChange,
  SessionEnd,
  Sid,
  Subject,
} from '@curfew/domain'
import { sessionLogKey } from '@curfew/domain'
import { parseInstant } from '../api/instant.ts'
import type { AcceptedSession, AcceptedSessionEnd } from '../api/sessions.ts'
import { cloudEventHeaders } from './cloud-event.ts'
import { readJson, type Unreadable } from './log.ts'

/** CloudEvents `type` of the start of a session. */
export const SESSION_STARTED_TYPE = 'curfew.session-started.v1'
/** CloudEvents `type` of the end of a session without a logout. */
export const SESSION_ENDED_TYPE = 'curfew.session-ended.v1'

/** The header values of a session record. */
export interface SessionStamp {
  /** The id of the record, a UUID. */
  readonly id: string
  /** When Curfew accepted the post (202), by its own clock. */
  readonly acceptedAt: Date
  readonly traceparent: string
}

/** Writes the start of a session as a log record, in the format of `encodeLogoutEvent`. */
export function encodeSessionStart(session: Session, stamp: SessionStamp): LogRecord {
  const accepted: AcceptedSession = {
    iss: session.iss,
    sub: session.sub,
    sid: session.sid,
    client_id: session.clientId,
    ...(session.startedStated && { started_at: session.startedAt.toISOString() }),
    expires_at: session.expiresAt?.toISOString() ?? null,
    ...(session.device !== null && { device: session.device }),
    ...(session.email !== undefined && { email: session.email }),
    ...(session.sealedTokens !== undefined && { sealed_tokens: session.sealedTokens }),
    accepted_at: session.acceptedAt.toISOString(),
  }
  return encode(SESSION_STARTED_TYPE, session, accepted, stamp)
}

/** Writes the end of a session as a log record. */
export function encodeSessionEnd(end: SessionEnd, stamp: SessionStamp): LogRecord {
  const accepted: AcceptedSessionEnd = {
    iss: end.iss,
    sid: end.sid,
    ...(end.clientId !== null && { client_id: end.clientId }),
    accepted_at: stamp.acceptedAt.toISOString(),
  }
  return encode(SESSION_ENDED_TYPE, end, accepted, stamp)
}

function encode(
  type: string,
  session: Pick<Session, 'iss' | 'sid'>,
  accepted: AcceptedSession | AcceptedSessionEnd,
  { id, acceptedAt, traceparent }: SessionStamp,
): LogRecord {
  return {
    lane: 'sessions',
    key: sessionLogKey(session),
    value: new TextEncoder().encode(JSON.stringify(accepted)),
    headers: {
      ...cloudEventHeaders({ id, type, source: session.iss, time: acceptedAt.toISOString() }),
      traceparent,
    },
  }
}

type Check = (value: unknown) => readonly { readonly pointer: string; readonly detail: string }[]

/**
 * Reads a session change from a record of the lane for sessions.
 *
 * @param checks the validators of `AcceptedSession` and `AcceptedSessionEnd`.
 */
export function decodeSessionRecord(
  { value, headers }: Pick<LogRecord, 'value' | 'headers'>,
  checks: { readonly start: Check; readonly end: Check },
): SessionChange | Unreadable {
  const type = headers.ce_type
  if (type !== SESSION_STARTED_TYPE && type !== SESSION_ENDED_TYPE) {
    return {
      unreadable: `ce_type is ${type ?? 'absent'}, neither ${SESSION_STARTED_TYPE} nor ${SESSION_ENDED_TYPE}`,
    }
  }
  const read = readJson(value, type === SESSION_STARTED_TYPE ? checks.start : checks.end)
  if ('unreadable' in read) return read
  return type === SESSION_STARTED_TYPE
    ? toStart(read.json as AcceptedSession)
    : toEnd(read.json as AcceptedSessionEnd)
}

function toStart(accepted: AcceptedSession): SessionChange | Unreadable {
  const acceptedAt = parseInstant(accepted.accepted_at)
  const startedAt = accepted.started_at === undefined ? acceptedAt : parseInstant(accepted.started_at)
  const expiresAt = accepted.expires_at === null ? null : parseInstant(accepted.expires_at)
  if (acceptedAt === null) return { unreadable: '/accepted_at is not a time that exists' }
  if (startedAt === null) return { unreadable: '/started_at is not a time that exists' }
  if (expiresAt === null && accepted.expires_at !== null)
    return { unreadable: '/expires_at is not a time that exists' }
  if (expiresAt !== null && expiresAt <= startedAt)
    return { unreadable: '/expires_at is not after started_at' }
  return {
    kind: 'started',
    session: {
      iss: accepted.iss as Issuer,
      sub: accepted.sub as Subject,
      sid: accepted.sid as Sid,
      clientId: accepted.client_id as ClientId,
      device: accepted.device ?? null,
      ...(accepted.email !== undefined && { email: accepted.email }),
      startedAt,
      startedStated: accepted.started_at !== undefined,
      acceptedAt,
      expiresAt,
      ...(accepted.sealed_tokens !== undefined && { sealedTokens: accepted.sealed_tokens }),
    },
  }
}

function toEnd({ iss, sid, client_id, accepted_at }: AcceptedSessionEnd): SessionChange {
  const acceptedAt = parseInstant(accepted_at)
  return {
    kind: 'ended',
    end: {
      iss: iss as Issuer,
      sid: sid as Sid,
      clientId: (client_id ?? null) as ClientId | null,
      ...(acceptedAt !== null && { acceptedAt }),
    },
  }
}
