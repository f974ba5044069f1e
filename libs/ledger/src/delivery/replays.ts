import { BOOKKEEPER, writeAudit } from '../access/audit.ts'
import { counted } from '../postgres/counters.ts'
import { type Database, type Queryable, withTransaction } from '../postgres/database.ts'
import { isDataFault } from '../postgres/faults.ts'
import { namedParameters } from '../postgres/parameters.ts'
import {
  type DeadLetterFilter,
  type DeadLetterFilterJson,
  fromFilterJson,
  HAS_LAPSED,
  toFilterJson,
} from './dead-letter-filter.ts'
import { FILTER } from './dead-letters.ts'

/** `failed`: the job ended because of a fault, which `failure` describes. */
export type ReplayState = 'running' | 'done' | 'cancelled' | 'failed'

/** A job that puts dead letters back to pending, at a limited pace. */
export interface ReplayJob {
  readonly id: string
  readonly filter: DeadLetterFilter
  readonly includeLapsed: boolean
  /** Name of the credential that requested it. */
  readonly requestedBy: string
  readonly requestedAt: Date
  readonly state: ReplayState
  readonly endedAt: Date | null
  /** Number of dead letters that matched when it was requested. */
  readonly total: number
  /** Number of dead letters put back so far. */
  readonly done: number
  /** Number of dead letters that the ledger refused to put back. They stay dead letters. */
  readonly refused: number
  /** Why the job failed, for people; null if it did not. */
  readonly failure: string | null
}

/** A job, and the states of the deliveries that it put back. A delivery that a later job put back again counts for that job. */
export interface ReplayProgress extends ReplayJob {
  /** Pending or in flight. */
  readonly waiting: number
  readonly acknowledged: number
  readonly superseded: number
  readonly lapsed: number
  /** Dead-lettered again. */
  readonly dead: number
}

interface ReplayRow extends Omit<ReplayJob, 'filter'> {
  readonly filter: DeadLetterFilterJson
}

const COLUMNS = `r.id, r.filter, r.include_lapsed as "includeLapsed", r.requested_by as "requestedBy",
  r.requested_at as "requestedAt", r.state, r.ended_at as "endedAt", r.total, r.done, cardinality(r.refused) as refused,
  r.failure`

const JOB = namedParameters(
  { id: 'uuid', filter: 'jsonb', include_lapsed: 'boolean', requested_by: 'text' },
  { after: FILTER },
)

// Counts the dead letters that TAKE_BATCH will take.
const CREATE_REPLAY = `
  insert into replays as r (${JOB.names}, requested_at, total, state)
  select ${JOB.list}, now(), count(*), 'running'
    from deliveries d
   where ${FILTER.matches} and d.dead_lettered_at <= now() and (${JOB.$.include_lapsed} or not ${HAS_LAPSED})
  returning ${COLUMNS}`

/**
 * Creates a job that puts dead letters back, with its audit record, in one transaction. Bookkeepers carry it out.
 *
 * @param id a new UUID.
 */
export async function createReplay(
  db: Database,
  {
    id,
    filter,
    includeLapsed,
    requestedBy,
  }: Pick<ReplayJob, 'id' | 'filter' | 'includeLapsed' | 'requestedBy'>,
): Promise<ReplayProgress> {
  const stored = toFilterJson(filter)
  return withTransaction(db, async (transaction) => {
    const { rows } = await transaction.query<ReplayRow>({
      text: CREATE_REPLAY,
      values: [
        ...FILTER.values(filter),
        ...JOB.values({
          id,
          filter: JSON.stringify(stored),
          include_lapsed: includeLapsed,
          requested_by: requestedBy,
        }),
      ],
    })
    const [row] = rows
    if (row === undefined) throw new Error(`create_replay returned no row for ${id}`)
    await writeAudit(transaction, {
      credential: requestedBy,
      action: 'replay.requested',
      object: `/v1/replays/${id}`,
      detail: { filter: stored, include_lapsed: includeLapsed, total: row.total },
    })
    return { ...toJob(row), waiting: 0, acknowledged: 0, superseded: 0, lapsed: 0, dead: 0 }
  })
}

const FIND_REPLAY = `
  select ${COLUMNS}, counts.*
    from replays r
    cross join lateral (
      select count(*) filter (where settled_at is null) as waiting,
             count(*) filter (where state = 'acknowledged') as acknowledged,
             count(*) filter (where state = 'superseded') as superseded,
             count(*) filter (where state = 'lapsed') as lapsed,
             count(*) filter (where state = 'dead_lettered') as dead
        from deliveries where replay_id = r.id
    ) counts
   where r.id = $1`

/** Finds a job and its progress; null if there is no job with this id. */
export async function findReplay(db: Queryable, id: string): Promise<ReplayProgress | null> {
  const { rows } = await db.query<ReplayRow & Omit<ReplayProgress, keyof ReplayJob>>({
    name: 'find_replay',
    text: FIND_REPLAY,
    values: [id],
  })
  const [row] = rows
  if (row === undefined) return null
  const { waiting, acknowledged, superseded, lapsed, dead } = row
  return { ...toJob(row), waiting, acknowledged, superseded, lapsed, dead }
}

