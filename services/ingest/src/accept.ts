import { hash } from 'node:crypto'
import { type LogoutEventInput, logoutEventOf } from '@curfew/contract'
import type { Digest, LogoutEvent } from '@curfew/domain'
import { type Fault, readPast } from './fault.ts'

const digest: Digest = (text) => hash('sha256', text)

/**
 * Makes a logout event from an IdP's post, and fills in defaults. The schema has checked each member. This function checks the
 * rules between members.
 *
 * @param requestedBy the name of the credential.
 * @returns the event, or the faults to correct.
 */
export function acceptEvent(
  input: LogoutEventInput,
  { now, newId, requestedBy }: { now: Date; newId: () => string; requestedBy: string },
): LogoutEvent | readonly Fault[] {
  const faults: Fault[] = []
  const fault = (pointer: string, detail: string) => faults.push({ pointer, detail })
  const scope = input.scope ?? (input.sid === undefined ? 'subject' : 'session')

  if (scope === 'issuer') {
    for (const member of ['sub', 'sid', 'email'] as const) {
      if (input[member] !== undefined)
        fault(`/${member}`, 'must be absent: scope issuer covers every subject')
    }
    if (input.lane === 'interactive')
      fault('/lane', 'must be bulk or absent: scope issuer uses the bulk lane')
  } else if (input.scope === undefined && input.sub === undefined && input.sid === undefined) {
    fault('/sub', 'is missing: give sub, sid or both')
  } else if (scope === 'session' && input.sid === undefined) {
    fault('/sid', 'is missing: scope session needs the session that ended')
  } else if (scope !== 'session' && input.sub === undefined) {
    fault('/sub', `is missing: scope ${scope} needs the subject whose sessions ended`)
  }
  if (scope === 'device' && input.device === undefined) {
    fault('/device', 'is missing: scope device needs the device whose sessions ended')
  } else if (scope !== 'device' && input.device !== undefined) {
    fault('/device', `must be absent: it is for scope device, and the scope is ${scope}`)
  }

  const occurredAt = input.occurred_at === undefined ? null : readPast(input.occurred_at, '/occurred_at', now)
  if (occurredAt !== null && 'detail' in occurredAt) return [...faults, occurredAt]

  if (faults.length > 0) return faults
  const members = {
    ...input,
    id: input.id ?? newId(),
    scope,
    lane: scope === 'issuer' ? ('bulk' as const) : (input.lane ?? 'interactive'),
    ...(scope === 'issuer' && { requested_by: requestedBy }),
  }
  const event = logoutEventOf(members, { occurredAt, acceptedAt: now }, digest)
  return 'unreadable' in event ? [{ pointer: '', detail: event.unreadable }] : event
}
