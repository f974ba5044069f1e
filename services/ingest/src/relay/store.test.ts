import { EventLogUnavailableError, type LogRecord, RecordTooLargeError } from '@curfew/domain'
import { createLog, ProblemError } from '@curfew/runtime'
import { expect, test } from 'vitest'
import { createStore } from './store.ts'

// Goal: a token is durable before the identity provider's patience ends, in the event log or in the spool.
// Method: an event log and a spool that the test settles, and a clock that is set by hand.

const RECORD: LogRecord = { lane: 'interactive', key: 'k', value: new Uint8Array([1]), headers: {} }
const failed = (cause: Error = new EventLogUnavailableError('away')) =>
  Promise.reject(new ProblemError({ status: 503, detail: 'not stored' }, { cause }))
const forever = () => new Promise<void>(() => undefined)

function rig({ hasSpool = true, patienceMs = 20 }: { hasSpool?: boolean; patienceMs?: number } = {}) {
  const appends: LogRecord[] = []
  const spooled: LogRecord[] = []
  const world = {
    nowMs: 0,
    appends,
    spooled,
    append: (): Promise<void> => Promise.resolve(),
    put: (): Promise<void> => Promise.resolve(),
  }
  const store = createStore({
    append: async (records) => {
      appends.push(...records)
      await world.append()
    },
    spool: hasSpool
      ? {
          put: async (record) => {
            await world.put()
            spooled.push(record)
          },
        }
      : null,
    log: createLog({ service: 'test', level: 'silent' }),
    monotonicMs: () => world.nowMs,
    patienceMs,
  })
  return Object.assign(world, { store })
}

test('a record goes to the event log alone', async () => {
  const { store, spooled } = rig()
  expect(await store(RECORD)).toBe('appended')
  expect(spooled).toEqual([])
})

test('a record goes to the spool if the event log is unavailable, fails in another way, or does not answer', async () => {
  for (const append of [failed, () => Promise.reject(new Error('a bug')), forever]) {
    const world = rig()
    world.append = append
    expect(await world.store(RECORD)).toBe('spooled')
    expect(world.spooled).toEqual([RECORD])
  }
})

test('after a failure the next records go to the spool at once, until a second has passed', async () => {
  const world = rig({ patienceMs: 100_000 })
  world.append = failed
  await world.store(RECORD)
  world.append = forever
  expect(await world.store(RECORD)).toBe('spooled')
  expect(world.appends).toHaveLength(1)
  world.nowMs += 1_000
  world.append = () => Promise.resolve()
  expect(await world.store(RECORD)).toBe('appended')
})

test('a full spool refuses no record that the event log takes', async () => {
  const world = rig()
  world.append = failed
  world.put = () => Promise.reject(new Error('full'))
  expect(await world.store(RECORD)).toBe('unavailable')
  world.append = () => Promise.resolve()
  expect(await world.store(RECORD)).toBe('appended')
})

test('a record that the event log refuses because of its size does not block the spool', async () => {
  const world = rig()
  world.append = () => failed(new RecordTooLargeError('the topic takes no record of this size'))
  expect(await world.store(RECORD)).toBe('unavailable')
  expect(world.spooled).toEqual([])
})

test('without a spool a record is durable only in the event log', async () => {
  const world = rig({ hasSpool: false })
  expect(await world.store(RECORD)).toBe('appended')
  world.append = failed
  expect(await world.store(RECORD)).toBe('unavailable')
})