const CANCEL_REPLAY = `
  update replays set state = 'cancelled', ended_at = now() where id = $1 and state = 'running' returning done`

/**
 * Stops a job. Deliveries that it has put back stay pending. A job that has ended is left as it is.
 *
 * @param cancelledBy name of the credential.
 * @returns the job afterwards, or null if there is no job with this id.
 */
export async function cancelReplay(
  db: Database,
  { id, cancelledBy }: { id: string; cancelledBy: string },
): Promise<ReplayProgress | null> {
  return withTransaction(db, async (transaction) => {
    const { rows } = await transaction.query<{ done: number }>({
      name: 'cancel_replay',
      text: CANCEL_REPLAY,
      values: [id],
    })
    const [row] = rows
    if (row !== undefined) {
      await writeAudit(transaction, {
        credential: cancelledBy,
        action: 'replay.cancelled',
        object: `/v1/replays/${id}`,
        detail: { done: row.done },
      })
    }
    return findReplay(transaction, id)
  })
}

const RUNNING_REPLAYS = `select ${COLUMNS} from replays r where r.state = 'running' order by r.requested_at, r.id`

/** The running jobs, the oldest first. */
export async function runningReplays(db: Database): Promise<readonly ReplayJob[]> {
  const { rows } = await db.query<ReplayRow>({ name: 'running_replays', text: RUNNING_REPLAYS })
  return rows.map(toJob)
}

// Uses the database's clock, so that the pace is the same for all bookkeepers. A `taken_at` in the future was written before the
// clock was set back: the job does not wait for it.
const LOCK_REPLAY = `
  select id from replays
   where id = $1 and state = 'running'
     and (taken_at is null or taken_at <= clock_timestamp() - make_interval(secs => $2::float8 / 1000)
       or taken_at > clock_timestamp())
     for update skip locked`

const FAIL_REPLAY = `
  update replays set state = 'failed', ended_at = now(), failure = $2
   where id = $1 and state = 'running' returning done, cardinality(refused) as refused`

/** Ends a job that cannot go on. The remaining dead letters stay dead letters. A job that has ended is left as it is. */
export async function failReplay(
  db: Database,
  { id, failure }: { id: string; failure: string },
): Promise<void> {
  await withTransaction(db, async (transaction) => {
    const { rows } = await transaction.query<FailedReplay>({
      name: 'fail_replay',
      text: FAIL_REPLAY,
      values: [id, failure],
    })
    if (rows[0] !== undefined) await auditFailure(transaction, id, { ...rows[0], failure })
  })
}

interface FailedReplay {
  readonly done: number
  readonly refused: number
}

async function auditFailure(
  transaction: Queryable,
  id: string,
  detail: FailedReplay & { readonly failure: string },
): Promise<void> {
  const entry = { credential: BOOKKEEPER, action: 'replay.failed', object: `/v1/replays/${id}` }
  await writeAudit(transaction, { ...entry, detail: { ...detail } })
}

// Takes the deliveries that were dead letters when the job was requested, in the order in which they died. Takes no
// delivery twice: `replay_id` excludes a delivery that died again, even if a worker's clock is wrong. When nothing is left, the job
// makes one more pass from the beginning. It finds dead letters that were being settled, or were taken by another job, during the
// first pass. Then it is done.
const TAKEN = namedParameters({ id: 'uuid', limit: 'int' }, { after: FILTER })
const PICKED = `
  with job as (
    select include_lapsed, requested_at, reached_at, reached_id, refused from replays where id = ${TAKEN.$.id}
  ),
  picked as (
    select d.id, d.dead_lettered_at
      from deliveries d
     where ${FILTER.matches}
       and d.dead_lettered_at <= (select requested_at from job)
       and d.replay_id is distinct from ${TAKEN.$.id}
       and d.id <> all ((select refused from job)::uuid[])
       and ((select include_lapsed from job) or not ${HAS_LAPSED})
       and (d.dead_lettered_at, d.id) > (coalesce((select reached_at from job), '-infinity'),
             coalesce((select reached_id from job), '00000000-0000-0000-0000-000000000000'))
     order by d.dead_lettered_at, d.id limit ${TAKEN.$.limit}
       for update of d
  )`
/**
 * SQL: the columns of a dead letter `d` that begins a new generation. It waits again, without a result.
 *
 * @param dueAt SQL: when it is due, unless its relying party fetches it: then it is offered again, for as long as at first.
 */
export const newGeneration = (dueAt = 'now()') => `
  due_at = case when d.fetched then now() + make_interval(secs => (
             select (b.offer->>'lastsMs')::bigint / 1000.0 from bindings b where b.id = d.binding_id)) else ${dueAt} end,
  state = case when d.fetched then 'offered' else 'pending' end, generation = ${counted('d.generation', 1)}, retries = 0, refusals = 0,
  settled_at = null, level = null, dead_letter_reason = null, announced_at = null`
