import { randomUUID } from 'node:crypto'
import type { AuditEntry } from '@curfew/contract'
import { createReplay, type DeadLetterFilter, failReplay, findReplay, takeReplayBatch } from '@curfew/ledger'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type Curfew, openCurfew } from '../support/curfew.ts'
import { ALL, pileUp, registerQuietly, standing } from './dead-letters-support.ts'

// Goal: a replay puts back exactly the requested deliveries, every one once, despite crashes and with any number of bookkeepers.
// Method: the real statements, one batch at a time, with a crash or another bookkeeper at every possible point.

/** The longest wait for a bookkeeper, which starts and takes its batches in turn. */
const patiently = { timeout: 15_000 }
let curfew: Curfew
beforeEach(async () => {
  curfew = await openCurfew({ workers: 0 })
  await registerQuietly(curfew.call, ['shop', 'wiki'])
})
afterEach(() => curfew.stop())

function create(filter: Partial<DeadLetterFilter> = {}, includeLapsed = false) {
  return createReplay(curfew.db, {
    id: randomUUID(),
    filter: { ...ALL, ...filter },
    includeLapsed,
    requestedBy: 'test',
  })
}

async function audited(): Promise<readonly AuditEntry[]> {
  const response = await curfew.call('GET', '/v1/audit')
  return ((await response.json()) as { readonly items: readonly AuditEntry[] }).items
}

/** Takes batches until the job has ended. @returns the number of deliveries in every batch. */
async function drain(job: Awaited<ReturnType<typeof create>>, limit = 10): Promise<readonly number[]> {
  const taken: number[] = []
  for (;;) {
    const batch = await takeReplayBatch(curfew.db, { job, limit, pauseMs: 0 })
    if (batch === 'busy') throw new Error('the job is busy')
    taken.push(batch.taken)
    if (batch.state !== 'running') return taken
  }
}

describe('a replay batch', () => {
  test('puts deliveries back as new, except that the attempts are kept and the generation rises', async () => {
    const [id] = await pileUp(curfew.db, {
      clientId: 'shop',
      count: 1,
      attempt: { status: 503, errorClass: 'http_503' },
    })
    const job = await create()
    await takeReplayBatch(curfew.db, { job, limit: 10, pauseMs: 0 })
    const { rows } = await curfew.db.query('select *, due_at <= now() as due from deliveries where id = $1', [
      id,
    ])
    expect(rows[0]).toMatchObject({
      state: 'pending',
      due: true,
      attempts: 1,
      retries: 0,
      refusals: 0,
      generation: 1,
      replay_id: job.id,
      settled_at: null,
      dead_letter_reason: null,
      dead_lettered_at: null,
      announced_at: null,
    })
  })

  test('takes the oldest deliveries first, and the job ends when none is left', async () => {
    const ids = await pileUp(curfew.db, { clientId: 'shop', count: 25 })
    const job = await create()
    expect(job.total).toBe(25)
    await takeReplayBatch(curfew.db, { job, limit: 10, pauseMs: 0 })
    const { rows } = await curfew.db.query<{ id: string }>(
      "select id from deliveries where state = 'pending' order by id",
    )
    expect(rows.map(({ id }) => id)).toEqual(ids.slice(0, 10))
    // One batch finds nothing more, and another checks again from the beginning.
    expect(await drain(job)).toEqual([10, 5, 0, 0])
    expect(await findReplay(curfew.db, job.id)).toMatchObject({
      state: 'done',
      total: 25,
      done: 25,
      waiting: 25,
      endedAt: expect.any(Date),
    })
  })

  test('is taken only after the pause, by any bookkeeper', async () => {
    await pileUp(curfew.db, { clientId: 'shop', count: 3 })
    const job = await create()
    const take = () => takeReplayBatch(curfew.db, { job, limit: 1, pauseMs: 60_000 })
    expect(await take()).toEqual({ taken: 1, state: 'running' })
    expect(await take()).toBe('busy')
    await curfew.db.query("update replays set taken_at = taken_at - interval '1 minute'")
    expect(await take()).toEqual({ taken: 1, state: 'running' })
  })

  test('does not wait for the time that PostgreSQL’s clock was ahead at the last batch', async () => {
    await pileUp(curfew.db, { clientId: 'shop', count: 3 })
    const job = await create()
    const take = () => takeReplayBatch(curfew.db, { job, limit: 1, pauseMs: 60_000 })
    await take()
    await curfew.db.query("update replays set taken_at = taken_at + interval '2 hours'")
    expect(await take()).toEqual({ taken: 1, state: 'running' })
  })
})

