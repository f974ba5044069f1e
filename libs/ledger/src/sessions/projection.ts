import type { Session } from '@curfew/domain'
import { noteKnownSubjects } from '../delivery/event-subjects.ts'
import type { JournalEntry } from '../history/journal.ts'
import { plainArray } from '../postgres/arrays.ts'
import { type Database, type Queryable, withTransaction } from '../postgres/database.ts'
import { SESSIONS_MAX } from './find.ts'
import { createTally, type LifetimeTally, recordLifetimes } from './lifetimes.ts'
import { hasPairwise, isPairwise, linkedSessionsOfEvent, namesOfUser } from './linked.ts'
import { beganBy, CLOCKS_APART, mayBeOnDevice } from './order.ts'
import { knowsAll } from './quotas.ts'
import { settleSessionStates, TOUCHED, type TouchedRow } from './session-states.ts'

// `offset 0` keeps every lookup one index scan of one partition, never a join of tables that may have a hundred million rows.
// Issuers whose session index is off are left out.

const ANY_SESSIONS = 'select exists (select from session_issuers) as any'

const ISSUER = `
    join session_issuers x on x.iss = e.iss
    left join issuers i on i.iss = e.iss and i.deleted_at is null`
const COLUMNS = `s.issuer, s.sub, s.sid, s.client_id, s.device, s.started_at, s.started_stated, s.accepted_at,
            s.logout_event_id`
const NOT_OFF = "coalesce(i.session_index, 'partial') <> 'off'"
/** With more sessions the delivery names the subject (`findSessions`), and the states of the single sessions are not tracked. */
const NOT_TOO_MANY = `n <= ${SESSIONS_MAX}`
const notTooMany = (query: string) => `
        select f.* from (
          select g.*, count(*) over () as n from (${query} limit ${SESSIONS_MAX + 1}) g
        ) f where ${NOT_TOO_MANY}`
const bySubject = (which: string, linked = 'false') =>
  notTooMany(`select ${COLUMNS}, ${linked} as linked from sessions s where ${which}`)
const BY_OTHER_NAMES = notTooMany(linkedSessionsOfEvent(`${COLUMNS.replaceAll('s.', 'f.')}, true as linked`))
const bySid = (linked = 'false') => `
        select f.*, ${linked} as linked, 1 from session_ids k
         cross join lateral (
           select ${COLUMNS} from sessions s
            where s.issuer = k.issuer and s.sub = k.sub and s.sid = k.sid and s.client_id = k.client_id offset 0) f`

// The latest event that covers each session. It decides the session's state, even if earlier events cover the session too.
const SESSIONS_OF_EVENTS = `
  select distinct on (s.issuer, s.sub, s.sid, s.client_id) ${TOUCHED}
    from unnest($1::uuid[]) as g(id)
    join events e on e.id = g.id ${ISSUER}
    cross join lateral (
      (${bySubject("e.scope <> 'session' and s.issuer = x.id and s.sub = e.sub")})
      union all
      (${BY_OTHER_NAMES})
      union all
      (${bySid()} where e.scope = 'session' and k.issuer = x.id and k.sid = e.sid)
      offset 0
    ) s
   where ${NOT_OFF} and ${beganBy()} and (e.clients is null or s.client_id = any(e.clients))
     and ${mayBeOnDevice()}
   order by s.issuer, s.sub, s.sid, s.client_id, e.requested_at desc, e.id desc`

const SESSIONS_OF_DELIVERIES = `
  select ${TOUCHED}
    from unnest($1::uuid[]) as g(id)
    join deliveries d on d.id = g.id
    join events e on e.id = d.event_id
    join bindings b on b.id = d.binding_id
    join relying_parties p on p.id = b.relying_party_id ${ISSUER}
    cross join lateral (
      (${bySubject(
        'd.sid is null and s.issuer = x.id and s.sub = coalesce(d.sub, e.sub) and s.client_id = p.client_id',
        'd.sub is not null',
      )})
      union all
      (${bySid('coalesce(k.sub = d.sub, false)')} where d.sid is not null and k.issuer = x.id and k.sid = d.sid and k.client_id = p.client_id)
      offset 0
    ) s
   where ${NOT_OFF} and (${beganBy()} or s.logout_event_id = e.id)`

/**
 * Projects planned events and settled deliveries into the session index: which logout covers a session, which logout failed, and
 * which sessions are over. It also owes deliveries for sessions that were unknown when their logout was planned. For logouts that
 * name only a sid, it records the subject.
 */
