import { ERASURE_WATCH_MS, keysOf, LATE_START_MS, nextErasureLook } from '@curfew/domain'
import { dropQuarantined, findQuarantined } from '../event-log/quarantined.ts'
import { eventRanges } from '../history/event-ranges.ts'
import { lockHistory } from '../history/retention.ts'
import { plainArray } from '../postgres/arrays.ts'
import { type Database, type Queryable, withTransaction } from '../postgres/database.ts'
import { eraseOldReceipts, eraseReceipts } from '../receipts/receipts.ts'
import {
  addErased,
  type ErasureRecord,
  endLook,
  findErasure,
  lockErasure,
  type OpenErasure,
  type WaitingCounts,
} from './erasures.ts'

/** Number of events that one transaction handles. */
const PAGE = 500
const NOTHING: WaitingCounts = {
  events: 0,
  deliveries: 0,
  deadLetters: 0,
  recent: 0,
  sessions: 0,
  quarantined: 0,
}
const FIRST_ID = '00000000-0000-0000-0000-000000000000'

// Includes an event of another name of the user that a delivery replaced by this one. Includes an event that names no subject, if its session or its email address is known to be the subject's. Email addresses are
// compared without case, because people write them both ways.
const EVENTS_OF_SUBJECT = `
  select id from (
    select id from events where iss = $1 and sub = $2 and accepted_at < $4
    union
    select id from events where iss = $1 and session_sub = $2 and accepted_at < $4
    union
    select id from events
     where iss = $1 and sid = any($3::text[]) and sub is null and coalesce(session_sub, $2) = $2 and accepted_at < $4
    union
    select id from events
     where iss = $1 and lower(email) = any(array(select lower(unnest($7::text[])))) and email is not null
       and sub is null and coalesce(session_sub, $2) = $2 and accepted_at < $4
    union
    select e.id from deliveries d join events e on e.id = d.event_id where d.sub = $2 and e.iss = $1 and e.accepted_at < $4
  ) theirs
   where id > $5 order by id limit $6`

// `offset 0` keeps this an index scan for each event: without it, the planner reads the table as a whole.
const DELIVERIES_OF_GIVEN = `
    cross join lateral (
      select * from deliveries w
       where w.id between given.low and given.high and w.event_id = given.id offset 0) d`

const NAMES_OF_EVENTS = `
  select sid, email from events where id = any($1::uuid[]) and num_nonnulls(sid, email) > 0
  union
  select d.sid, null
    from unnest($1::uuid[], $2::uuid[], $3::uuid[]) as given(id, low, high)${DELIVERIES_OF_GIVEN}
   where d.sid is not null`

// Erases an event with all its deliveries, or not at all: unsettled deliveries still need the subject. Skips events with entries
// in the journal: projections that name the subject, such as receipts, have yet to read them.
const ERASE_EVENTS = `
  with given as (select * from unnest($1::uuid[], $2::uuid[], $3::uuid[]) as given(id, low, high)),
  unprojected as (
    select event_ids, delivery_ids from journal union all select event_ids, delivery_ids from journal_left
  ),
  gone as (
    update events e set sub = null, sid = null, device = null, email = null, digest = null, session_sub = null, txn = null, erased_at = $4::timestamptz
      from given
     where e.id = given.id and e.erased_at is null and ($6::timestamptz is null or e.accepted_at < $6)
       and not exists (
         select from deliveries d
          where d.id between given.low and given.high and d.event_id = given.id
            and (d.settled_at is null or d.state = 'dead_lettered' and not $5::boolean
                 or d.id in (select unnest(delivery_ids) from unprojected)))
       and e.id not in (select unnest(event_ids) from unprojected)
    returning given.id, given.low, given.high
  ),
  erased as (
    update deliveries d set sid = null, sub = null, target = null, erased_at = $4::timestamptz
      from gone
     where d.id between gone.low and gone.high and d.event_id = gone.id
    returning d.id
  )
  select array(select id from gone) as events, array(select id from erased) as deliveries`

// Takes an array of ids: the planner estimates that a join returns a tenth of the table, and scans all of it.
const ERASE_ERRORS = `
  update attempts set error = null, error_description = null, location = null
   where delivery_id = any($1::uuid[]) and num_nonnulls(error, error_description, location) > 0`