describe('a replay job', () => {
  test('takes exactly the dead letters that match its filter', async () => {
    const shop = await pileUp(curfew.db, { clientId: 'shop', count: 4, secondsAgo: 100 })
    const refused = await pileUp(curfew.db, { clientId: 'shop', count: 2, reason: 'refused', secondsAgo: 50 })
    const wiki = await pileUp(curfew.db, { clientId: 'wiki', count: 3, secondsAgo: 10 })
    const filters: readonly (readonly [Partial<DeadLetterFilter>, readonly string[]])[] = [
      [{ issuer: 'other' }, []],
      [{ issuer: 'main', clientIds: ['shop'], reason: 'refused' }, refused],
      [{ ids: [...shop.slice(0, 1), ...wiki.slice(0, 1)] }, [...shop.slice(0, 1), ...wiki.slice(0, 1)]],
      [{ from: new Date(Date.now() - 30_000) }, wiki.slice(1)],
      [{ to: new Date(Date.now() - 30_000), issuer: 'main' }, shop.slice(1)],
    ]
    for (const [filter, wanted] of filters) {
      const job = await create(filter)
      expect(job.total).toBe(wanted.length)
      await drain(job)
      const { rows } = await curfew.db.query<{ id: string }>(
        'select id from deliveries where replay_id = $1 order by id',
        [job.id],
      )
      expect(rows.map(({ id }) => id)).toEqual(wanted.toSorted())
    }
  })

  test('ignores deliveries that become dead letters after its request', async () => {
    const [first = ''] = await pileUp(curfew.db, { clientId: 'shop', count: 1 })
    const job = await create()
    await pileUp(curfew.db, { clientId: 'shop', count: 1, secondsAgo: -5 })
    await takeReplayBatch(curfew.db, { job, limit: 10, pauseMs: 0 })
    // Dead again, by a worker whose clock is an hour late.
    await curfew.db.query(
      `update deliveries set state = 'dead_lettered', due_at = null, settled_at = now() - interval '1 hour',
              dead_letter_reason = 'refused' where id = $1`,
      [first],
    )
    await drain(job)
    expect(await standing(curfew.db)).toEqual({ 'dead_lettered 0': 1, 'dead_lettered 1': 1 })
    expect(await findReplay(curfew.db, job.id)).toMatchObject({ state: 'done', total: 1, done: 1, dead: 1 })
  })

  test('ignores deliveries whose session is over, unless includeLapsed is set', async () => {
    const [over] = await pileUp(curfew.db, { clientId: 'shop', count: 1, sessionEndsInS: -1 })
    await pileUp(curfew.db, { clientId: 'shop', count: 1, sessionEndsInS: 3_600 })
    const job = await create()
    expect(job.total).toBe(1)
    await drain(job)
    expect(await standing(curfew.db)).toEqual({ 'dead_lettered 0': 1, 'pending 1': 1 })
    const all = await create({}, true)
    expect(all.total).toBe(1)
    await drain(all)
    const { rows } = await curfew.db.query('select state, session_ends_at from deliveries where id = $1', [
      over,
    ])
    // With the end of its session it would lapse at its first attempt.
    expect(rows).toEqual([{ state: 'pending', session_ends_at: null }])
  })

  test('finds a delivery that was being settled when an earlier batch passed it', async () => {
    const [early = ''] = await pileUp(curfew.db, { clientId: 'shop', count: 1, secondsAgo: 7_200 })
    await pileUp(curfew.db, { clientId: 'shop', count: 5 })
    await curfew.db.query(
      "update deliveries set state = 'pending', due_at = now(), settled_at = null, dead_letter_reason = null where id = $1",
      [early],
    )
    const job = await create()
    await takeReplayBatch(curfew.db, { job, limit: 3, pauseMs: 0 })
    await curfew.db.query(
      `update deliveries set state = 'dead_lettered', due_at = null, settled_at = now() - interval '2 hours',
              dead_letter_reason = 'refused' where id = $1`,
      [early],
    )
    await drain(job)
    expect(await standing(curfew.db)).toEqual({ 'pending 1': 6 })
  })
})

