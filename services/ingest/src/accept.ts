import { type AcceptedLogoutEvent, fromAccepted, type LogoutEventInput } from '@curfew/client'
import type { LogoutEvent } from '@curfew/domain'

/** One fault of a posted event, and what to change. */
export interface Fault {
  /** JSON pointer to the member. */
  readonly pointer: string
  readonly detail: string
}

/** Most that `occurred_at` may lie ahead of our clock, in milliseconds. */
const FUTURE_MS_MAX = 5 * 60_000

/**
 * Makes a logout event of what an IdP posted, with what it left out filled in; or says what to change. The members have
 * been checked against the schema; here are the rules between them.
 */
export function acceptEvent(
  input: LogoutEventInput,
  { now, newId }: { now: Date; newId: () => string },
): LogoutEvent | readonly Fault[] {
  const faults: Fault[] = []
  const fault = (pointer: string, detail: string) => faults.push({ pointer, detail })
  const scope = input.scope ?? (input.sid === undefined ? 'subject' : 'session')

  if (scope === 'issuer') {
    fault(
      '/scope',
      'must be session or subject: telling everybody needs to know the sessions, which this release does not',
    )
  } else if (input.sub === undefined && input.sid === undefined) {
    fault('/sub', 'is missing: give sub, sid or both')
  } else if (scope === 'session' && input.sid === undefined) {
    fault('/sid', 'is missing: scope session needs the session that ended')
  } else if (scope === 'subject' && input.sub === undefined) {
    fault('/sub', 'is missing: scope subject needs the subject whose sessions ended')
  }

  const occurredMs = input.occurred_at === undefined ? now.getTime() : Date.parse(input.occurred_at)
  if (!existingDay(input.occurred_at)) fault('/occurred_at', 'is not a time that exists')
  else if (occurredMs > now.getTime() + FUTURE_MS_MAX) fault('/occurred_at', 'lies in the future')

  if (faults.length > 0 || scope === 'issuer') return faults
  const accepted: AcceptedLogoutEvent = {
    ...input,
    id: input.id ?? newId(),
    scope,
    occurred_at: new Date(occurredMs).toISOString(),
    lane: input.lane ?? 'interactive',
    accepted_at: now.toISOString(),
  }
  const event = fromAccepted(accepted)
  return 'unreadable' in event ? [{ pointer: '', detail: event.unreadable }] : event
}

/** Whether a day written as RFC 3339 exists. `Date.parse` takes 30 February for 2 March. */
function existingDay(time: string | undefined): boolean {
  if (time === undefined) return true
  if (Number.isNaN(Date.parse(time))) return false
  const [year, month, day] = time.slice(0, 10).split('-').map(Number)
  if (year === undefined || month === undefined || day === undefined) return false
  return new Date(Date.UTC(year, month, 0)).getUTCDate() >= day
}
