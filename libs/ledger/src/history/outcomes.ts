import type { OutcomeRecord } from '@curfew/domain'
import { type Database, withTransaction } from '../postgres/database.ts'
import { tryLock } from '../postgres/locks.ts'

const COLUMNS = `d.id, d.event_id as "eventId", e.given_id as "givenEventId", p.issuer, e.iss, p.client_id as "clientId", b.kind as channel, e.sub,
         coalesce(d.sid, e.sid) as sid, e.scope, e.reason, d.lane, d.state, d.level,
         d.dead_letter_reason as "deadLetterReason", d.attempts - d.unsent as "attemptCount", d.generation,
         e.accepted_at as "acceptedAt", d.settled_at as "settledAt", e.traceparent`

const PARTIES = `
    join events e on e.id = d.event_id
    join bindings b on b.id = d.binding_id
    join relying_parties p on p.id = b.relying_party_id`

const OUTCOMES_OF = `
  select ${COLUMNS} from deliveries d ${PARTIES}
   where d.id = any($1::uuid[]) and d.settled_at is not null`

/** Those of `ids` that are settled, in no order. */
export async function outcomesOf(db: Database, ids: readonly string[]): Promise<readonly OutcomeRecord[]> {
  const { rows } = await db.query<OutcomeRecord>({ name: 'outcomes_of', text: OUTCOMES_OF, values: [ids] })
  return rows
}

// Whoever begins to listen hears of what comes, and not of all history.
const BEGIN = `
  insert into outcomes_published (until_at)
  select now() - make_interval(secs => $1::float8 / 1000) where not exists (select from outcomes_published)`

// As text, for a Date has not all that PostgreSQL keeps.
const NEXT_SPAN = `
  select until_at::text as "from", next::text as until, next < settled as more
    from (
      select until_at, least(until_at + make_interval(secs => $1::float8 / 1000), settled) as next, settled
        from outcomes_published, (select now() - make_interval(secs => $2::float8 / 1000) as settled) horizon
    ) span
   where next > until_at`

// The time of the attempt is said as well, so that only partitions are looked into that may hold it. What was acknowledged
// is never changed again.
const ACKNOWLEDGED = `
  select ${COLUMNS}
    from attempts a
    join deliveries d on d.id = a.delivery_id ${PARTIES}
   where a.recorded_at >= $1::timestamptz and a.recorded_at < $2::timestamptz
     and a.started_at > $1::timestamptz - interval '2 days'
     and a.outcome = 'acknowledged' and d.state = 'acknowledged'
   order by a.recorded_at`

const MARK_PUBLISHED = 'update outcomes_published set until_at = $1::timestamptz'

/**
 * Hands the acknowledgements that were recorded within the next `spanMs` after the last time to `publish`, and remembers
 * that it was done: at least once. The first call begins with now. Nothing is written where deliveries are settled, and
 * nothing waits for it.
 *
 * @param lagMs what is younger is left for later: longer than a statement may take, so that whatever was recorded before has
 * been committed by then, or never will be.
 * @returns how many were published, and whether there is more to look at now; null when somebody else is at it.
 */
export async function publishAcknowledgements(
  db: Database,
  {
    spanMs,
    lagMs,
    publish,
  }: {
    spanMs: number
    lagMs: number
    publish: (records: readonly OutcomeRecord[]) => Promise<void>
  },
): Promise<{ readonly published: number; readonly more: boolean } | null> {
  return withTransaction(db, async (transaction) => {
    if (!(await tryLock(transaction, 'outcomes'))) return null
    await transaction.query({ name: 'begin_outcomes', text: BEGIN, values: [lagMs] })
    const { rows: spans } = await transaction.query<{ from: string; until: string; more: boolean }>({
      name: 'next_span',
      text: NEXT_SPAN,
      values: [spanMs, lagMs],
    })
    const [span] = spans
    if (span === undefined) return { published: 0, more: false }
    // Not prepared by name: what a plan costs depends on the span, and a generic one would read everything.
    const { rows } = await transaction.query<OutcomeRecord>({
      text: ACKNOWLEDGED,
      values: [span.from, span.until],
    })
    if (rows.length > 0) await publish(rows)
    await transaction.query({ name: 'mark_outcomes', text: MARK_PUBLISHED, values: [span.until] })
    return { published: rows.length, more: span.more }
  })
}