const TAKE_BATCH = `${PICKED},
  taken as (
    update deliveries d
       set ${newGeneration()}, replay_id = ${TAKEN.$.id},
           session_ends_at = case when (select include_lapsed from job) then null else d.session_ends_at end
      from picked
     where d.id = picked.id
    returning d.id
  ),
  reached as (select dead_lettered_at, id from picked order by dead_lettered_at desc, id desc limit 1)
  update replays r
     set done = r.done + (select count(*) from taken), taken_at = clock_timestamp(),
         reached_at = (select dead_lettered_at from reached), reached_id = (select id from reached),
         state = case when not over.over then 'running' when r.refused = '{}' then 'done' else 'failed' end,
         ended_at = case when over.over then now() end,
         failure = case when over.over and r.refused <> '{}' then ${refusalText('cardinality(r.refused)', 'r.refused[1]')} end
    from replays j
   cross join lateral (select j.reached_at is null and not exists (select from picked) as over) over
   where r.id = ${TAKEN.$.id} and j.id = r.id
  returning (select count(*) from taken) as taken, r.state, r.done, cardinality(r.refused) as refused, r.failure`

/** Number of skipped dead letters at which a job fails: if so many are refused, all may be. */
const REFUSED_MAX = 100

// Skips the next dead letter that the job would take: it stays a dead letter, and the job keeps its id.
const PASS_OVER = `${PICKED}
  update replays r
     set taken_at = clock_timestamp(), refused = r.refused || picked.id,
         reached_at = picked.dead_lettered_at, reached_id = picked.id,
         state = case when many.many then 'failed' else 'running' end,
         ended_at = case when many.many then now() end,
         failure = case when many.many then ${refusalText('cardinality(r.refused) + 1', 'picked.id')} end
    from picked
   cross join lateral (select cardinality(refused) + 1 >= ${REFUSED_MAX} as many from job) many
   where r.id = ${TAKEN.$.id}
  returning 0 as taken, r.state, r.done, cardinality(r.refused) as refused, r.failure`

/** SQL: the failure of a job for which PostgreSQL refused `count` dead letters. */
function refusalText(count: string, example: string): string {
  return `'the ledger refused to put back ' || ${count} || ' of the dead letters, such as ' || ${example} || '; they stay dead letters'`
}

/** `busy`: another bookkeeper works on the job, its pause is not over, or it has ended. */
export type ReplayBatch = 'busy' | { readonly taken: number; readonly state: ReplayState }

/**
 * Puts the next dead letters of a job back: pending, due now, at the start of their retry schedule. Runs in one transaction under
 * the job's lock, so a crash or a concurrent bookkeeper takes no dead letter twice.
 *
 * If PostgreSQL refuses a value, smaller batches follow, and the dead letter that has the value is skipped. The job then ends as
 * failed.
 *
 * @param limit most dead letters that are put back.
 * @param pauseMs least time between two batches of a job, across all bookkeepers.
 */
export async function takeReplayBatch(
  db: Database,
  { job, limit, pauseMs }: { job: Pick<ReplayJob, 'id' | 'filter'>; limit: number; pauseMs: number },
): Promise<ReplayBatch> {
  for (let most = limit; ; most = Math.floor(most / 2)) {
    const text = most === 0 ? PASS_OVER : TAKE_BATCH
    try {
      return await takeBatch(db, { job, text, limit: Math.max(1, most), pauseMs })
    } catch (error) {
      if (most === 0 || !isDataFault(error)) throw error
    }
  }
}

async function takeBatch(
  db: Database,
  {
    job,
    text,
    limit,
    pauseMs,
  }: { job: Pick<ReplayJob, 'id' | 'filter'>; text: string; limit: number; pauseMs: number },
): Promise<ReplayBatch> {
  return withTransaction(db, async (transaction) => {
    const locked = await transaction.query({
      name: 'lock_replay',
      text: LOCK_REPLAY,
      values: [job.id, pauseMs],
    })
    if (locked.rows.length === 0) return 'busy'
    // A separate statement: its snapshot has all that was committed before the lock was acquired.
    const { rows } = await transaction.query<TakenRow>({
      text,
      values: [...FILTER.values(job.filter), ...TAKEN.values({ id: job.id, limit })],
    })
    const [row] = rows
    if (row === undefined) return 'busy'
    const { taken, state, done, refused, failure } = row
    if (failure !== null) await auditFailure(transaction, job.id, { done, refused, failure })
    return { taken, state }
  })
}

interface TakenRow extends FailedReplay {
  readonly taken: number
  readonly state: ReplayState
  readonly failure: string | null
}

function toJob({ filter, ...row }: ReplayRow): ReplayJob {
  return { ...row, filter: fromFilterJson(filter) }
}
