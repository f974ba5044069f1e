import { EventLogUnavailableError } from '@curfew/domain'
import { announceDeadLetters } from '@curfew/ledger'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type Curfew, openCurfew } from '../support/curfew.ts'
import { pileUp, registerQuietly } from './dead-letters-support.ts'

// Goal: a dead letter is announced at least once, whatever fails between the ledger and who is told, and as a rule not twice.
// Method: the real statements, and a listener that fails, hangs and is slow as a test wishes.

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

test('the oldest first, each once', async () => {
  const ids = await pileUp(curfew.db, { clientId: 'shop', count: 5 })
  const told: string[] = []
  const listen = async (batch: readonly string[]) => void told.push(...batch)
  expect(await announce(3, listen)).toBe(3)
  expect(await announce(3, listen)).toBe(2)
  expect(await announce(3, listen)).toBe(0)
  expect(told).toEqual(ids)
})

test('again where it failed, or where its end is not known', async () => {
  const ids = await pileUp(curfew.db, { clientId: 'shop', count: 2 })
  const away = new EventLogUnavailableError('away')
  await expect(announce(5, () => Promise.reject(away))).rejects.toBe(away)
  const told: string[] = []
  expect(await announce(5, async (batch) => void told.push(...batch))).toBe(2)
  expect(told).toEqual(ids)
})

test('by one at a time: another that looks meanwhile has nothing to do', async () => {
  await pileUp(curfew.db, { clientId: 'shop', count: 2 })
  const { promise, resolve } = Promise.withResolvers<void>()
  const { promise: begun, resolve: begin } = Promise.withResolvers<void>()
  const slow = announce(5, () => {
    begin()
    return promise
  })
  await begun
  expect(await announce(5, () => Promise.reject(new Error('told twice')))).toBe(0)
  resolve()
  expect(await slow).toBe(2)
})

test('one that was replayed while it was announced, and died again, is another', async () => {
  const [id = ''] = await pileUp(curfew.db, { clientId: 'shop', count: 1 })
  await announce(5, async () => {
    await curfew.db.query(
      'update deliveries set generation = 1, replay_id = gen_random_uuid(), settled_at = now() where id = $1',
      [id],
    )
  })
  const told: string[] = []
  expect(await announce(5, async (batch) => void told.push(...batch))).toBe(1)
  expect(told).toEqual([id])
})
