import type { DeliveryState } from '@curfew/domain'
import { eventRanges } from '../history/event-ranges.ts'
import { mergedNotifications, NAMED_MAX } from '../notify/merged.ts'
import { plainArray } from '../postgres/arrays.ts'
import { type Database, withTransaction } from '../postgres/database.ts'
import { tryLock } from '../postgres/locks.ts'
import { namedParameters } from '../postgres/parameters.ts'
import { microsOf } from '../postgres/times.ts'
import { WALK_PARAMETERS, type WalkedPage, walk, walkSql } from '../postgres/walk.ts'
import { endOf } from './order.ts'
import type { SessionRecord } from './sessions.ts'

// Orphans: sessions whose logout failed, so that they may still be live.

export interface OrphanRecord extends Omit<SessionRecord, 'logoutEventId' | 'orphanedAt'> {
  /** Short name of the issuer; null if none is registered with this `iss`. */
  readonly issuer: string | null
  readonly orphanedAt: Date
  readonly eventId: string
  /** Whether the ledger still has the logout event. */
  readonly eventKept: boolean
  /** The delivery owed to the client for that event; null if none was owed, or it was deleted. */
  readonly delivery: {
    readonly id: string
    readonly state: DeliveryState
    readonly deadLetterReason: string | null
  } | null
  readonly position: OrphanPosition
}

/** The place of an orphan in the list. The time is in microseconds since the epoch, because a Date has only milliseconds. */
export interface OrphanPosition {
  readonly micros: number
  readonly issuer: number
  readonly sub: string
  readonly sid: string
  readonly clientId: string
}

const ASKED = namedParameters(
  {
    // The issuer's number in the index.
    number: 'int',
    from: 'timestamptz',
    micros: 'bigint',
    issuer: 'int',
    sub: 'text',
    sid: 'text',
    clientId: 'text',
    clientIds: 'text[]',
  },
  { after: WALK_PARAMETERS },
)
const { $ } = ASKED

// Expired sessions do not count: they are about to be deleted.
const listOf = (ofIssuer: boolean) => ({
  name: ofIssuer ? 'list_orphans_of_issuer' : 'list_orphans',
  text: walkSql({
    table: 'sessions',
    key: ['orphaned_at', 'issuer', 'sub', 'sid', 'client_id'],
    order: 'desc',
    byParts: false,
    where: `t.orphaned_at is not null and ${ofIssuer ? `t.issuer = ${$.number}` : `${$.number} is null`}
      and (t.orphaned_at, t.issuer, t.sub, t.sid, t.client_id)
          < (${$.from} + ${$.micros} * interval '1 microsecond', ${$.issuer}, ${$.sub}, ${$.sid}, ${$.clientId})`,
    columns: ['expires_at'],
    filter: `w.expires_at > now() and (${$.clientIds} is null or w.client_id = any(${$.clientIds}))`,
    returned: `w.issuer, w.sub, w.sid, w.client_id as "clientId", ${microsOf('w.orphaned_at')} as micros`,
  }),
})
const LIST_ORPHANS = listOf(false)
const LIST_ORPHANS_OF_ISSUER = listOf(true)

const FIRST: OrphanPosition = { micros: 0, issuer: 0, sub: '', sid: '', clientId: '' }

// One lookup by primary key for each orphan.
const ORPHANS = `
  select n.iss, i.name as issuer, s.sub, s.email, s.sid, s.client_id as "clientId", s.device, s.started_at as "startedAt",
         ${endOf('s')}, s.orphaned_at as "orphanedAt", s.logout_event_id as "eventId", e.given_id as "givenEventId",
         e.id is not null as "eventKept", s.issuer as number,
         ${microsOf('s.orphaned_at')} as micros
    from unnest($1::int[], $2::text[], $3::text[], $4::text[]) as k(issuer, sub, sid, client_id)
    cross join lateral (
      select * from sessions
       where issuer = k.issuer and sub = k.sub and sid = k.sid and client_id = k.client_id and orphaned_at is not null offset 0
    ) s
    join session_issuers n on n.id = s.issuer
    left join issuers i on i.iss = n.iss and i.deleted_at is null
    left join events e on e.id = s.logout_event_id
   order by s.orphaned_at desc, s.issuer desc, s.sub desc, s.sid desc, s.client_id desc`