const COUNT_LEFT = `
  with kept as (
    select given.*, e.accepted_at
      from unnest($1::uuid[], $2::uuid[], $3::uuid[]) as given(id, low, high)
      join events e on e.id = given.id and e.erased_at is null
  )
  select count(*) as events, count(*) filter (where accepted_at >= $4::timestamptz) as recent,
         coalesce(sum(d.unsettled), 0)::bigint as deliveries, coalesce(sum(d.dead), 0)::bigint as "deadLetters"
    from kept given
    cross join lateral (
      select count(*) filter (where d.settled_at is null) as unsettled,
             count(*) filter (where d.state = 'dead_lettered') as dead
        from (select 1) one${DELIVERIES_OF_GIVEN}
    ) d`

const SESSIONS_OF_SUBJECT = `
  select distinct s.sid, s.email
    from session_issuers i join sessions s on s.issuer = i.id
   where i.iss = $1 and s.sub = $2 and s.started_at < $3`

// An open session stays in the index: a logout needs it to find the relying parties to notify.
const DELETE_SESSIONS = `
  with over as (
    delete from sessions s using session_issuers i
     where i.iss = $1 and s.issuer = i.id and s.sub = $2 and s.started_at < $3 and (s.expires_at <= $4 or $5::boolean)
    returning s.issuer, s.sid, s.client_id, s.sub
  ),
  by_sid as (
    delete from session_ids d using over o
     where d.issuer = o.issuer and d.sid = o.sid and d.client_id = o.client_id and d.sub = o.sub
  )
  select count(*) as count from over`

const OPEN_SESSIONS = `
  select count(*) as count
    from session_issuers i join sessions s on s.issuer = i.id
   where i.iss = $1 and s.sub = $2 and s.started_at < $3`

export interface EraseRequest {
  readonly id: string
  readonly now: () => Date
  /** The tags that find the receipts of these names: see `keysOf`. */
  readonly tags: (names: readonly string[]) => Promise<readonly string[]>
  /** Most pages of events in this call. The next look does the rest. Default: no limit. */
  readonly pages?: number
}

/**
 * Looks once for all events, sessions and records of a subject, erases those that may be erased, and counts the others by reason.
 * Each transaction handles a few hundred events. The look may be interrupted, and may run twice at once.
 *
 * @returns the request afterwards; null if there is none with this id.
 */
export async function eraseSubject(
  db: Database,
  { id, now, tags, pages = Number.POSITIVE_INFINITY }: EraseRequest,
): Promise<ErasureRecord | null> {
  const locked = <Result>(work: (transaction: Queryable, erasure: OpenErasure) => Promise<Result>) =>
    withTransaction(db, async (transaction) => {
      const erasure = await lockErasure(transaction, id)
      return erasure === null ? null : work(transaction, erasure)
    })
  await locked(noteSessions)
  let left = NOTHING
  let known = 0
  const namesOf = ({ sids, emails }: OpenErasure) => sids.length + emails.length
  let after = FIRST_ID
  for (let page = 0; page < pages; page++) {
    const erased = await locked((transaction, erasure) => {
      if (after === FIRST_ID) known = namesOf(erasure)
      return erasePage(transaction, erasure, { after, now: now() })
    })
    if (erased === null) break
    left = sum(left, erased.left)
    after = erased.next ?? FIRST_ID
    if (erased.next !== null) continue
    const ended = await locked(async (transaction, erasure) => {
      // Sessions and addresses that were found late may have events on the pages before: start again.
      if (namesOf(erasure) > known) return false
      const found = await tags(keysOf({ ...erasure, sids: new Set(erasure.sids) }))
      const leftBeside = await eraseBesideEvents(transaction, erasure, { tags: found, now: now() })
      await finish(transaction, id, { waiting: sum(left, leftBeside), now: now() })
      return true
    })
    if (ended !== false) break
    left = NOTHING
  }
  return findErasure(db, id)
}

/** Records the sessions and email addresses of the subject before any session is deleted. */
async function noteSessions(
  transaction: Queryable,
  { id, iss, sub, watchedUntil }: OpenErasure,
): Promise<void> {
  const { rows } = await transaction.query<NamesRow>({
    name: 'sessions_to_erase',
    text: SESSIONS_OF_SUBJECT,
    values: [iss, sub, watchedUntil],
  })
  await addErased(transaction, id, namesIn(rows))
}

interface NamesRow {
  readonly sid: string | null
  readonly email: string | null
}

function namesIn(rows: readonly NamesRow[]) {
  return {
    sids: rows.flatMap(({ sid }) => sid ?? []),
    emails: rows.flatMap(({ email }) => email ?? []),
  }
}