export async function projectSessions(
  transaction: Queryable,
  entries: readonly JournalEntry[],
): Promise<void> {
  const { rows: known } = await transaction.query<{ any: boolean }>({
    name: 'any_sessions',
    text: ANY_SESSIONS,
  })
  if (known[0]?.any !== true) return
  const events = entries.flatMap((entry) => (entry.kind === 'planned' ? entry.eventIds : []))
  const settled = entries.flatMap((entry) => (entry.kind === 'settled' ? entry.settled : []))
  const lookups: readonly Lookup[] = [
    { name: 'sessions_of_events', text: SESSIONS_OF_EVENTS, ids: events },
    { name: 'sessions_of_deliveries', text: SESSIONS_OF_DELIVERIES, ids: settled.map(({ id }) => id) },
  ]
  const few: TouchedRow[] = []
  const many: Lookup[] = []
  for (const lookup of lookups) {
    const rows = await find(transaction, lookup)
    if (rows.length > ROWS) many.push(lookup)
    else few.push(...rows)
  }
  // In one call if possible: a call locks its sessions in order, but several calls may deadlock with another transaction.
  const tally = createTally()
  await settleSessionStates(transaction, few, tally)
  for (const lookup of many) await settleInParts(transaction, lookup, tally)
  // Late: it locks events, and a transaction that waits for an event may hold locks on these sessions.
  await noteKnownSubjects(transaction, events)
  await recordLifetimes(transaction, tally)
}

/** Most rows in memory at once. A subject may have thousands of sessions and many logouts. */
const ROWS = 5_000

interface Lookup {
  readonly name: string
  readonly text: string
  readonly ids: readonly string[]
}

/** Runs a lookup. More than `ROWS` rows mean that the lookup is too large for one call. */
async function find(transaction: Queryable, { name, text, ids }: Lookup): Promise<readonly TouchedRow[]> {
  if (ids.length === 0) return []
  const statement = { name, text: `${text} limit ${ROWS + 1}`, values: [plainArray([...new Set(ids)])] }
  return (await transaction.query<TouchedRow>(statement)).rows
}

async function settleInParts(
  transaction: Queryable,
  { text, ids }: Lookup,
  tally: LifetimeTally,
): Promise<void> {
  const values = [plainArray([...new Set(ids)])]
  await transaction.query({ text: `declare touched no scroll cursor for ${text}`, values })
  for (let more = true; more; ) {
    const { rows } = await transaction.query<TouchedRow>(`fetch ${ROWS} from touched`)
    await settleSessionStates(transaction, rows, tally)
    more = rows.length === ROWS
  }
  await transaction.query('close touched')
}

// The latest event that covers a session decides its state, whatever the outcome of earlier events. The indexes of `events` find
// it. For most sessions that have just begun they find nothing.
const COVERING = `${beganBy()} and (e.clients is null or s.client_id = any(e.clients))`
const LATEST = 'order by e.requested_at desc, e.id desc limit 1'

/** The keys of the sessions that have started. */
const STARTED = 'unnest($1::text[], $2::text[], $3::text[], $4::text[]) as g(iss, sub, sid, client_id)'
/** The indexed session of each key, unless it has expired. @param index SQL: the number of its issuer. */
const sessionOf = (index: string) => `
    cross join lateral (
      select * from sessions s
       where s.issuer = ${index} and s.sub = g.sub and s.sid = g.sid and s.client_id = g.client_id and s.expires_at > now()
      offset 0
    ) s`
const SESSION = `
    join session_issuers x on x.iss = g.iss ${sessionOf('x.id')}
    left join issuers i on i.iss = g.iss and i.deleted_at is null`

// Events cover hardly any session that has just begun. So the cheapest step comes first. `ever` keeps the sessions whose subject or
// sid was ever logged out. `since` keeps those that began before the latest such logout, plus `CLOCKS_APART`. The last step finds
// the event that covers each of them. Each step is materialized. A join would initialise the next step's plan for
// every row, which takes longer than a lookup.
const EVENTS_OF_SESSIONS = `
  with ever as materialized (
    select g.*, newest.at
      from ${STARTED}
      cross join lateral (
        select greatest(
          (select e.requested_at from events e where e.iss = g.iss and e.sub = g.sub order by e.requested_at desc limit 1),
          (select max(e.requested_at) from events e where e.iss = g.iss and e.sid = g.sid and e.scope = 'session')
        ) as at offset 0
      ) newest
     where newest.at is not null
  ),
  since as materialized (
    select g.iss, i.name, s.issuer, s.sub, s.sid, s.client_id, s.device, s.started_at, s.started_stated,
           s.accepted_at, false as linked
      from ever g ${SESSION}
     where s.started_at <= g.at + ${CLOCKS_APART} and ${NOT_OFF}
  )
  select ${TOUCHED}
    from since s
    cross join lateral (select s.name) i
    cross join lateral (
      select * from (
        (select * from events e
          where e.iss = s.iss and e.sub = s.sub and ${COVERING}
            and e.scope in ('subject', 'device') and ${mayBeOnDevice()}
          ${LATEST})
        union all
        (select * from events e
          where e.iss = s.iss and e.sid = s.sid and e.scope = 'session' and ${COVERING}
          ${LATEST})
      ) e
      ${LATEST}
    ) e`

