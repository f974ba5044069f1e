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

/** Reads the outcomes of those deliveries that are settled, in any order. */
export async function outcomesOf(db: Database, ids: readonly string[]): Promise<readonly OutcomeRecord[]> {
  const { rows } = await db.query<OutcomeRecord>({ name: 'outcomes_of', text: OUTCOMES_OF, values: [ids] })
  return rows
}

// Publishing begins with the present, not with all of history.
const BEGIN = `
  insert into outcomes_published (until_at)
  select now() - make_interval(secs => $1::float8 / 1000) where not exists (select from outcomes_published)`

// Times as text: a Date is less precise than PostgreSQL.
const NEXT_SPAN = `
  select until_at::text as "from", next::text as until, next < settled as more
    from (
      select until_at, least(until_at + make_interval(secs => $1::float8 / 1000), settled) as next, settled
        from outcomes_published, (select now() - make_interval(secs => $2::float8 / 1000) as settled) horizon
    ) span
   where next > until_at`

// The start of the attempt is a condition as well, so that only the partitions that may have it are read. An acknowledged
// delivery never changes again.
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
 * Passes the acknowledgements of the next `spanMs` to `publish`, and then records how far it has published. An acknowledgement is
 * published at least once. The first call begins with the present. Settling writes nothing for this and does not wait for it.
 *
 * @param lagMs leaves younger acknowledgements for later. Longer than a statement may take, so that every older acknowledgement
 * is committed, or never will be.
 * @returns the number published, and whether more can be published now; null if another bookkeeper is publishing.
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
    // Not prepared by name: the cost of a plan depends on the span, and a generic plan would read everything.
    const { rows } = await transaction.query<OutcomeRecord>({
      text: ACKNOWLEDGED,
      values: [span.from, span.until],
    })
    if (rows.length > 0) await publish(rows)
    await transaction.query({ name: 'mark_outcomes', text: MARK_PUBLISHED, values: [span.until] })
    return { published: rows.length, more: span.more }
  })
}
