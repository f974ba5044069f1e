import {
  type ClientId,
  type EventId,
  type GivenEventId,
  type Issuer,
  type IssuerLogout,
  LedgerUnavailableError,
  type LogoutReason,
  type Subject,
} from '@curfew/domain'
import { type Database, type Queryable, withTransaction } from '../postgres/database.ts'
import { tryLock } from '../postgres/locks.ts'
import { beganBy } from '../sessions/order.ts'
import { knowsAll } from '../sessions/quotas.ts'
import { countSubjectsOf, type IndexedIssuer, LOGOUT_TIMES, mayConcern, timesOf } from './counts.ts'
import { journalEnd } from './jobs.ts'

/** An unfinished issuer logout, with its event as it was accepted. */
export interface IssuerLogoutJob {
  readonly event: IssuerLogout
  /** The salt of the ids of its parts: see `childOf`. */
  readonly salt: string
  readonly traceparent: string | null
  /** Null if the index does not know the issuer. Then there are no subjects to find. */
  readonly issuer: IndexedIssuer | null
  /** The number of subjects; null before the count, or if the count took too long. */
  readonly total: number | null
  /** Whether a page of subjects was taken. */
  readonly begun: boolean
  /** The number of subjects that were taken. */
  readonly taken: number
}

interface JobRow {
  readonly id: EventId
  readonly givenId: GivenEventId
  readonly iss: Issuer
  readonly reason: LogoutReason | null
  readonly initiator: ClientId | null
  readonly includeInitiator: boolean
  readonly clients: readonly ClientId[] | null
  readonly occurredAt: Date | null
  readonly acceptedAt: Date
  readonly requestedBy: string
  readonly salt: string
  readonly traceparent: string | null
  readonly index: number | null
  readonly complete: boolean
  readonly total: number | null
  readonly begun: boolean
  readonly taken: number
}

const JOBS = `
  select e.id, e.given_id as "givenId", e.iss, e.reason, e.initiator, e.include_initiator as "includeInitiator", e.clients,
         case when e.occurred_stated then e.occurred_at end as "occurredAt", e.accepted_at as "acceptedAt",
         l.requested_by as "requestedBy", e.traceparent,
         l.salt, x.id as index, ${knowsAll('i', 'x')} as complete, l.total,
         l.taken_at is not null as begun, l.taken
    from issuer_logouts l
    join events e on e.id = l.event_id
    left join session_issuers x on x.iss = l.iss
    left join issuers i on i.iss = l.iss and i.deleted_at is null`

const RUNNING = `${JOBS} where l.state = 'running' order by l.requested_at, l.event_id`

/** Lists running issuer logouts, the oldest first. */
export async function runningIssuerLogouts(db: Database): Promise<readonly IssuerLogoutJob[]> {
  const { rows } = await db.query<JobRow>({ name: 'running_issuer_logouts', text: RUNNING })
  return rows.map(toJob)
}

function toJob({ salt, traceparent, index, complete, total, begun, taken, ...row }: JobRow): IssuerLogoutJob {
  const event: IssuerLogout = { ...row, scope: 'issuer', sub: null, sid: null, lane: 'bulk' }
  return {
    event,
    salt,
    traceparent,
    issuer: index === null ? null : { index, complete },
    total,
    begun,
    taken,
  }
}

const SET_TOTAL = 'update issuer_logouts set total = $2 where event_id = $1 and total is null'

// Uses the database's clock, which all bookkeepers share. At most about `unplannedMax` subjects wait to be planned. So the event
// log does not fill, and planning sets the pace. If no page was taken for `patienceMs`, because workers are unavailable or one
// subject's event cannot be planned, the job continues slowly. A `taken_at` in the future means that the clock was set back: the
// job does not wait for it.
const READY = `
  select l.reached, l.exhausted, l.taken - l.planned < $3 as room, greatest(l.taken - l.planned, 0) as unplanned, late.late
    from issuer_logouts l
   cross join lateral (select l.taken_at <= clock_timestamp() - make_interval(secs => $4::float8 / 1000) as late) late
   where l.event_id = $1 and l.state = 'running'
     and (l.taken_at is null or l.taken_at <= clock_timestamp() - make_interval(secs => $2::float8 / 1000)
       or l.taken_at > clock_timestamp())
     and (l.exhausted or l.taken - l.planned < $3 or late.late)`

