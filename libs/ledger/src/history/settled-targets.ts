import type { BindingId, SettledTarget } from '@curfew/domain'
import type { BindingFacts } from '../delivery/binding-facts.ts'
import { clampedTime } from '../postgres/times.ts'

// Settled deliveries in the form that receipts name them, read together with their events.

/** The settled deliveries of an event: one list for each column, in the same order. All null if there are none. */
export interface TargetColumns {
  readonly bindingIds: string | null
  readonly states: string
  readonly levels: string
  readonly reasons: string
  readonly attempts: string
  readonly generations: string
  readonly settledMs: string
  readonly firstAttemptMs: string
  readonly statuses: string
  readonly digests: string
  /** Null if no delivery has a `sid`. */
  readonly sids: readonly (string | null)[] | null
  /** Null if every delivery names the event's subject, or none. */
  readonly subs: readonly (string | null)[] | null
  /** Null if no delivery has evidence. */
  readonly evidence: readonly (string | null)[] | null
}

// Returns each column as one text, separated by commas. At tens of thousands of deliveries a second, a row or an array for each
// delivery takes several times as long in PostgreSQL and in Node.js. No value of these columns has a comma. A `sid` may have one, so sids are JSON. Half a
// microsecond is added before rounding down: more than the error of the multiplication, less than the precision of a time.
const list = (text: string) => `string_agg(coalesce(${text}, ''), ',')`
const milliseconds = (time: string) =>
  `floor(date_part('epoch', ${clampedTime(time)}) * 1000 + 0.0005)::bigint::text`
/** SQL: the settled deliveries of the event `given`, a row with the event's id and the range of its deliveries' ids. */
export const SETTLED_TARGETS = `
  select ${list('w.binding_id::text')} as "bindingIds", ${list('w.state')} as states, ${list('w.level')} as levels,
         ${list('w.dead_letter_reason')} as reasons, ${list('(w.attempts - w.unsent)::text')} as attempts,
         ${list('w.generation::text')} as generations, ${list(milliseconds('w.settled_at'))} as "settledMs",
         ${list(milliseconds('w.first_attempt_at'))} as "firstAttemptMs", ${list('w.status::text')} as statuses,
         ${list("encode(w.token_digest, 'base64')")} as digests,
         case when bool_or(w.sid is not null) then json_agg(w.sid) end as sids,
         case when bool_or(w.sub is not null) then json_agg(w.sub) end as subs,
         case when bool_or(w.evidence is not null) then json_agg(w.evidence) end as evidence
    from deliveries w
   where w.id between given.low and given.high and w.event_id = given.id and w.settled_at is not null`

/** The bindings of the deliveries in these rows. */
export function bindingsOf(rows: readonly TargetColumns[]): ReadonlySet<BindingId> {
  const ids = new Set(rows.flatMap(({ bindingIds }) => bindingIds?.split(',') ?? []))
  return new Set([...ids].map((id) => Number(id) as BindingId))
}

/** Parses the deliveries of a row. */
export function toTargets(
  { bindingIds, sids, subs, evidence, ...columns }: TargetColumns,
  bindings: ReadonlyMap<BindingId, BindingFacts>,
): readonly SettledTarget[] {
  if (bindingIds === null) return []
  const states = columns.states.split(',')
  const levels = columns.levels.split(',')
  const reasons = columns.reasons.split(',')
  const attempts = columns.attempts.split(',')
  const generations = columns.generations.split(',')
  const settledMs = columns.settledMs.split(',')
  const firstAttemptMs = columns.firstAttemptMs.split(',')
  const statuses = columns.statuses.split(',')
  const digests = columns.digests.split(',')
  return bindingIds.split(',').map((bindingId, at) => {
    const { clientId, channel, fallbackFor, endpoint, withinMs, counts } =
      bindings.get(Number(bindingId) as BindingId) ?? UNKNOWN_BINDING
    return {
      clientId,
      channel,
      fallbackFor,
      endpoint,
      withinMs,
      counts,
      sid: sids?.[at] ?? null,
      sub: subs?.[at] ?? null,
      state: states[at] as SettledTarget['state'],
      level: (levels[at] || null) as SettledTarget['level'],
      reason: reasons[at] || null,
      attempts: Number(attempts[at]),
      generation: Number(generations[at]),
      settledMs: Number(settledMs[at]),
      firstAttemptMs: firstAttemptMs[at] ? Number(firstAttemptMs[at]) : null,
      status: statuses[at] ? Number(statuses[at]) : null,
      tokenDigest: digests[at] ? base64url(digests[at]) : null,
      evidence: evidence?.[at] ?? null,
    }
  })
}

/** Stands in for a missing binding. A binding is kept while deliveries name it, so none should be missing. */
const UNKNOWN_BINDING: Omit<BindingFacts, 'id' | 'clientId' | 'several'> & { readonly clientId: string } = {
  ...{ clientId: '', channel: '', fallbackFor: null, endpoint: '' },
  ...{ withinMs: 0, counts: 'done' },
}

function base64url(base64: string): string {
  return base64.replace(/=+$/, '').replaceAll('+', '-').replaceAll('/', '_')
}
