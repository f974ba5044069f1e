import { EventLogUnavailableError } from '@curfew/domain'
import { announceDeadLetters } from '@curfew/ledger'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type Curfew, openCurfew } from '../support/curfew.ts'
import { pileUp, registerQuietly } from './dead-letters-support.ts'

// Goal: every dead letter is announced at least once whatever fails, and normally only once.
// Method: the real statements, and a listener that the test lets fail, hang or take its time.

let curfew: Curfew
beforeEach(async () => {
  curfew = await openCurfew({ workers: 0 })
  await registerQuietly(curfew.call, ['shop'])
})
afterEach(() => curfew.stop())

function announce(limit: number, onPublish: (ids: readonly string[]) => Promise<void>): Promise<number> {
  return announceDeadLetters(curfew.db, {
    limit,
    windowMs: 60_000,
    publish: (records) => onPublish(records.map(({ id }) => id)),
  })
}

test('dead letters are announced once, the oldest first', async () => {
  const ids = await pileUp(curfew.db, { clientId: 'shop', count: 5 })
  const announced: string[] = []
  const listen = async (batch: readonly string[]) => void announced.push(...batch)
  expect(await announce(3, listen)).toBe(3)
  expect(await announce(3, listen)).toBe(2)
  expect(await announce(3, listen)).toBe(0)
  expect(announced).toEqual(ids)
})

test('dead letters are announced again after a failed announcement', async () => {
  const ids = await pileUp(curfew.db, { clientId: 'shop', count: 2 })
  const unavailable = new EventLogUnavailableError('unavailable')
  await expect(announce(5, () => Promise.reject(unavailable))).rejects.toBe(unavailable)
  const announced: string[] = []
  expect(await announce(5, async (batch) => void announced.push(...batch))).toBe(2)
  expect(announced).toEqual(ids)
})

test('a second announcer finds nothing to announce while the first one is at work', async () => {
  await pileUp(curfew.db, { clientId: 'shop', count: 2 })
  const { promise, resolve } = Promise.withResolvers<void>()
  const { promise: begun, resolve: begin } = Promise.withResolvers<void>()
  const slow = announce(5, () => {
    begin()
    return promise
  })
  await begun
  expect(await announce(5, () => Promise.reject(new Error('announced twice')))).toBe(0)
  resolve()
  expect(await slow).toBe(2)
})

test('a dead letter that is replayed during its announcement and dies again is announced again', async () => {
  const [id = ''] = await pileUp(curfew.db, { clientId: 'shop', count: 1 })
  await announce(5, async () => {
    await curfew.db.query(
      'update deliveries set generation = 1, replay_id = gen_random_uuid(), settled_at = now() where id = $1',
      [id],
    )
  })
  const announced: string[] = []
  expect(await announce(5, async (batch) => void announced.push(...batch))).toBe(1)
  expect(announced).toEqual([id])
})
