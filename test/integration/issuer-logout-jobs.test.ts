import { hash } from 'node:crypto'
import { createIssuerLogoutJob, toEventLog } from '@curfew/bookkeeper'
import { decodeLogoutEvent } from '@curfew/contract'
import { childOf, LedgerUnavailableError, type LogRecord, type Subject } from '@curfew/domain'
import {
  cancelIssuerLogout,
  type Database,
  type HandOver,
  runningIssuerLogouts,
  sweepHistory,
  takeLateSubjects,
  takeSubjects,
} from '@curfew/ledger'
import { createLog, createMetrics } from '@curfew/runtime'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type Curfew, eventually, ISS, openCurfew, storedId } from '../support/curfew.ts'
import { openRelyingParty, type RelyingParty } from '../support/relying-party.ts'
import { insertSessions, startSession } from '../support/session-rows.ts'

// Goal: an issuer logout job takes each subject once, whatever crashes and however many bookkeepers run, and limits its backlog.
// Method: the real statements, one page at a time, interrupted by crashes, cancellations and other bookkeepers.

let curfew: Curfew
let mail: RelyingParty
beforeEach(async () => {
  curfew = await openCurfew()
  mail = await openRelyingParty(curfew, { clientId: 'mail' })
  await curfew.client.putIssuer('main', { iss: ISS, session_index: 'complete' })
})
afterEach(async () => {
  await curfew.stop()
  await mail.close()
})

const name = (number: number) => `user-${String(number).padStart(3, '0')}`
const signIn = (count: number) =>
  insertSessions(
    curfew.db,
    ISS,
    Array.from({ length: count }, (_, n) => ({ sub: name(n), sid: name(n), clientId: 'mail' })),
  )
const receivedSids = () => mail.received.map(({ claims }) => claims.sid)
/** The same database, but PostgreSQL times out when it counts subjects. */
function tooSlowToCount(db: Database): Database {
  const withConnection: Database['withConnection'] = (work) =>
    db.withConnection((connection) => {
      const query = async (...given: Parameters<typeof connection.query>) => {
        const [statement] = given as readonly unknown[]
        if (!(statement as { text?: string }).text?.includes('count(*) as subjects'))
          return connection.query(...given)
        await connection.query('set local statement_timeout = 50')
        return connection.query('select pg_sleep(60)')
      }
      return work(Object.assign(Object.create(connection), { query }))
    })
  return Object.assign(Object.create(db), { withConnection })
}
const names = (count: number) => Array.from({ length: count }, (_, number) => name(number))

async function begin(): Promise<string> {
  const { id } = await curfew.client.postLogoutEvent({ iss: ISS, scope: 'issuer' })
  await eventually(() => curfew.client.getIssuerLogout(id))
  return id
}

const PACE = { limit: 10, pauseMs: 0, unplannedMax: 1_000, patienceMs: 60_000 }
async function page({
  db = curfew.db,
  ...taking
}: {
  db?: Database
  limit?: number
  unplannedMax?: number
  handOver: HandOver
}) {
  const [job] = await runningIssuerLogouts(db)
  if (job === undefined) throw new Error('no job is running')
  return takeSubjects(db, job, { ...PACE, ...taking })
}
/** A hand-over that only records its pages. */
function recordOnly() {
  const pages: Subject[][] = []
  const handOver: HandOver = async (_job, subjects) => void pages.push([...subjects])
  return { pages, handOver }
}
const toLog = () => toEventLog(curfew.eventLog, () => new Date())

