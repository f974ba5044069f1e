import type { Database } from '@curfew/ledger'
import { createMetrics } from '@curfew/runtime'
import { expect, test } from 'vitest'
import { ClockDegradedError, createAliveWatch, NoneAliveError } from './alive.ts'

// Goal: metrics and readiness say that no worker or bookkeeper is alive, without a false alarm at the start or without a database.
// Method: answers of a database are handed in; the clock is driven.

function openWatch() {
  let nowMs = 0
  let aheadMs = 0
  let answer: { workers: number; bookkeepers: number } | null = null
  const query = async () => {
    if (answer === null) throw new Error('PostgreSQL is away')
    return { rows: [{ ...answer, now: new Date(nowMs) }], rowCount: 1 }
  }
  const metrics = createMetrics()
  const watch = createAliveWatch({
    db: { query } as unknown as Database,
    metrics,
    monotonicMs: () => nowMs,
    wallMs: () => nowMs + aheadMs,
  })
  /** Runs the service for one reading. */
  async function read(atMs: number, workers: number | null, bookkeepers = 1): Promise<void> {
    nowMs = atMs
    answer = workers === null ? null : { workers, bookkeepers }
    const stopping = new AbortController()
    const running = watch.service.run({
      stopping: stopping.signal,
      abandoning: new AbortController().signal,
      ready: () => undefined,
    })
    stopping.abort()
    await running
  }
  return {
    ...watch,
    read,
    at: (ms: number) => {
      nowMs = ms
    },
    setAhead: (ms: number) => {
      aheadMs = ms
    },
    offset: async () => (await metrics.expose()).body.match(/^curfew_clock_offset_seconds (.*)/m)?.[1],
    shown: async () => (await metrics.expose()).body.match(/^curfew_(?:workers|bookkeepers)_alive.*/gm),
  }
}

test('no worker is a fault only after 30 s, at the start and after the last one', async () => {
  const { read, checks, shown } = openWatch()
  await read(29_999, 0)
  await expect(checks.workers()).resolves.toBeUndefined()
  expect(await shown()).toEqual(['curfew_workers_alive 0', 'curfew_bookkeepers_alive 1'])
  await read(30_000, 0)
  await expect(checks.workers()).rejects.toThrow(NoneAliveError)
  await expect(checks.bookkeepers()).resolves.toBeUndefined()
  await read(40_000, 2)
  await expect(checks.workers()).resolves.toBeUndefined()
  await read(69_999, 0)
  await expect(checks.workers()).resolves.toBeUndefined()
  await read(70_000, 0, 0)
  await expect(checks.workers()).rejects.toThrow('no delivery worker is alive: accepted logouts wait')
  await read(100_000, 0, 0)
  await expect(checks.bookkeepers()).rejects.toThrow('no bookkeeper is alive: receipts')
})

test('without an answer of the database the checks pass, and the metrics have no value', async () => {
  const { read, checks, shown, at } = openWatch()
  await read(50_000, 0)
  await expect(checks.workers()).rejects.toThrow(NoneAliveError)
  at(80_001)
  expect(await shown()).toBeNull()
  await expect(checks.workers()).resolves.toBeUndefined()
  await read(90_000, null)
  await expect(checks.workers()).resolves.toBeUndefined()
  expect(await shown()).toBeNull()
})

test('a clock that is off by more than a minute degrades the process, while PostgreSQL answers', async () => {
  const { read, clock, at, setAhead, offset } = openWatch()
  await expect(clock()).resolves.toBeUndefined()
  setAhead(-60_000)
  await read(0, 1)
  await expect(clock()).resolves.toBeUndefined()
  expect(await offset()).toBe('-60')
  setAhead(-61_000)
  await read(5_000, 1)
  await expect(clock()).rejects.toThrow(ClockDegradedError)
  at(35_001)
  await expect(clock()).resolves.toBeUndefined()
  expect(await offset()).toBeUndefined()
  await read(40_000, 1)
  await expect(clock()).rejects.toThrow('differ by -61 s')
  await read(45_000, null)
  await expect(clock()).resolves.toBeUndefined()
})
