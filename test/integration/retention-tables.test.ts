import { randomUUID } from 'node:crypto'
import { createRetentionJob, readRetention } from '@curfew/bookkeeper'
import { createPartitions, type Database, listAudit } from '@curfew/ledger'
import { readEnvironment } from '@curfew/runtime'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { count, register } from './ledger-support.ts'

// Goal: the rows of every table are kept for the days of its setting, and unfinished rows are kept at any age.
// Method: one round of the retention job, with the time passed in.

let database: TestDatabase
beforeEach(async () => {
  database = await createTestDatabase()
  await register(database.db, 1)
  await database.db.query('truncate audit')
})
afterEach(() => database.drop())

const db = (): Database => database.db
const DAY_MS = 86_400_000
const NOW = new Date('2026-11-21T12:00:00Z')
const daysBefore = (days: number) => new Date(NOW.getTime() - days * DAY_MS)

async function round(
  now: Date,
  environment: Readonly<Record<string, string>> = {},
): Promise<readonly object[]> {
  const lines: object[] = []
  const keep = (line: object) => void lines.push(line)
  const job = createRetentionJob({
    ...readEnvironment(environment, readRetention),
    db: db(),
    now: () => now,
    log: { debug: keep, info: keep, warn: keep, error: keep, isLevelEnabled: () => false },
    stopping: new AbortController().signal,
  })
  await job.round()
  return lines
}

async function audited(at: Date): Promise<void> {
  await db().query(
    `insert into audit (at, credential, action, object, detail) values ($1, 'test', 'test', '/', '{}')`,
    [at],
  )
}
const auditTimes = async () =>
  (await listAudit(db(), { before: null, limit: 500 })).map(({ at }) => at.toISOString().slice(0, 10))

test('audit records are kept for two years, by whole months, and their order and pages do not change', async () => {
  for (let days = 830; days >= 0; days -= 1) {
    const now = daysBefore(days)
    // As in operation, every partition is created before its month begins.
    if (daysBefore(days - 1).getUTCDate() === 1) await createPartitions(db(), { now, days: 1 })
    if (days % 5 === 0) await audited(now)
  }
  const before = await auditTimes()
  await round(NOW)
  const after = await auditTimes()
  // 730 days before NOW is 2024-11-21, and its month is kept as a whole.
  expect(after).toEqual(before.filter((day) => day >= '2024-11-01'))
  expect(after.at(-1)).toBe('2024-11-01')
  const first = await listAudit(db(), { before: null, limit: 10 })
  const second = await listAudit(db(), { before: first.at(-1)?.id ?? 0, limit: 10 })
  const ids = [...first, ...second].map(({ id }) => id)
  expect(ids).toEqual(ids.toSorted((one, other) => other - one))
  expect(await count(db(), 'audit_default')).toBeLessThan(10)
  await round(NOW, { CURFEW_AUDIT_RETENTION_DAYS: '90' })
  expect((await auditTimes()).at(-1)).toBe('2026-08-03')
})

test('audit records in the default partition are deleted by the day', async () => {
  for (const days of [731, 729, 0]) await audited(daysBefore(days))
  await round(NOW)
  expect(await auditTimes()).toEqual(['2026-11-21', '2024-11-22'])
})

test('attempts have their own retention, which may not exceed that of their events', async () => {
  for (const days of [31, 29, 9, 7])
    await db().query(
      `insert into attempts (delivery_id, number, started_at, duration_ms, outcome, worker_id)
       values ($1, 1, $2, 1, 'acknowledged', $1)`,
      [randomUUID(), daysBefore(days)],
    )
  await round(NOW)
  expect(await count(db(), 'attempts')).toBe(3)
  await round(NOW, { CURFEW_ATTEMPT_RETENTION_DAYS: '8' })
  expect(await count(db(), 'attempts')).toBe(1)
  expect(() => readEnvironment({ CURFEW_ATTEMPT_RETENTION_DAYS: '31' }, readRetention)).toThrow(
    /CURFEW_ATTEMPT_RETENTION_DAYS must not be more/,
  )
})

