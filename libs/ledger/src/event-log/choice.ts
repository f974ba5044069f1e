import { type OwnLedger, WAITING_MAX } from '@curfew/domain'
import { type Database, type Queryable, withTransaction } from '../postgres/database.ts'
import { isDataFault, isRefusal } from '../postgres/faults.ts'

/** The name of the event log in PostgreSQL. It is in the ledger's database, so that every ledger has one. */
export const POSTGRES_LOG = 'PostgreSQL'

/** A service, and the event log that its settings name. */
export interface EventLogUser {
  /** For people, such as `ingest at host-1`. */
  readonly user: string
  readonly name: string
}

// The first service chooses. A service with another event log is recorded for the operators.
const NOTE = `
  with chosen as (select name from event_logs where chosen),
  noted as (
    insert into event_logs (name, chosen, used_by)
    select $1, not exists (select from chosen), $2
     where not exists (select from chosen where name = $1)
    on conflict (name) do update set used_by = excluded.used_by, used_at = now()
  )
  select coalesce((select name from chosen), $1) as name`
/** Longest wait for the answer, in milliseconds, because a starting service waits for it. */
const NOTE_TIMEOUT_MS = 2_000

/**
 * Records which event log a service uses. The first service chooses the event log of the ledger.
 *
 * @returns the name of the event log that all services must use.
 */
export async function noteEventLog(db: Queryable, { user, name }: EventLogUser): Promise<string> {
  const note = () =>
    db.query<{ name: string }>({
      name: 'note_event_log',
      text: NOTE,
      values: [name, user],
      timeoutMs: NOTE_TIMEOUT_MS,
    })
  const { rows } = await note().catch((error: unknown) => {
    // Another service chose at the same time.
    if (isDataFault(error)) return note()
    throw error
  })
  return rows[0]?.name ?? name
}

/** A record of another event log counts for this time, in seconds. Services renew theirs every 15 s. */
const STRAY_S = 120
const CHOICE = `
  select name, chosen, used_by as user from event_logs
   where chosen or used_at > now() - make_interval(secs => ${STRAY_S}) order by name`

/** The event log that all services must use, and the others that services use. */
export interface EventLogChoice {
  /** Null before the first service has chosen. */
  readonly chosen: string | null
  /** Services that used another event log in the last two minutes, one for each event log. */
  readonly strays: readonly EventLogUser[]
}

/** Reads the choice. Unlike `noteEventLog` it changes nothing. */
export async function readEventLogChoice(db: Queryable): Promise<EventLogChoice> {
  const { rows } = await db.query<EventLogUser & { chosen: boolean }>({
    name: 'event_log_choice',
    text: CHOICE,
  })
  return {
    chosen: rows.find(({ chosen }) => chosen)?.name ?? null,
    strays: rows.filter(({ chosen }) => !chosen).map(({ user, name }) => ({ user, name })),
  }
}

/** Counts the records of the event log in PostgreSQL that no worker has read, up to 100,000. */
export async function countUnread(db: Queryable): Promise<number> {
  const { rows } = await db.query<{ records: number }>(
    `select count(*)::int as records from (select from log_records limit ${WAITING_MAX}) counted`,
  )
  return rows[0]?.records ?? 0
}

const CHOSEN = 'select name, ledger from event_logs where chosen for update'
const FORGET = 'delete from event_logs'
// `clock_timestamp`, because the transaction began before the operator was asked.
const CHOOSE = `
  insert into event_logs (name, chosen, used_by, ledger, taken_at)
  values ($1, true, $2, coalesce($3, gen_random_uuid()), case when $4 then clock_timestamp() end)`

/**
 * Changes the event log that all services must use.
 *
 * @param takesTopics whether this ledger takes over the event log from another ledger.
 * @param accept gets the current event log, or null, which may equal the new one, and decides whether to change.
 * @returns whether it was changed.
 */
export function chooseEventLog(
  db: Database,
  { user, name, takesTopics }: EventLogUser & { readonly takesTopics: boolean },
  accept: (before: string | null) => Promise<boolean>,
): Promise<boolean> {
  return withTransaction(db, async (transaction) => {
    const { rows } = await transaction.query<{ name: string; ledger: string }>(CHOSEN)
    const before = rows[0]?.name ?? null
    if (!(await accept(before))) return false
    await transaction.query(FORGET)
    await transaction.query(CHOOSE, [name, user, rows[0]?.ledger ?? null, takesTopics])
    return true
  })
}

const LEDGER = `
  select ledger as id, (extract(epoch from taken_at) * 1000)::float8 as "takenMs" from event_logs where chosen`
const DATABASE = `
  select system_identifier || '.' || (select oid from pg_database where datname = current_database()) as database
    from pg_control_system()`

/**
 * Reads the identity of the ledger, which commits in Kafka carry.
 *
 * @param alone whether no other service can use the ledger. If so, the identity omits the database, because a dump and restore changes
 * the identifier of the database.
 * @returns null if no event log was chosen yet. Then no worker reads one.
 */
export async function readOwnLedger(db: Queryable, alone: boolean): Promise<OwnLedger | null> {
  const { rows } = await db.query<Omit<OwnLedger, 'database'>>({ name: 'own_ledger', text: LEDGER })
  const [own] = rows
  if (own === undefined) return null
  return { ...own, database: alone ? null : await readDatabase(db) }
}

/** @returns null if the database role lacks the permission. */
async function readDatabase(db: Queryable): Promise<string | null> {
  try {
    const { rows } = await db.query<{ database: string }>({ name: 'own_database', text: DATABASE })
    return rows[0]?.database ?? null
  } catch (error) {
    if (isRefusal(error)) return null
    throw error
  }
}