// Reads rows of the index in the order of its key. The last subject's rows may continue behind a full page. That subject is left
// for the next page, unless the page has no other. Not prepared by name, so that the plan fits the current size of the tables.
const PAGE = `
  with page as (select s.sub from sessions s where s.issuer = $1 and s.sub > $7 order by s.sub limit $8),
  edge as (select min(sub) as first, max(sub) as last, count(*) as rows from page),
  whole as (
    select distinct p.sub from page p, edge e where e.rows < $8 or e.first = e.last or p.sub < e.last
  )
  select w.sub, exists (
      select from sessions s, ${LOGOUT_TIMES}
       where s.issuer = $1 and s.sub = w.sub and ${beganBy()} and s.expires_at > now() and ${mayConcern(3, 4)}
    ) as held
    from whole w order by w.sub`

const TAKEN = `
  update issuer_logouts
     set taken = taken + $2, reached = $3, taken_at = clock_timestamp()
   where event_id = $1 and state = 'running'`
const EXHAUSTED = `update issuer_logouts set exhausted = true, reached = '' where event_id = $1 and state = 'running'`
const DONE = `
  update issuer_logouts set state = 'done', ended_at = now() where event_id = $1 and state = 'running' returning event_id`

/** Stores the logouts of subjects, which are parts of `job`, durably. After a crash it is called again for the same subjects. */
export type HandOver = (job: IssuerLogoutJob, subjects: readonly Subject[]) => Promise<void>

export interface TakeSubjects {
  /** Most sessions that one page reads. */
  readonly limit: number
  /** Least time between two pages of a job, in milliseconds, for all bookkeepers together. */
  readonly pauseMs: number
  /** No more subjects are taken while this many wait to be planned. */
  readonly unplannedMax: number
  /** Longest wait for taken subjects to be planned, in milliseconds. */
  readonly patienceMs: number
  readonly handOver: HandOver
}

/** `busy`: another bookkeeper has the lock. `waiting`: the next page is not due. Otherwise the number of subjects handed over. */
export type TakenSubjects =
  | 'busy'
  | 'waiting'
  | { readonly subjects: number; readonly state: 'running' }
  /** Every subject was handed over. `unplanned` of them were not planned within `patienceMs`. */
  | { readonly subjects: 0; readonly state: 'done'; readonly unplanned: number }

/**
 * Takes the next page of a job and hands over its subjects that have a session which began before the logout. Only one bookkeeper
 * at a time does so. After a crash between the hand-over and the commit, the same subjects are handed over again. No row is
 * locked during the hand-over.
 */
export async function takeSubjects(
  db: Database,
  job: IssuerLogoutJob,
  { limit, pauseMs, unplannedMax, patienceMs, handOver }: TakeSubjects,
): Promise<TakenSubjects> {
  const { event, issuer, total, begun } = job
  if (total === null && !begun && !(await count(db, job))) return 'busy'
  return withTransaction(db, async (transaction) => {
    if (!(await tryLock(transaction, 'issuerLogouts'))) return 'busy'
    const { rows } = await transaction.query<ReadyRow>({
      name: 'ready_for_subjects',
      text: READY,
      values: [event.id, pauseMs, unplannedMax, patienceMs],
    })
    const [ready] = rows
    if (ready === undefined) return 'waiting'
    if (ready.exhausted)
      return ready.unplanned === 0 || ready.late ? end(transaction, event.id, ready.unplanned) : 'waiting'
    const page =
      issuer === null ? [] : await pageAfter(transaction, { event, issuer, after: ready.reached, limit })
    const last = page.at(-1)
    if (last === undefined) {
      await transaction.query({ name: 'subjects_exhausted', text: EXHAUSTED, values: [event.id] })
      return { subjects: 0, state: 'running' }
    }
    const subjects = page.filter(({ held }) => held).map(({ sub }) => sub)
    await handOver(job, subjects)
    await transaction.query({
      name: 'subjects_taken',
      text: TAKEN,
      values: [event.id, subjects.length, last.sub],
    })
    return { subjects: subjects.length, state: 'running' }
  })
}

