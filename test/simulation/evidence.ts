import type { Binding, BindingId } from '@curfew/domain'
import type { MemoryAttempt, MemoryDelivery } from '../support/memory-rows.ts'
import type { Received } from './relying-parties.ts'
import type { Run } from './run.ts'
import type { RelyingPartyPlan } from './scenario.ts'

/** A run, with indexes that several invariants use. */
export interface Evidence extends Run {
  readonly planByBinding: ReadonlyMap<BindingId, RelyingPartyPlan>
  /** Recorded attempts by delivery. */
  readonly attemptsOf: ReadonlyMap<string, readonly MemoryAttempt[]>
  /** Tokens that RPs received, by `jti`. */
  readonly byJti: ReadonlyMap<string, readonly Received[]>
}

export type Invariant = (evidence: Evidence) => Iterable<string>

export const describe = (row: MemoryDelivery) =>
  `delivery ${row.id} of event ${row.eventId} to binding ${row.bindingId} (${row.state}, ${row.attempts} attempts)`

/** The user of an event or a session. The names of a user are `person-1`, and `person-1@client-2` at a pairwise client. */
export function userOf({ sub, sid }: { readonly sub: string | null; readonly sid: string | null }): string {
  return sub?.split('@')[0] ?? `person-${sid?.split('-')[1]}`
}

/** Whether a `sub` is the one that a pairwise client alone knows. */
export const isPrivate = (sub: string | null | undefined) => sub?.includes('@') === true

/**
 * Whether an event owes a delivery to a binding that was registered before it and stayed. States the rule independently of
 * `plan`.
 */
export function owedFor(
  { event }: { event: Run['scenario']['posts'][number]['event'] },
  { iss, clientId, names, widens, always }: Binding,
): boolean {
  if (event.iss !== iss) return false
  // A message to this binding would end every session of the user.
  if (names === 'subject' && !widens && event.scope !== 'subject') return false
  if (event.clients !== null && !event.clients.includes(clientId)) return false
  return always || event.initiator !== clientId || event.includeInitiator
}
