import { hash } from 'node:crypto'
import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ClientId, Issuer, Session, Sid, Subject } from '@curfew/domain'
import { openEmbeddedPostgres } from '@curfew/embedded'
import {
  applySessions,
  createDatabase,
  type Database,
  listSessionsOfSid,
  listSessionsOfSubject,
  migrate,
} from '@curfew/ledger'
import { recording, scansOf } from '../../support/explain.ts'
import { quantile } from '../figures.ts'
import type { Row } from '../scenarios.ts'
import type { Settings } from '../turns.ts'

const SESSIONS = 10_000_000
const LOAD_CHUNK = 500_000
/** The clients that take part in a user's session at the IdP. Each client has its own row. */
const CLIENTS = 3
/** The batch size of the delivery service. */
const BATCH = 500
const ISS = 'https://idp.example' as Issuer
const LIST = { iss: ISS, clientIds: null, after: null, limit: 51 }

const PLAIN = `
  create table plain_rows (
    id bigint primary key, sub text not null, sid text not null, client_id text not null, device text,
    started_at timestamptz not null, expires_at timestamptz not null
  )`
// The names are hashes, because real names are spread over the whole index. The sessions outlive any run.
const ROWS = `
  select n, md5('user ' || n / ${CLIENTS}) as sub, md5('session ' || n / ${CLIENTS}) as sid,
         'client-' || n % ${CLIENTS} as client_id, now() as started_at, now() + interval '30 days' as expires_at
    from generate_series($1::bigint, $2::bigint) n`
const LOADS: Readonly<Record<string, string>> = {
  sessions: `insert into sessions (issuer, sub, sid, client_id, started_at, expires_at)
    select 1, sub, sid, client_id, started_at, expires_at from (${ROWS}) r`,
  session_ids: `insert into session_ids (issuer, sid, client_id, sub, started_at, expires_at)
    select 1, sid, client_id, sub, started_at, expires_at from (${ROWS}) r`,
  plain_rows: `insert into plain_rows (id, sub, sid, client_id, started_at, expires_at) ${ROWS}`,
}
// Created after the rows, which is faster. The fill factor leaves the free space of an index that grew row by row.
const KEYS = [
  'create index plain_by_sub on plain_rows (sub, sid, client_id) with (fillfactor = 70)',
  'create index plain_by_sid on plain_rows (sid, client_id, sub) with (fillfactor = 70)',
]
const FIND_PLAIN = 'select * from plain_rows where id = $1'
const INSERT_PLAIN = `
  insert into plain_rows (id, sub, sid, client_id, started_at, expires_at)
  select * from unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::timestamptz[])`

/** Measures the session index with ten million sessions: the time of a lookup, and the rate of applied starts. */
export async function sessions(settings: Settings): Promise<readonly Row[]> {
  const size = Math.max(3_000, Math.round(SESSIONS * settings.scale))
  await using opened = await openOwnDatabase(settings)
  const { db } = opened
  await load(db, size, settings.progress)
  await showPlans(db, settings.progress)

  const rounds = Array.from({ length: settings.rounds }, (_, round) => round)
  const lookups = { sub: [] as number[][], sid: [] as number[][], plain: [] as number[][] }
  const starts = { applied: [] as number[], plain: [] as number[] }
  const turnMs = (settings.seconds * 1_000) / 2
  for (const round of rounds) {
    settings.progress(`round ${round + 1} of ${settings.rounds}`)
    const users = await someUsers(db, size)
    lookups.plain.push(await time(turnMs, (n) => findPlain(db, (n * 7_919) % size)))
    lookups.sub.push(await time(turnMs, (n) => listSessionsOfSubject(db, { ...LIST, sub: at(users, n).sub })))
    lookups.sid.push(await time(turnMs, (n) => listSessionsOfSid(db, { ...LIST, sid: at(users, n).sid })))
    starts.plain.push(await rateOf(turnMs, (n) => insertPlain(db, startsOf(round, n))))
    starts.applied.push(
      await rateOf(turnMs, (n) => applySessions(db, { ends: [], starts: startsOf(round, n) })),
    )
  }
  const beside = (q: number) => ({
    what: 'a row of a plain table by primary key',
    values: lookups.plain.map((times) => quantile(times, q)),
  })
  const row = (measured: string, q: number, times: readonly number[][]): Row => ({
    measured: `${measured}, p${q * 100} ms`,
    values: times.map((each) => quantile(each, q)),
    beside: beside(q),
  })
  return [
    row(`${size} sessions: those of a subject`, 0.5, lookups.sub),
    row('  those of a subject', 0.99, lookups.sub),
    row('  those of a sid', 0.5, lookups.sid),
    row('  those of a sid', 0.99, lookups.sid),
    {
      measured: `  starts applied, ${BATCH} at once, rows/s`,
      values: starts.applied,
      beside: {
        what: 'inserts into a plain table with indexes by sub and by sid, as many at once',
        values: starts.plain,
      },
    },
  ]
}