describe('a page', () => {
  test('has the next subjects in order, however many sessions one has', async () => {
    await insertSessions(curfew.db, ISS, [
      ...Array.from({ length: 25 }, (_, n) => ({ sub: 'busy', sid: `busy-${n}`, clientId: 'mail' })),
      ...['anna', 'zoe'].flatMap((sub) =>
        Array.from({ length: 4 }, (_, n) => ({ sub, sid: `${sub}-${n}`, clientId: 'mail' })),
      ),
      { sub: 'gone', sid: 'gone', clientId: 'mail', expiresAt: new Date(Date.now() - 1_000) },
      { sub: 'new', sid: 'new', clientId: 'mail', startedAt: new Date(Date.now() + 600_000) },
    ])
    await begin()
    const { pages, handOver } = recordOnly()
    while ((await page({ handOver })) !== 'waiting');
    expect(pages).toEqual([['anna'], ['busy'], ['zoe']])
  })

  test('is not taken while too many subjects wait to be planned, unless they wait for long', async () => {
    await signIn(40)
    const id = await begin()
    const { pages, handOver } = recordOnly()
    const take = () => page({ handOver, unplannedMax: 15 })
    expect([await take(), await take(), await take()]).toEqual([
      { subjects: 9, state: 'running' },
      { subjects: 9, state: 'running' },
      'waiting',
    ])
    await curfew.db.query("update issuer_logouts set taken_at = taken_at - interval '1 minute'")
    expect(await take()).toEqual({ subjects: 9, state: 'running' })
    await curfew.db.query('update issuer_logouts set planned = 20')
    expect(await take()).toMatchObject({ state: 'running' })
    expect(new Set(pages.flat()).size).toBe(pages.flat().length)
    expect(await curfew.client.getIssuerLogout(id)).toMatchObject({ state: 'running', total: 40 })
  })

  test('is not delayed if the clock of PostgreSQL was ahead at the last page', async () => {
    await signIn(20)
    await begin()
    expect(await page(recordOnly())).toEqual({ subjects: 9, state: 'running' })
    await curfew.db.query("update issuer_logouts set taken_at = taken_at + interval '2 hours'")
    expect(await page(recordOnly())).toEqual({ subjects: 9, state: 'running' })
  })

  test('is taken by one bookkeeper at a time, and blocks neither a cancellation nor a count', async () => {
    await signIn(20)
    const id = await begin()
    const seen: unknown[] = []
    const result = await page({
      handOver: async () => {
        seen.push(await page(recordOnly()))
        seen.push(await takeLateSubjects(curfew.db, { limit: 10, ...recordOnly() }))
        await curfew.db.query('update issuer_logouts set acknowledged = acknowledged + 0')
        seen.push((await cancelIssuerLogout(curfew.db, { id: storedId(id), cancelledBy: 'test' }))?.state)
      },
    })
    expect([result, seen]).toEqual([{ subjects: 9, state: 'running' }, ['busy', 0, 'cancelled']])
    expect(await runningIssuerLogouts(curfew.db)).toEqual([])
  })
})