/** The tables with a retention, and their settings. `insert` takes the id ($1) and the end of a row ($2; null: unfinished). */
const TABLES: readonly {
  readonly table: string
  readonly setting: string
  readonly days: number
  readonly insert: string
  /** Whether a row may be unfinished. */
  readonly unfinished: boolean
}[] = [
  {
    table: 'quarantined_records',
    setting: 'CURFEW_QUARANTINE_RETENTION_DAYS',
    days: 90,
    unfinished: true,
    insert: `insert into quarantined_records (lane, log_position, key, value, value_bytes, value_sha256, headers, cut_short, kind, reason,
               quarantined_at, noticed_at, state, decided_by, decided_at)
             values ('bulk', $1::uuid, '', '', 0, '', '{}', false, 'unreadable', '', '2020-01-01', '2020-01-01',
               case when $2::timestamptz is null then 'waiting' else 'dismissed' end,
               case when $2::timestamptz is not null then 'test' end, $2)`,
  },
  {
    table: 'notifications',
    setting: 'CURFEW_NOTIFICATION_RETENTION_DAYS',
    days: 30,
    unfinished: false,
    insert: `insert into notifications (id, type, data, occurred_at) values ($1, 'a.test', '{}', $2)`,
  },
  {
    table: 'replays',
    setting: 'CURFEW_REPLAY_RETENTION_DAYS',
    days: 90,
    unfinished: true,
    insert: `insert into replays (id, filter, include_lapsed, requested_by, requested_at, total, state, ended_at)
             values ($1, '{}', false, 'test', '2020-01-01', 1, case when $2::timestamptz is null then 'running' else 'done' end, $2)`,
  },
  {
    table: 'probes',
    setting: 'CURFEW_PROBE_RETENTION_DAYS',
    days: 365,
    unfinished: true,
    insert: `insert into probes (id, issuer, client_id, kind, uri, credential, started_at, ended_at, total, report)
             values ($1::uuid, 'main', $1::uuid::text, '', '', '', '2020-01-01', $2, 1, case when $2::timestamptz is not null then '{}'::jsonb end)`,
  },
  {
    table: 'erasures',
    setting: 'CURFEW_ERASURE_RETENTION_DAYS',
    days: 1_095,
    unfinished: true,
    insert: `insert into erasures (id, issuer, sub, subject_digest, abandon, requested_by, requested_at, watched_until,
               next_look_at, completed_at, closed_at)
             values ($1, 'main', case when $2::timestamptz is null then 'alice' end, '', false, 'test', '2020-01-01', '2020-01-02',
               case when $2::timestamptz is null then '2020-01-02'::timestamptz end, $2, $2)`,
  },
]

test.each(TABLES)(
  'rows of $table are kept for $days days, or the days of $setting',
  async ({ table, setting, days, insert, unfinished }) => {
    const ages = [days + 1, days + 1, days - 1, 9, 7, ...(unfinished ? [null] : [])]
    for (const age of ages) await db().query(insert, [randomUUID(), age === null ? null : daysBefore(age)])
    const lines = await round(NOW)
    expect(await count(db(), table)).toBe(ages.length - 2)
    expect(lines).toContainEqual({ event: 'rows.deleted', what: expect.any(String), count: 2 })
    await round(NOW, { [setting]: '8' })
    expect(await count(db(), table)).toBe(unfinished ? 2 : 1)
  },
)

test('a waiting record of a session is kept until operators are notified, and after that for the days of the setting', async () => {
  for (const [lane, age, noticed] of [
    ['sessions', 91, true],
    ['sessions', 91, false],
    ['sessions', 89, true],
    ['interactive', 91, true],
  ] as const)
    await db().query(
      `insert into quarantined_records (lane, log_position, key, value, value_bytes, value_sha256, headers, cut_short, kind, reason,
         quarantined_at, noticed_at)
       values ($1, gen_random_uuid(), '', '', 0, '', '{}', false, 'unreadable', '', $2, case when $3::boolean then now() end)`,
      [lane, daysBefore(age), noticed],
    )
  await round(NOW)
  const { rows } = await db().query(
    'select lane, noticed_at is not null as noticed from quarantined_records order by id',
  )
  expect(rows).toEqual([
    { lane: 'sessions', noticed: false },
    { lane: 'sessions', noticed: true },
    { lane: 'interactive', noticed: true },
  ])
})

test('an audit retention of a few days is refused', () => {
  expect(() => readEnvironment({ CURFEW_AUDIT_RETENTION_DAYS: '8' }, readRetention)).toThrow(
    /CURFEW_AUDIT_RETENTION_DAYS/,
  )
})

test('logout audits are kept for 400 days after their end, and the last result stays', async () => {
  await db().query(
    `insert into logout_audits (id, issuer, client_id, trigger, requested_by, state, ended_at, result)
     select gen_random_uuid(), 'main', 'rp-' || days, 'schedule', 'bookkeeper', 'ended', $1::timestamptz - days * interval '1 day', 'passed'
       from unnest(array[401, 399, 9]) as days`,
    [NOW],
  )
  await round(NOW)
  expect(await count(db(), 'logout_audits')).toBe(2)
  await round(NOW, { CURFEW_LOGOUT_AUDIT_RETENTION_DAYS: '8' })
  expect(await count(db(), 'logout_audits')).toBe(0)
})