const NUMBER_OF_ISSUER = `
  select n.id from issuers i join session_issuers n on n.iss = i.iss where i.name = $1 and i.deleted_at is null`

// The deliveries of each event to each client, for any session. It reads one range of the index of each binding. `offset 0` keeps
// PostgreSQL from choosing a join that reads the whole table.
const OWED = `
  select d.id, d.event_id as "eventId", d.sid, d.state, d.dead_letter_reason as "deadLetterReason",
         p.client_id as "clientId"
    from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[]) as asked(id, low, high, iss, client_id)
    join issuers i on i.iss = asked.iss
    join relying_parties p on p.issuer = i.name and p.client_id = asked.client_id
    join bindings b on b.relying_party_id = p.id
    cross join lateral (
      select w.id, w.event_id, w.sid, w.state, w.dead_letter_reason from deliveries w
       where w.binding_id = b.id and w.id between asked.low and asked.high and w.event_id = asked.id offset 0
    ) d`

type OrphanRow = Omit<OrphanRecord, 'delivery' | 'position'> & {
  readonly number: number
  readonly micros: number
}

interface OwedRow extends NonNullable<OrphanRecord['delivery']> {
  readonly eventId: string
  readonly sid: string | null
  readonly clientId: string
}

/** Lists orphans that have not expired, the latest first, with the deliveries of their logouts. */
export async function listOrphans(
  db: Database,
  {
    issuer,
    clientIds,
    before,
    limit,
  }: {
    /** Short name; null: every issuer. */
    issuer: string | null
    /** Null: every client. */
    clientIds: readonly string[] | null
    before: OrphanPosition | null
    limit: number
  },
): Promise<WalkedPage<OrphanRecord, OrphanPosition>> {
  const number = issuer === null ? null : await numberOf(db, issuer)
  if (number === undefined) return { rows: [], reached: null }
  const { keys, reached } = await walk<OrphanPosition>(
    db,
    number === null ? LIST_ORPHANS : LIST_ORPHANS_OF_ISSUER,
    {
      ...{ parts: null, limit },
      values: ASKED.values({
        number,
        clientIds,
        ...(before === null ? { from: 'infinity', ...FIRST } : { from: 'epoch', ...before }),
      }),
    },
  )
  const columns = [
    plainArray(keys.map((key) => key.issuer)),
    keys.map(({ sub }) => sub),
    keys.map(({ sid }) => sid),
    keys.map(({ clientId }) => clientId),
  ]
  const { rows } = await db.query<OrphanRow>({ text: ORPHANS, values: columns })
  const owed = await listOwed(db, rows)
  return {
    rows: rows.map(({ number: place, micros, ...row }) => ({
      ...row,
      delivery: owedFor(row, owed.get(row.eventId) ?? []),
      position: { micros, issuer: place, sub: row.sub, sid: row.sid, clientId: row.clientId },
    })),
    reached,
  }
}

/** The number of a registered issuer in the session index; undefined if the index does not know it. */
async function numberOf(db: Database, issuer: string): Promise<number | undefined> {
  const { rows } = await db.query<{ id: number }>({ text: NUMBER_OF_ISSUER, values: [issuer] })
  return rows[0]?.id
}

async function listOwed(
  db: Database,
  orphans: readonly OrphanRow[],
): Promise<ReadonlyMap<string, readonly OwedRow[]>> {
  if (orphans.length === 0) return new Map()
  const asked = [
    ...new Map(orphans.map((orphan) => [`${orphan.eventId} ${orphan.clientId}`, orphan])).values(),
  ]
  const { rows } = await db.query<OwedRow>({
    text: OWED,
    values: [
      ...eventRanges(asked.map(({ eventId }) => eventId)),
      asked.map(({ iss }) => iss),
      asked.map(({ clientId }) => clientId),
    ],
  })
  return Map.groupBy(rows, ({ eventId }) => eventId)
}

