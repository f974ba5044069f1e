import { parseInstant, type SessionInput } from '@curfew/contract'
import type { ClientId, Issuer, Session, Sid, Subject } from '@curfew/domain'
import { type Fault, readPast } from './fault.ts'

/** The greatest remaining life of a session, in days: the limit that browsers have for cookies (RFC 6265bis section 5.5). */
const DAYS_MAX = 400
const DAY_MS = 86_400_000

/**
 * Makes a session from an IdP's post. Without `started_at`, the session starts now. A session that is over already is accepted,
 * too: the post may have been delayed.
 *
 * @returns the session, or the faults to correct.
 */
export function acceptSession(input: SessionInput, now: Date): Session | readonly Fault[] {
  const startedAt = input.started_at === undefined ? now : readPast(input.started_at, '/started_at', now)
  const expiresAt = input.expires_at === null ? null : readEnd(input.expires_at, now)
  const faults = [startedAt, expiresAt].filter((read) => read !== null && 'detail' in read)
  if ('detail' in startedAt || (expiresAt !== null && 'detail' in expiresAt)) return faults
  if (expiresAt !== null && expiresAt <= startedAt) {
    const start =
      input.started_at === undefined ? 'now, the start of a session without started_at' : 'started_at'
    return [{ pointer: '/expires_at', detail: `must be after ${start}` }]
  }
  return {
    iss: input.iss as Issuer,
    sub: input.sub as Subject,
    sid: input.sid as Sid,
    clientId: input.client_id as ClientId,
    device: input.device ?? null,
    ...(input.email !== undefined && { email: input.email }),
    startedAt,
    startedStated: input.started_at !== undefined,
    acceptedAt: now,
    expiresAt,
  }
}

function readEnd(text: string, now: Date): Date | Fault {
  const pointer = '/expires_at'
  const instant = parseInstant(text)
  if (instant === null) return { pointer, detail: 'is not a time that exists' }
  if (instant.getTime() > now.getTime() + DAYS_MAX * DAY_MS)
    return {
      pointer,
      detail: `must be at most ${DAYS_MAX} days ahead: post the session again when it is extended`,
    }
  return instant
}
