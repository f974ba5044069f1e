import {
  createQuarantineJobs,
  createSessionJobs,
  createSessionQuotaJob,
  createSlaJobs,
} from '@curfew/bookkeeper'
import { createDatabase, type Database, quarantine } from '@curfew/ledger'
import { createLog, createMetrics } from '@curfew/runtime'
import { expect, test } from 'vitest'
import { ISS, ISSUER, openCurfew } from '../support/curfew.ts'
import { insertSession } from '../support/session-rows.ts'
import { registerQuietly } from './dead-letters-support.ts'

// Goal: an operator never takes an old value for the present one. A gauge whose value cannot be read is absent.
// Method: the jobs of the bookkeeper read real values, and then lose their connections.

/** The gauges that jobs set beside their other work. */
const GAUGES = [
  'curfew_quarantined_records',
  'curfew_session_quota_ratio',
  'curfew_sessions_orphaned',
  'curfew_sessions_overlong',
  'curfew_sla_overdue',
]

/** Gives each gauge a value. */
async function fill(db: Database): Promise<void> {
  await insertSession(db, { iss: ISS, sub: 'alice', sid: 's1', clientId: 'shop' })
  await db.query('update sessions set logout_event_id = gen_random_uuid(), orphaned_at = clock_timestamp()')
  await quarantine(db, [
    {
      record: {
        ...{ lane: 'interactive', key: 'k', value: Buffer.from('no JSON'), headers: {}, position: '0/1' },
      },
      kind: 'unreadable',
      reason: 'a test',
    },
  ])
  await db.query(
    `insert into session_lifetimes (relying_party_id, lifetimes, overlong_after_ms, overlong, counted_at)
     select id, array_fill(0::real, array[80]), 1, 7, now() from relying_parties where client_id = 'shop'`,
  )
}

test('a gauge is absent once its value cannot be read', async () => {
  await using curfew = await openCurfew({ workers: 0 })
  await registerQuietly(curfew.call, ['shop'])
  await fill(curfew.db)
  const db = createDatabase(curfew.gate.url)
  const metrics = createMetrics()
  const log = createLog({ service: 'test', level: 'silent' })
  const deps = { db, log, metrics, windowMs: 60_000 }
  const jobs = [
    ...createSlaJobs({ ...deps, now: () => new Date() }),
    ...createSessionJobs({ ...deps, stopping: new AbortController().signal }),
    ...createQuarantineJobs({ ...deps, eventLog: curfew.eventLog }),
    createSessionQuotaJob({ ...deps, sessionsMax: 1 }),
  ]
  const round = () => Promise.allSettled(jobs.map((job) => job.round()))
  const samples = async () => {
    const { body } = await metrics.expose()
    return body.split('\n').filter((line) => GAUGES.some((name) => line.startsWith(`${name}{`)))
  }

  for (const { status } of await round()) expect(status).toBe('fulfilled')
  expect((await samples()).filter((line) => !line.endsWith(' 0')).sort()).toEqual([
    'curfew_quarantined_records{lane="interactive"} 1',
    `curfew_session_quota_ratio{issuer="${ISSUER}"} 1`,
    `curfew_sessions_orphaned{issuer="${ISSUER}"} 1`,
    `curfew_sessions_overlong{issuer="${ISSUER}",client_id="shop"} 7`,
  ])
  expect(await samples()).toContain(`curfew_sla_overdue{issuer="${ISSUER}"} 0`)

  await db.end()
  for (const { status } of await round()) expect(status).toBe('rejected')
  expect(await samples()).toEqual([])
})