/** The order in which one of several deliveries is chosen: a failed one first. */
const WORST_FIRST: readonly DeliveryState[] = [
  'dead_lettered',
  'lapsed',
  'pending',
  'in_flight',
  'offered',
  'superseded',
  'acknowledged',
]

function owedFor(
  { clientId, sid }: Pick<OrphanRow, 'clientId' | 'sid'>,
  owed: readonly OwedRow[],
): OrphanRecord['delivery'] {
  const own = owed.filter((one) => one.clientId === clientId && (one.sid === null || one.sid === sid))
  const [worst] = own.toSorted((a, b) => WORST_FIRST.indexOf(a.state) - WORST_FIRST.indexOf(b.state))
  return worst === undefined
    ? null
    : { id: worst.id, state: worst.state, deadLetterReason: worst.deadLetterReason }
}

const COUNT_ORPHANS = `
  select coalesce(i.name, n.iss) as issuer, counted.count
    from (
      select issuer, count(*) as count from sessions
       where orphaned_at is not null and expires_at > now() group by issuer
    ) counted
    join session_issuers n on n.id = counted.issuer
    left join issuers i on i.iss = n.iss and i.deleted_at is null`

/** Counts orphans by the issuer's short name, or by its `iss` if it is not registered. Issuers without orphans are left out. */
export async function countOrphans(db: Database): Promise<ReadonlyMap<string, number>> {
  const { rows } = await db.query<{ issuer: string; count: number }>({
    name: 'count_orphans',
    text: COUNT_ORPHANS,
  })
  return new Map(rows.map(({ issuer, count }) => [issuer, count]))
}

// A locked session is just being changed and may cease to be an orphan. The next round looks at it again.
const NOTICE_ORPHANS = `
  with noticed as (
    update sessions s set orphan_notified_at = s.orphaned_at
      from (
        select issuer, sub, sid, client_id from sessions
         where orphaned_at is not null and orphan_notified_at is distinct from orphaned_at
         order by orphaned_at limit $1
           for update skip locked
      ) fresh_orphans
     where s.issuer = fresh_orphans.issuer and s.sub = fresh_orphans.sub and s.sid = fresh_orphans.sid
       and s.client_id = fresh_orphans.client_id
    returning s.issuer, s.client_id, s.orphaned_at as at
  ),
  fresh as (
    select i.name as issuer, null::bigint as binding_id, count(*) as count, min(o.at) as oldest, max(o.at) as newest,
           (array_agg(distinct o.client_id))[1:${NAMED_MAX}] as named,
           jsonb_build_object('issuer', i.name, 'iss', n.iss) as members
      from noticed o
      join session_issuers n on n.id = o.issuer
      left join issuers i on i.iss = n.iss and i.deleted_at is null
     group by n.iss, i.name
  ),
  ${mergedNotifications({ type: 'session.orphaned', list: 'client_ids', windowMs: '$2' })}
  select count(*) as noticed from noticed`

/**
 * Writes notifications of new orphans, one for each issuer and window, so that many orphans make few messages. Only one
 * bookkeeper at a time does so.
 *
 * @param limit most orphans.
 * @param windowMs how long a notification waits for more orphans before it is sent.
 * @returns the number of orphans that were noticed.
 */
export async function noticeOrphans(
  db: Database,
  { limit, windowMs }: { limit: number; windowMs: number },
): Promise<number> {
  return withTransaction(db, async (transaction) => {
    if (!(await tryLock(transaction, 'orphans'))) return 0
    const { rows } = await transaction.query<{ noticed: number }>({
      name: 'notice_orphans',
      text: NOTICE_ORPHANS,
      values: [limit, windowMs],
    })
    return rows[0]?.noticed ?? 0
  })
}