describe('a job', () => {
  test('that lost its bookkeeper after a hand-over continues with the next page, and logs out each subject once', async () => {
    await signIn(60)
    const id = await begin()
    await page({ limit: 20, handOver: toLog() })
    const crash = page({
      limit: 20,
      handOver: async (job, subjects) => {
        await toLog()(job, subjects)
        throw new Error('killed')
      },
    })
    await expect(crash).rejects.toThrow('killed')
    // The subjects that were handed over are logged out without the job.
    await eventually(() => expect(receivedSids().length).toBeGreaterThanOrEqual(38))
    expect((await curfew.client.getIssuerLogout(id)).state).toBe('running')
    const [first] = await Promise.all([curfew.startBookkeeper(), curfew.startBookkeeper()])
    await first.kill()
    await eventually(async () =>
      expect(await curfew.client.getIssuerLogout(id)).toMatchObject({
        ...{ state: 'done', total: 60, done: 60, waiting: 0, acknowledged: 60 },
      }),
    )
    expect(receivedSids().toSorted()).toEqual(names(60))
    const { rows } = await curfew.db.query('select from events where parent_id = $1', [storedId(id)])
    expect(rows).toHaveLength(60)
  })

  test('continues if its subjects take longer to count than a statement may run', async () => {
    await signIn(15)
    const id = await begin()
    const { pages, handOver } = recordOnly()
    const slow = tooSlowToCount(curfew.db)
    while (pages.flat().length < 15) await page({ handOver, db: slow })
    expect(pages.flat()).toEqual(names(15))
    expect(await curfew.client.getIssuerLogout(id)).toMatchObject({ state: 'running', total: null })
  })

  test('that fails again and again blocks no other job', async () => {
    await signIn(5)
    const [stuck, other] = [await begin(), await begin()]
    const handed: string[] = []
    const job = createIssuerLogoutJob({
      db: curfew.db,
      handOver: async ({ event }, subjects) => {
        handed.push(`${event.givenId} ${subjects.length}`)
        if (event.givenId === stuck) throw new LedgerUnavailableError('too much for one statement')
      },
      log: createLog({ service: 'test', level: 'silent' }),
      metrics: createMetrics(),
    })
    await job.round()
    expect(handed).toEqual([`${stuck} 5`, `${other} 5`])
  })

  test('that fails permanently ends, says why, and wakes the callers that wait for it', async () => {
    await signIn(15)
    const id = await begin()
    const { handOver } = recordOnly()
    await page({ handOver })
    const waiting = curfew.client.getLogoutEvent(id, { wait: 20 })
    let nowMs = 0
    const refused = Object.assign(new Error(`a value of ${name(3)} is out of range`), { code: '22003' })
    const job = createIssuerLogoutJob({
      db: curfew.db,
      handOver: () => Promise.reject(refused),
      log: createLog({ service: 'test', level: 'silent' }),
      metrics: createMetrics(),
      monotonicMs: () => nowMs,
    })
    for (; (await runningIssuerLogouts(curfew.db)).length > 0; nowMs += 1_000) {
      await job.round()
      expect(nowMs).toBeLessThan(600_000)
    }
    const failed = await curfew.client.getIssuerLogout(id)
    expect(failed).toMatchObject({
      ...{ state: 'failed', failure: expect.stringContaining('22003'), total: 15 },
      ended_at: expect.any(String),
    })
    expect(failed.failure).not.toContain(name(3))
    expect((await waiting).issuer_logout).toMatchObject({ state: 'failed' })
  })

  test('that is cancelled half-way logs out no further subject, and no late one', async () => {
    await signIn(60)
    const id = await begin()
    await page({ limit: 31, handOver: toLog() })
    const cancelled = await curfew.client.cancelIssuerLogout(id)
    expect(cancelled).toMatchObject({ state: 'cancelled', total: 60, ended_at: expect.any(String) })
    await startSession(curfew.db, { iss: ISS, sub: 'late', sid: 'late', clientId: 'mail' })
    await curfew.startBookkeeper()
    await eventually(async () =>
      expect(await curfew.client.getIssuerLogout(id)).toMatchObject({ done: 30, acknowledged: 30 }),
    )
    expect(await curfew.client.getLogoutEvent(id)).toMatchObject({ status: 'settled' })
    expect(receivedSids().toSorted()).toEqual(names(30))
    const { rows } = await curfew.db.query('select sid from sessions order by sid')
    expect(rows.map(({ sid }) => sid)).toEqual(['late', ...names(60).slice(30)])
  })

  test('does not delay the logout of one person', async () => {
    await curfew.stop()
    await mail.close()
    curfew = await openCurfew({ workers: 0 })
    mail = await openRelyingParty(curfew, { clientId: 'mail' })
    await curfew.client.putIssuer('main', { iss: ISS, session_index: 'complete' })
    await signIn(300)
    const worker = await curfew.startWorker()
    await begin()
    await worker.stop()
    // All of them lie before the click of a user near the end.
    await page({ limit: 1_000, handOver: toLog() })
    const click = await curfew.client.postLogoutEvent({ iss: ISS, sid: name(298) })
    await curfew.startWorker()
    await eventually(() => expect(new Set(receivedSids()).size).toBe(300))
    const clicks = mail.received.flatMap(({ claims }, place) => (claims.txn === click.id ? [place] : []))
    expect(clicks).toHaveLength(1)
    expect(clicks[0]).toBeLessThan(100)
  })

  test('hands over events that name their parent and are identical when made again', async () => {
    await signIn(1)
    await begin()
    const records: LogRecord[] = []
    const append = async (given: readonly LogRecord[]) => void records.push(...given)
    const handOver = toEventLog({ ...curfew.eventLog, append }, () => new Date())
    const [job] = await runningIssuerLogouts(curfew.db)
    if (job === undefined) throw new Error('no job is running')
    await handOver(job, [name(0) as Subject])
    const [record] = records
    if (record === undefined) throw new Error('nothing was appended')
    const digest = (text: string) => hash('sha256', text)
    const event = decodeLogoutEvent(record, () => [], digest)
    expect(event).toMatchObject({ parentId: job.event.id, scope: 'subject', sub: name(0) })
    expect(event).toMatchObject({
      id: childOf(job.event, name(0) as Subject, { acceptedAt: new Date(), salt: job.salt, digest }).id,
    })
    // The salt keeps a caller from using the id in advance, and the id from revealing its subject.
    expect(job.salt).toMatch(/^[0-9a-f-]{36}$/)
    expect(record.lane).toBe('bulk')
  })

  test('is deleted with its event, but not while it runs', async () => {
    const sweep = () =>
      sweepHistory(curfew.db, {
        ...{ before: new Date(Date.now() + 60_000), deadBefore: new Date(Date.now() + 60_000) },
        ...{ after: null, limit: 100 },
      })
    await signIn(1)
    const id = await begin()
    expect(await sweep()).toMatchObject({ events: 0 })
    await cancelIssuerLogout(curfew.db, { id: storedId(id), cancelledBy: 'test' })
    expect(await sweep()).toMatchObject({ events: 1 })
    expect((await curfew.db.query('select from issuer_logouts')).rows).toEqual([])
  })
})