/** Erases those of the next events that may be erased. `next`: where the next page begins; null after the last page. */
async function erasePage(
  transaction: Queryable,
  { id, iss, sub, sids, emails, indexed, watchedUntil, abandon }: OpenErasure,
  { after, now }: { after: string; now: Date },
): Promise<{ readonly left: WaitingCounts; readonly next: string | null }> {
  const { rows: theirs } = await transaction.query<{ id: string }>({
    name: 'events_to_erase',
    text: EVENTS_OF_SUBJECT,
    values: [iss, sub, sids, watchedUntil, after, PAGE, emails],
  })
  if (theirs.length === 0) return { left: NOTHING, next: null }
  const ids = theirs.map((event) => event.id)
  const recentSince = indexed ? new Date(now.getTime() - LATE_START_MS) : null
  const given = eventRanges(ids)
  const { rows: found } = await transaction.query<NamesRow>({
    name: 'names_of_events',
    text: NAMES_OF_EVENTS,
    values: given,
  })
  await lockHistory(transaction, given)
  const { rows } = await transaction.query<{ events: string[]; deliveries: string[] }>({
    name: 'erase_events',
    text: ERASE_EVENTS,
    values: [...given, now, abandon, recentSince],
  })
  const { events = [], deliveries = [] } = rows[0] ?? {}
  const { rowCount: attempts } = await transaction.query({
    name: 'erase_errors',
    text: ERASE_ERRORS,
    values: [plainArray(deliveries)],
  })
  const receipts = await eraseReceipts(transaction, events)
  await addErased(transaction, id, {
    ...namesIn(found),
    erased: {
      events: events.length,
      deliveries: deliveries.length,
      attempts: attempts ?? 0,
      receipts,
    },
  })
  const { rows: counted } = await transaction.query<WaitingCounts>({
    name: 'count_left',
    text: COUNT_LEFT,
    values: [...given, recentSince],
  })
  return {
    left: { ...NOTHING, ...counted[0] },
    next: theirs.length < PAGE ? null : (ids.at(-1) ?? null),
  }
}

/** Erases the sessions, quarantined records and receipts that may be erased. @returns the counts of those that are left. */
async function eraseBesideEvents(
  transaction: Queryable,
  erasure: OpenErasure,
  { tags, now }: { tags: readonly string[]; now: Date },
): Promise<Pick<WaitingCounts, 'sessions' | 'quarantined'>> {
  const { id, iss, sub, sids, emails, watchedUntil, abandon } = erasure
  const { rows: over } = await transaction.query<{ count: number }>({
    name: 'delete_sessions_of_subject',
    text: DELETE_SESSIONS,
    values: [iss, sub, watchedUntil, now, abandon],
  })
  const { rows: open } = await transaction.query<{ count: number }>({
    name: 'open_sessions_of_subject',
    text: OPEN_SESSIONS,
    values: [iss, sub, watchedUntil],
  })
  const subject = { iss, sub, sids: new Set(sids), emails: new Set(emails) }
  const quarantined = await findQuarantined(transaction, subject, { before: watchedUntil })
  // `over`: the record was requeued or dismissed, and is of no further use.
  const dropped = quarantined.filter(({ over }) => over || abandon)
  await dropQuarantined(
    transaction,
    dropped.map((record) => record.id),
  )
  const receipts = await eraseOldReceipts(transaction, { tags, before: watchedUntil })
  await addErased(transaction, id, {
    erased: {
      sessions: over[0]?.count ?? 0,
      receipts,
      quarantined: dropped.length,
    },
  })
  return { sessions: open[0]?.count ?? 0, quarantined: quarantined.length - dropped.length }
}

async function finish(
  transaction: Queryable,
  id: string,
  { waiting, now }: { waiting: WaitingCounts; now: Date },
): Promise<void> {
  // Read again: it has the counts of this transaction.
  const erasure = await lockErasure(transaction, id)
  if (erasure === null) return
  const requestedAt = new Date(erasure.watchedUntil.getTime() - ERASURE_WATCH_MS)
  const waits = Object.values(waiting).some((count) => count > 0)
  await endLook(transaction, erasure, {
    waiting,
    now,
    nextLookAt: nextErasureLook({ requestedAt, now, waits }),
  })
}

function sum(one: WaitingCounts, other: Partial<WaitingCounts>): WaitingCounts {
  return {
    events: one.events + (other.events ?? 0),
    deliveries: one.deliveries + (other.deliveries ?? 0),
    deadLetters: one.deadLetters + (other.deadLetters ?? 0),
    recent: one.recent + (other.recent ?? 0),
    sessions: one.sessions + (other.sessions ?? 0),
    quarantined: one.quarantined + (other.quarantined ?? 0),
  }
}
