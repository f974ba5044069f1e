import { createPostgresEventLog } from '@curfew/ledger'
import { expect, test, vi } from 'vitest'
import { createTestDatabase } from '../support/database.ts'

// Goal: records of a failed batch are handled again before later records of their keys, however long the retries take. Records
// that are committed meanwhile change nothing.
// Method: two keys of one partition, and a clock that is put forward so that fetches start behind committed records.

const HEARTBEAT_MS = 20
const text = ({ value }: { readonly value: Uint8Array }) => Buffer.from(value).toString()
const beats = () => new Promise<void>((resolve) => void setTimeout(resolve, HEARTBEAT_MS * 10))

test('a record of a slow batch that failed is handled before the next record of its key', async () => {
  await using database = await createTestDatabase()
  const { db, url } = database
  const log = createPostgresEventLog({ db, url, timeoutMs: 1_500, heartbeatMs: HEARTBEAT_MS })
  const append = (key: string, name: string) =>
    log.append([{ lane: 'interactive', key, value: Buffer.from(name), headers: {} }])
  for (let n = 0; n < 60; n++) await append(`key-${n}`, 'probe')
  const { rows } = await db.query<{ partition: number; key: string }>(
    'select partition, key from log_records',
  )
  const together = [...Map.groupBy(rows, ({ partition }) => partition).values()].find(
    ({ length }) => length >= 2,
  )
  const [key, other] = (together ?? []).map((row) => row.key)
  if (key === undefined || other === undefined)
    throw new Error('no partition holds two keys: append more records')
  await db.query('delete from log_records')

  const begun: string[] = []
  const done: string[] = []
  const gates = new Map<string, PromiseWithResolvers<void>>()
  const gateOf = (name: string) => {
    const gate = gates.get(name) ?? Promise.withResolvers<void>()
    gates.set(name, gate)
    return gate
  }
  const until = (condition: () => boolean) => expect.poll(condition, { timeout: 10_000 }).toBe(true)
  let tries = 0
  const consumer = log.consume(
    { lane: 'interactive', batchSize: 10, batchesInFlight: 2, onError: () => undefined },
    async (batch, slow) => {
      const names = batch.map(text)
      const isFirst = names.includes('first')
      if (isFirst) tries += 1
      const name = isFirst ? `first ${tries}` : names.join()
      if (isFirst) slow()
      begun.push(name)
      if (['first 1', 'beside', 'first 2'].includes(name)) await gateOf(name).promise
      done.push(...names)
      return []
    },
  )
  await append(key, 'first')
  await until(() => begun.includes('first 1'))
  await append(other, 'beside')
  await until(() => begun.includes('beside'))
  // While the failed batch waits for its retry, a record behind it is committed.
  gateOf('first 1').reject(new Error('the statement took too long'))
  await beats()
  gateOf('beside').resolve()
  await until(() => begun.includes('first 2'))
  const now = Date.now.bind(Date)
  let aheadMs = 0
  vi.spyOn(Date, 'now').mockImplementation(() => now() + aheadMs)
  for (const ms of [4_000, 8_000]) {
    aheadMs = ms
    await beats()
  }
  await append(key, 'second')
  gateOf('first 2').reject(new Error('the statement took too long'))
  await until(() => done.includes('second'))
  vi.restoreAllMocks()
  expect(done).toEqual(['beside', 'first', 'second'])
  await consumer.stop()
  await log.close()
}, 30_000)