// The same for events that name the user of a session by another `sub`. An event may name the session itself beside its subject. The
// first step leaves only issuers with pairwise clients. They are few. A part of an issuer logout is about one name only.
const LINKED_EVENTS_OF_SESSIONS = `
  with pairwise as materialized (
    select i.name, i.iss, i.subject_type, x.id as number
      from issuers i join session_issuers x on x.iss = i.iss
     where i.iss = any($1::text[]) and i.deleted_at is null and i.session_index <> 'off' and ${hasPairwise()}
  ),
  since as materialized (
    select g.iss, i.name, s.issuer, s.sub, s.sid, s.client_id, s.device, s.started_at, s.started_stated, s.accepted_at,
           true as linked, n.sub as other
      from ${STARTED}
      join pairwise i on i.iss = g.iss ${sessionOf('i.number')}
     cross join lateral (
       select n.sub from (${namesOfUser({
         ...{ index: 'i.number', sub: 'g.sub', sid: 'g.sid', client: 'g.client_id' },
         when: 'true',
       })}) n where n.sub <> g.sub
       union
       select e.sub from events e
        where e.iss = g.iss and e.sid = g.sid and e.scope in ('subject', 'device') and e.sub <> g.sub
          and ${isPairwise('g.client_id', 'i')}
     ) n
  )
  select ${TOUCHED}
    from since s
    cross join lateral (select s.name) i
    cross join lateral (
      select * from events e
       where e.iss = s.iss and e.sub = s.other and e.parent_id is null and ${COVERING}
         and e.scope in ('subject', 'device') and ${mayBeOnDevice()}
      ${LATEST}
    ) e`

// Bookkeepers make this subject's part of an issuer logout. If the part exists already, the statement above finds it. Only the
// latest issuer logout is noted, unless an earlier one is about clients that the latest one leaves out.
const ISSUER_LOGOUTS = `
      events e join issuer_logouts l on l.event_id = e.id and l.state <> 'cancelled'
       where e.iss = g.iss and e.scope = 'issuer'`
const NOTE_LATE = `
  insert into issuer_logouts_late (event_id, sub)
  select distinct e.id, g.sub
    from ${STARTED} ${SESSION}
    cross join lateral (
      select e.id, e.requested_at, e.clients from ${ISSUER_LOGOUTS} and ${beganBy()}
         and (e.clients is null or s.client_id = any(e.clients) or not ${knowsAll('i', 'x')})
    ) e
   where ${NOT_OFF}
     and exists (select from issuer_logouts)
     and not exists (select from events c where c.iss = g.iss and c.sub = g.sub and c.parent_id = e.id)
     and not exists (
       select from (select e.id, e.requested_at, e.clients from ${ISSUER_LOGOUTS} and ${beganBy()}) later
        where (later.requested_at, later.id) > (e.requested_at, e.id) and (later.clients is null or e.clients <@ later.clients)
     )
   order by 1, 2
  on conflict do nothing`

/**
 * Owes the deliveries for sessions that were just added to the index and that an already planned event covers. Call it after the
 * starts are committed. If the event is planned only after this call, `projectSessions` finds the session. Idempotent.
 */
export async function oweLateLogouts(
  db: Database,
  sessions: readonly Pick<Session, 'iss' | 'sub' | 'sid' | 'clientId'>[],
): Promise<void> {
  if (sessions.length === 0) return
  const values = [
    sessions.map(({ iss }) => iss),
    sessions.map(({ sub }) => sub),
    sessions.map(({ sid }) => sid),
    sessions.map(({ clientId }) => clientId),
  ]
  await db.query({ name: 'note_late', text: NOTE_LATE, values })
  const { rows } = await db.query<TouchedRow>({
    name: 'events_of_sessions',
    text: EVENTS_OF_SESSIONS,
    values,
  })
  const { rows: linked } = await db.query<TouchedRow>({
    name: 'linked_events_of_sessions',
    text: LINKED_EVENTS_OF_SESSIONS,
    values,
  })
  const found = [...rows, ...linked]
  if (found.length === 0) return
  const tally = createTally()
  await withTransaction(db, (transaction) => settleSessionStates(transaction, found, tally))
  await recordLifetimes(db, tally)
}
