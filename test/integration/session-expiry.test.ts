import { expiryRound } from '@curfew/bookkeeper'
import { expireSessions, listSessionPartitions, type SessionPartition } from '@curfew/ledger'
import fc from 'fast-check'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { openCurfew } from '../support/curfew.ts'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'

// Goal: expired sessions are deleted from both tables, and no others, even if a session is extended at the same time.
// Method: the real statements over random sessions, in batches so small that every round has many.

const NOW = new Date('2026-11-21T12:00:00.000Z')
let database: TestDatabase
let partitions: readonly SessionPartition[]
beforeAll(async () => {
  database = await createTestDatabase()
  partitions = await listSessionPartitions(database.db)
  await database.db.query("insert into session_issuers (iss) values ('https://idp.example')")
})
afterAll(() => database.drop())
beforeEach(async () => {
  for (const table of ['sessions', 'session_ids']) await database.db.query(`delete from ${table}`)
})

interface TestSession {
  readonly sub: number
  readonly sid: number
  /** The expiry, in minutes after NOW; null: it has none. */
  readonly minutes: number | null
}

/** Inserts sessions into both tables, every one with its own client. @returns the clients. */
async function insertAll(sessions: readonly TestSession[]): Promise<readonly string[]> {
  const clients = sessions.map((_, n) => `rp-${n}`)
  const values = [
    clients,
    sessions.map(({ sub }) => `user-${sub}`),
    sessions.map(({ sid }) => `sid-${sid}`),
    sessions.map(({ minutes }) =>
      minutes === null ? 'infinity' : new Date(NOW.getTime() + minutes * 60_000).toISOString(),
    ),
  ]
  const given =
    'unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[]) as g(client_id, sub, sid, expires_at)'
  for (const table of ['sessions', 'session_ids']) {
    await database.db.query(
      `insert into ${table} (issuer, sub, sid, client_id, started_at, expires_at)
       select 1, sub, sid, client_id, '2026-01-01', expires_at from ${given}`,
      values,
    )
  }
  return clients
}

async function expire(limit: number, pause: () => Promise<void> = async () => undefined): Promise<number> {
  let deleted = 0
  await expiryRound({
    partitions,
    expire: (request) => expireSessions(database.db, { ...request, limit }),
    before: NOW,
    limit,
    onDeleted: (rows) => {
      deleted += rows
    },
    stopped: () => false,
    pause,
  })
  return deleted
}

async function left(table: 'sessions' | 'session_ids'): Promise<readonly string[]> {
  const { rows } = await database.db.query<{ id: string }>(`select client_id as id from ${table}`)
  return rows.map(({ id }) => id).toSorted()
}

test('no session is deleted before it expires by the clock of the ledger, even if the clock of a bookkeeper is ahead', async () => {
  const minutes = (Date.now() - NOW.getTime()) / 60_000
  const [, living] = await insertAll([
    { sub: 1, sid: 1, minutes: minutes - 1 },
    { sub: 1, sid: 2, minutes: minutes + 1 },
  ])
  const before = new Date(Date.now() + 3_600_000)
  for (const partition of partitions) {
    await expireSessions(database.db, { partition, before, from: null, limit: 10 })
  }
  expect([await left('sessions'), await left('session_ids')]).toEqual([[living], [living]])
})

test('exactly the expired sessions are deleted from both tables', async () => {
  const session = fc.record({
    sub: fc.integer({ min: 0, max: 5 }),
    sid: fc.integer({ min: 0, max: 5 }),
    // Many sessions expire at the same time: a batch must not skip any.
    minutes: fc.oneof(fc.constantFrom(-5, 0, 5, null), fc.integer({ min: -60, max: 60 })),
  })
  await fc.assert(
    fc.asyncProperty(
      fc.array(session, { maxLength: 60 }),
      fc.integer({ min: 1, max: 7 }),
      async (all, limit) => {
        const clients = await insertAll(all)
        const live = clients
          .filter((_, n) => {
            const minutes = all[n]?.minutes
            return minutes === null || (minutes ?? 0) > 0
          })
          .toSorted()
        expect(await expire(limit)).toBe((all.length - live.length) * 2)
        expect(await left('sessions')).toEqual(live)
        expect(await left('session_ids')).toEqual(live)
        for (const table of ['sessions', 'session_ids']) await database.db.query(`delete from ${table}`)
      },
    ),
    { numRuns: 25 },
  )
})

test('a session that is being extended does not block the deletion, and is kept', async () => {
  await insertAll([
    { sub: 1, sid: 1, minutes: -1 },
    { sub: 1, sid: 2, minutes: -1 },
  ])
  await database.db.withConnection(async (other) => {
    await other.query('begin')
    for (const table of ['sessions', 'session_ids'])
      await other.query(`update ${table} set expires_at = $1 where client_id = 'rp-0'`, [
        new Date(NOW.getTime() + 60_000),
      ])
    expect(await expire(10)).toBe(2)
    await other.query('commit')
  })
  expect(await expire(10)).toBe(0)
  expect([await left('sessions'), await left('session_ids')]).toEqual([['rp-0'], ['rp-0']])
})

test('no statement deletes more than its batch, and there is a pause after every statement', async () => {
  await insertAll(Array.from({ length: 50 }, (_, n) => ({ sub: 1, sid: 1, minutes: -n })))
  const seen: number[] = []
  await expire(10, async () => {
    seen.push((await left('sessions')).length + (await left('session_ids')).length)
  })
  expect(seen).toEqual([90, 80, 70, 60, 50, 40, 30, 20, 10, 0])
})

test('a bookkeeper deletes expired sessions', async () => {
  await using curfew = await openCurfew({ workers: 0 })
  await curfew.db.query(`
    insert into session_ids (issuer, sub, sid, client_id, started_at, expires_at)
    select 1, 'u' || n, 's', 'rp', now() - interval '1 day', now() + (n - 5) * interval '1 hour'
      from generate_series(0, 9) n`)
  const count = async () =>
    (await curfew.db.query<{ count: number }>('select count(*) from session_ids')).rows[0]?.count
  await curfew.startBookkeeper()
  await expect.poll(count, { timeout: 20_000 }).toBe(4)
})