/** Counts the subjects of a job, unless that takes too long. @returns false if another bookkeeper has the lock. */
async function count(db: Database, { event, issuer }: IssuerLogoutJob): Promise<boolean> {
  try {
    return await withTransaction(db, async (transaction) => {
      if (!(await tryLock(transaction, 'issuerLogouts'))) return false
      const total = issuer === null ? 0 : await countSubjectsOf(transaction, event, issuer)
      await transaction.query({ text: SET_TOTAL, values: [event.id, total] })
      return true
    })
  } catch (error) {
    // The total is only for people. If the index is too large to count in time, the job continues without it.
    if (error instanceof LedgerUnavailableError) return true
    throw error
  }
}

interface ReadyRow {
  readonly reached: string
  readonly exhausted: boolean
  readonly unplanned: number
  readonly late: boolean
}

interface PageRow {
  readonly sub: Subject
  readonly held: boolean
}

async function pageAfter(
  transaction: Queryable,
  {
    event,
    issuer: { index, complete },
    after,
    limit,
  }: { event: IssuerLogout; issuer: IndexedIssuer; after: string; limit: number },
): Promise<readonly PageRow[]> {
  const [occurredAt, ...times] = timesOf(event)
  const values = [index, occurredAt, event.clients, complete, ...times, after, limit]
  return (await transaction.query<PageRow>({ text: PAGE, values })).rows
}

async function end(transaction: Queryable, id: EventId, unplanned: number): Promise<TakenSubjects> {
  const { rows } = await transaction.query({ name: 'issuer_logout_done', text: DONE, values: [id] })
  if (rows.length > 0) await journalEnd(transaction, id)
  return { subjects: 0, state: 'done', unplanned }
}

const LATE = `
  select event_id as "eventId", sub from issuer_logouts_late order by event_id, sub limit $1`
const JOBS_OF = `${JOBS} where l.event_id = any($1::uuid[]) and l.state <> 'cancelled'`
const FORGET_LATE = `
  delete from issuer_logouts_late l
   using unnest($1::uuid[], $2::text[]) as g(event_id, sub) where l.event_id = g.event_id and l.sub = g.sub`

/** Hands over subjects whose session was posted after the issuer logout had passed them. @returns the number of subjects. */
export async function takeLateSubjects(
  db: Database,
  { limit, handOver }: Pick<TakeSubjects, 'limit' | 'handOver'>,
): Promise<number> {
  return withTransaction(db, async (transaction) => {
    if (!(await tryLock(transaction, 'issuerLogouts'))) return 0
    const { rows: late } = await transaction.query<{ eventId: EventId; sub: Subject }>({
      name: 'late_subjects',
      text: LATE,
      values: [limit],
    })
    if (late.length === 0) return 0
    const byEvent = Map.groupBy(late, ({ eventId }) => eventId)
    const { rows } = await transaction.query<JobRow>({ text: JOBS_OF, values: [[...byEvent.keys()]] })
    for (const job of rows.map(toJob)) {
      await handOver(
        job,
        (byEvent.get(job.event.id) ?? []).map(({ sub }) => sub),
      )
    }
    await transaction.query({
      name: 'forget_late',
      text: FORGET_LATE,
      values: [late.map(({ eventId }) => eventId), late.map(({ sub }) => sub)],
    })
    return late.length
  })
}