async function openOwnDatabase({ progress }: Settings): Promise<AsyncDisposable & { readonly db: Database }> {
  await using opening = new AsyncDisposableStack()
  const folder = await mkdtemp(join(tmpdir(), 'curfew-bench-sessions-'))
  // Under root the database runs as another user, which must be able to enter the folder.
  await chmod(folder, 0o711)
  opening.defer(() => rm(folder, { recursive: true, force: true }))
  const postgres = await openEmbeddedPostgres({ dataDir: join(folder, 'postgres'), log: progress })
  opening.defer(() => postgres.stop())
  const db = createDatabase(postgres.url, { poolMax: 1, statementTimeoutMs: 0 })
  opening.defer(() => db.end())
  await migrate(db)
  const opened = opening.move()
  return { db, [Symbol.asyncDispose]: () => opened.disposeAsync() }
}

async function load(db: Database, size: number, progress: (text: string) => void): Promise<void> {
  await db.query('insert into session_issuers (iss) values ($1)', [ISS])
  await db.query(PLAIN)
  for (const [table, statement] of Object.entries(LOADS)) {
    for (let from = 0; from < size; from += LOAD_CHUNK) {
      await db.query(statement, [from, Math.min(from + LOAD_CHUNK, size) - 1])
      progress(`${table}: ${Math.min(from + LOAD_CHUNK, size)} of ${size} rows`)
    }
    await db.query(`vacuum analyze ${table}`)
  }
  for (const key of KEYS) await db.query(key)
  // A checkpoint keeps the pending writes of the load out of the measurement.
  await db.query('checkpoint')
}

/** Prints the scans of every lookup, with its custom and its generic plan. */
async function showPlans(db: Database, progress: (text: string) => void): Promise<void> {
  const [user] = await someUsers(db, CLIENTS)
  const recorder = recording(db)
  const lookups: readonly (readonly [string, () => Promise<unknown>])[] = [
    ['of a subject', () => listSessionsOfSubject(recorder, { ...LIST, sub: user?.sub ?? '' })],
    ['of a sid', () => listSessionsOfSid(recorder, { ...LIST, sid: user?.sid ?? '' })],
  ]
  for (const [what, run] of lookups) {
    await run()
    const statement = recorder.statements.at(-1)
    if (statement === undefined) continue
    for (const how of ['custom', 'generic'] as const) {
      const scans = await scansOf(db, statement, how)
      const words = scans.map(({ how: node, relation, times }) => `${node} of ${relation}, ${times} times`)
      progress(`sessions ${what}, ${how} plan: ${words.join('; ')}`)
    }
  }
}

interface User {
  readonly sub: string
  readonly sid: string
}

/** Random users of the table. */
async function someUsers(db: Database, size: number): Promise<readonly User[]> {
  const { rows } = await db.query<User>(
    `select md5('user ' || n) as sub, md5('session ' || n) as sid
       from (select floor(random() * $1)::bigint as n from generate_series(1, 2000)) picked`,
    [Math.max(1, Math.floor(size / CLIENTS))],
  )
  return rows
}

function at(users: readonly User[], n: number): User {
  const user = users[n % users.length]
  if (user === undefined) throw new Error('no users')
  return user
}

async function findPlain(db: Database, id: number): Promise<void> {
  await db.query({ name: 'find_plain', text: FIND_PLAIN, values: [id] })
}

/** New sessions, spread over the whole index. */
function startsOf(round: number, batch: number): readonly Session[] {
  const startedAt = new Date()
  const expiresAt = new Date(startedAt.getTime() + 8 * 3_600_000)
  return Array.from({ length: BATCH }, (_, n) => {
    const name = hash('md5', `start ${round} ${batch} ${n}`)
    return {
      ...{ iss: ISS, sub: name as Subject, sid: name as Sid, clientId: 'client-0' as ClientId },
      ...{ device: null, startedAt, startedStated: true, acceptedAt: startedAt, expiresAt },
    }
  })
}

let plainId = 1e12
async function insertPlain(db: Database, rows: readonly Session[]): Promise<void> {
  await db.query({
    name: 'insert_plain',
    text: INSERT_PLAIN,
    values: [
      rows.map(() => plainId++),
      rows.map(({ sub }) => sub),
      rows.map(({ sid }) => sid),
      rows.map(({ clientId }) => clientId),
      rows.map(({ startedAt }) => startedAt),
      rows.map(({ expiresAt }) => expiresAt),
    ],
  })
}

/** Repeats a call for `forMs`. @returns the duration of every call, in milliseconds. */
async function time(forMs: number, call: (n: number) => Promise<unknown>): Promise<number[]> {
  const times: number[] = []
  const endsMs = performance.now() + forMs
  for (let n = 0; performance.now() < endsMs; n++) {
    const startedMs = performance.now()
    await call(n)
    times.push(performance.now() - startedMs)
  }
  return times
}

/** Repeats a call with a batch for `forMs`. @returns rows per second. */
async function rateOf(forMs: number, call: (n: number) => Promise<unknown>): Promise<number> {
  const times = await time(forMs, call)
  return (times.length * BATCH) / (times.reduce((sum, each) => sum + each, 0) / 1_000)
}