describe('every delivery is replayed once', () => {
  test('when a bookkeeper loses its connection before the commit of a batch', async () => {
    await pileUp(curfew.db, { clientId: 'shop', count: 40 })
    const job = await create()
    await takeReplayBatch(curfew.db, { job, limit: 10, pauseMs: 0 })
    // The connection ends before the commit: the whole batch is rolled back.
    await curfew.db.query(`
      create function cut_off() returns trigger language plpgsql as $$
      begin perform pg_terminate_backend(pg_backend_pid()); return null; end $$`)
    await curfew.db.query(
      'create trigger cut_off after update on replays for each statement execute function cut_off()',
    )
    await expect(takeReplayBatch(curfew.db, { job, limit: 10, pauseMs: 0 })).rejects.toMatchObject({
      code: 'ERR_LEDGER_UNAVAILABLE',
    })
    await curfew.db.query('drop trigger cut_off on replays')
    expect(await standing(curfew.db)).toEqual({ 'dead_lettered 0': 30, 'pending 1': 10 })
    await drain(job)
    expect(await standing(curfew.db)).toEqual({ 'pending 1': 40 })
    expect(await findReplay(curfew.db, job.id)).toMatchObject({ state: 'done', done: 40 })
  })

  test('when several bookkeepers take batches at once', async () => {
    await pileUp(curfew.db, { clientId: 'shop', count: 300 })
    const [one, other] = [await create(), await create({ clientIds: ['shop'] })]
    const taken = new Map<string, number>()
    const bookkeeper = async () => {
      for (const job of [one, other]) {
        for (let state = 'running'; state === 'running'; ) {
          const batch = await takeReplayBatch(curfew.db, { job, limit: 7, pauseMs: 0 })
          if (batch === 'busy') {
            state = (await findReplay(curfew.db, job.id))?.state ?? 'lost'
            continue
          }
          state = batch.state
          taken.set(job.id, (taken.get(job.id) ?? 0) + batch.taken)
        }
      }
    }
    await Promise.all([bookkeeper(), bookkeeper(), bookkeeper()])
    expect(await standing(curfew.db)).toEqual({ 'pending 1': 300 })
    const done = await Promise.all([one, other].map(({ id }) => findReplay(curfew.db, id)))
    expect(done.map((job) => job?.done)).toEqual([taken.get(one.id) ?? 0, taken.get(other.id) ?? 0])
    expect(done.reduce((sum, job) => sum + (job?.done ?? 0), 0)).toBe(300)
  })

  test('when two bookkeepers run and one of them is killed', async () => {
    await pileUp(curfew.db, { clientId: 'shop', count: 900 })
    const job = await create()
    const [doomed] = await Promise.all([curfew.startBookkeeper(), curfew.startBookkeeper()])
    await expect.poll(async () => (await findReplay(curfew.db, job.id))?.done, patiently).toBeGreaterThan(0)
    await doomed.kill()
    await expect.poll(async () => (await findReplay(curfew.db, job.id))?.state, patiently).toBe('done')
    expect(await standing(curfew.db)).toEqual({ 'pending 1': 900 })
    expect(await findReplay(curfew.db, job.id)).toMatchObject({ done: 900, waiting: 900 })
  })
})

describe('a dead letter that the ledger refuses to put back', () => {
  /** Makes PostgreSQL refuse to put these deliveries back. */
  const refuse = (ids: readonly string[]) =>
    curfew.db.query(
      `alter table deliveries add constraint refuses check (id <> all ('{${ids.join(',')}}'::uuid[]) or state <> 'pending') not valid`,
    )

  test('remains a dead letter; the others are put back, and the job fails with the reason', async () => {
    const ids = await pileUp(curfew.db, { clientId: 'shop', count: 25 })
    const refused = [ids[0] ?? '', ids[13] ?? '', ids[24] ?? '']
    await refuse(refused)
    const job = await create()
    const taken = await drain(job)
    expect(taken.reduce((sum, count) => sum + count, 0)).toBe(22)
    const { rows } = await curfew.db.query<{ id: string }>(
      "select id from deliveries where state = 'dead_lettered' order by id",
    )
    expect(rows.map(({ id }) => id)).toEqual(refused)
    expect(await curfew.client.getReplay(job.id)).toMatchObject({
      state: 'failed',
      failure: expect.stringContaining(`3 of the dead letters, such as ${refused[0]}`),
      total: 25,
      done: 22,
      refused: 3,
      ended_at: expect.any(String),
    })
    const items = await audited()
    expect(items[0]).toMatchObject({
      credential: 'bookkeeper',
      action: 'replay.failed',
      object: `/v1/replays/${job.id}`,
      detail: { done: 22, refused: 3 },
    })
  })

  test('delays no other job', async () => {
    const [bad] = await pileUp(curfew.db, { clientId: 'shop', count: 3 })
    await pileUp(curfew.db, { clientId: 'wiki', count: 3 })
    await refuse([bad ?? ''])
    const [stuck, other] = [await create({ clientIds: ['shop'] }), await create({ clientIds: ['wiki'] })]
    await curfew.startBookkeeper()
    await expect.poll(async () => (await findReplay(curfew.db, other.id))?.state, patiently).toBe('done')
    await expect.poll(async () => (await findReplay(curfew.db, stuck.id))?.state, patiently).toBe('failed')
    expect(await standing(curfew.db)).toEqual({ 'dead_lettered 0': 1, 'pending 1': 5 })
  })

  test('is the last that the job tries if ninety-nine others were refused before it', async () => {
    const ids = await pileUp(curfew.db, { clientId: 'shop', count: 120 })
    await refuse(ids)
    const job = await create()
    await drain(job, 1)
    expect(await findReplay(curfew.db, job.id)).toMatchObject({ state: 'failed', done: 0, refused: 100 })
  })
})

test('a job that its bookkeeper fails keeps the first reason, and takes no more batches', async () => {
  await pileUp(curfew.db, { clientId: 'shop', count: 5 })
  const job = await create()
  await takeReplayBatch(curfew.db, { job, limit: 2, pauseMs: 0 })
  for (const failure of ['the first reason', 'the second reason'])
    await failReplay(curfew.db, { id: job.id, failure })
  expect(await curfew.client.getReplay(job.id)).toMatchObject({
    state: 'failed',
    failure: 'the first reason',
    done: 2,
  })
  expect(await takeReplayBatch(curfew.db, { job, limit: 10, pauseMs: 0 })).toBe('busy')
  expect(await standing(curfew.db)).toEqual({ 'dead_lettered 0': 3, 'pending 1': 2 })
  const items = await audited()
  expect(items.filter(({ action }) => action === 'replay.failed')).toHaveLength(1)
})
