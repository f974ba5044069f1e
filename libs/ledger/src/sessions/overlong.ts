import type { Database } from '../postgres/database.ts'
import { namedParameters } from '../postgres/parameters.ts'
import { microsOf } from '../postgres/times.ts'
import { WALK_PARAMETERS, type WalkedPage, walk, walkSql } from '../postgres/walk.ts'
import { type SessionRecord, sessionColumns } from './sessions.ts'

// Overlong sessions: live ones that have lasted far longer than is normal for their client. They are listed client by client, the
// oldest first.

/** The place of an overlong session in the list. `after` null: before the sessions of the client. */
export interface OverlongPosition {
  readonly clientId: string
  readonly after: OverlongKey | null
}

interface OverlongKey {
  /** When the session began, in microseconds since the epoch. */
  readonly micros: number
  readonly sub: string
  readonly sid: string
}

export interface OverlongSession extends SessionRecord {
  readonly position: OverlongPosition
}

/** The most clients that one page walks. */
const CLIENTS = 20

// The clients that had overlong sessions at the last count.
const OVERLONG_CLIENTS = `
  select p.client_id as "clientId", x.id as issuer, i.name, l.overlong_after_ms as "afterMs"
    from session_issuers x
    join issuers i on i.iss = x.iss and i.deleted_at is null
    join relying_parties p on p.issuer = i.name and p.deleted_at is null
    join session_lifetimes l on l.relying_party_id = p.id
   where x.iss = $1 and l.overlong > 0 and ($2::text[] is null or p.client_id = any($2)) and p.client_id >= $3
   order by p.client_id limit ${CLIENTS + 1}`

const ASKED = namedParameters(
  {
    issuer: 'int',
    clientId: 'text',
    afterMs: 'bigint',
    from: 'timestamptz',
    micros: 'bigint',
    sub: 'text',
    sid: 'text',
  },
  { after: WALK_PARAMETERS },
)
const { $ } = ASKED

const LIST_OVERLONG = {
  name: 'list_overlong',
  text: walkSql({
    table: 'sessions',
    key: ['started_at', 'sub', 'sid'],
    order: 'asc',
    byParts: false,
    where: `t.issuer = ${$.issuer} and t.client_id = ${$.clientId}
      and t.started_at < now() - make_interval(secs => ${$.afterMs}::float8 / 1000)
      and (t.started_at, t.sub, t.sid) > (${$.from} + ${$.micros} * interval '1 microsecond', ${$.sub}, ${$.sid})`,
    columns: ['expires_at'],
    filter: 'w.expires_at > now()',
    returned: `${microsOf('w.started_at')} as micros, w.sub, w.sid`,
  }),
}

// One lookup by primary key for each session.
const SESSIONS = `
  select ${sessionColumns('$3')}, ${microsOf('s.started_at')} as micros
    from unnest($4::text[], $5::text[]) as k(sub, sid)
    cross join lateral (
      select * from sessions where issuer = $1 and sub = k.sub and sid = k.sid and client_id = $2 offset 0
    ) s
   order by s.started_at, s.sub, s.sid`

interface OverlongClient {
  readonly clientId: string
  /** The number of the issuer in the index. */
  readonly issuer: number
  /** The short name of the issuer. */
  readonly name: string
  readonly afterMs: number
}

/** Lists the overlong sessions of an issuer, of the clients that had any at the last count. */
export async function listOverlong(
  db: Database,
  request: {
    readonly iss: string
    /** Null: every client. */
    readonly clientIds: readonly string[] | null
    readonly after: OverlongPosition | null
    readonly limit: number
  },
): Promise<WalkedPage<OverlongSession, OverlongPosition>> {
  const { iss, clientIds, after, limit } = request
  const { rows: clients } = await db.query<OverlongClient>({
    name: 'overlong_clients',
    text: OVERLONG_CLIENTS,
    values: [iss, clientIds, after?.clientId ?? ''],
  })
  const rows: OverlongSession[] = []
  for (const client of clients.slice(0, CLIENTS)) {
    const { clientId } = client
    const page = await ofClient(db, client, {
      after: after?.clientId === clientId ? after.after : null,
      limit: limit - rows.length,
    })
    rows.push(...page.rows.map((row) => ({ ...row, iss })))
    if (rows.length >= limit) return { rows, reached: null }
    if (page.reached !== null) return { rows, reached: { clientId, after: page.reached } }
  }
  const next = clients[CLIENTS]
  return { rows, reached: next === undefined ? null : { clientId: next.clientId, after: null } }
}

async function ofClient(
  db: Database,
  { clientId, issuer, name, afterMs }: OverlongClient,
  { after, limit }: { after: OverlongKey | null; limit: number },
): Promise<WalkedPage<Omit<OverlongSession, 'iss'>, OverlongKey>> {
  const { keys, reached } = await walk<OverlongKey>(db, LIST_OVERLONG, {
    ...{ parts: null, limit },
    values: ASKED.values({
      ...{ issuer, clientId, afterMs },
      ...(after === null ? { from: '-infinity', micros: 0, sub: '', sid: '' } : { from: 'epoch', ...after }),
    }),
  })
  if (keys.length === 0) return { rows: [], reached }
  const { rows } = await db.query<Omit<OverlongSession, 'iss' | 'issuer' | 'position'> & { micros: number }>({
    text: SESSIONS,
    values: [issuer, clientId, name, keys.map(({ sub }) => sub), keys.map(({ sid }) => sid)],
  })
  return {
    rows: rows.map(({ micros, ...row }) => ({
      ...row,
      issuer: name,
      position: { clientId, after: { micros, sub: row.sub, sid: row.sid } },
    })),
    reached,
  }
}
