import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { type BulkKind, createBulkPace } from './bulk-pace.ts'

// Goal: a mass logout uses spare processor time and gives way at once. Method: a clock that the test drives, and a process with a
// given utilization.

beforeEach(() => {
  vi.useFakeTimers({ now: 0 })
})
afterEach(() => {
  vi.useRealTimers()
})

/** The deliveries per second when all that is available is spent for `seconds`. */
async function throughput(
  pace: ReturnType<typeof createBulkPace>,
  seconds: number,
  kind: BulkKind = 'fresh',
): Promise<number> {
  let through = 0
  for (let ms = 0; ms < seconds * 1_000; ms += 20) {
    const now = pace.available(kind)
    pace.spend(kind, now)
    through += now
    await vi.advanceTimersByTimeAsync(20)
  }
  return through / seconds
}

test('speeds up while the process is idle, slows down when it is busy, and never stops', async () => {
  let busy = 0.1
  const pace = createBulkPace({ utilization: () => busy, monotonicMs: () => Date.now() })
  const first = await throughput(pace, 1)
  const fast = await throughput(pace, 5)
  busy = 0.9
  await throughput(pace, 3)
  const slow = await throughput(pace, 5)
  expect(fast).toBeGreaterThan(first * 2)
  expect(slow).toBeLessThan(first)
  expect(slow).toBeGreaterThan(10)
})

test('does not start at its highest rate after a long idle time', async () => {
  const pace = createBulkPace({ utilization: () => 0.1, monotonicMs: () => Date.now() })
  const first = await throughput(pace, 1)
  const again = createBulkPace({ utilization: () => 0.1, monotonicMs: () => Date.now() })
  for (let n = 0; n < 1_000; n++) {
    // The pace is polled now and then, and never used up.
    again.available('fresh')
    await vi.advanceTimersByTimeAsync(200)
  }
  expect(await throughput(again, 1)).toBeLessThan(first * 1.5)
})

test('waits for deliveries that were spent in excess', async () => {
  const pace = createBulkPace({ utilization: () => 0.9, monotonicMs: () => Date.now() })
  pace.spend('fresh', 2_000)
  let readyMs = Number.NaN
  void pace.ready(new AbortController().signal).then(() => {
    readyMs = Date.now()
  })
  await vi.advanceTimersByTimeAsync(2_000)
  expect(readyMs).toBeNaN()
  await vi.advanceTimersByTimeAsync(60_000)
  expect(readyMs).toBeGreaterThan(2_000)
})

test('fresh deliveries do not delay due ones, however many there are', async () => {
  const pace = createBulkPace({ utilization: () => 0.1, monotonicMs: () => Date.now() })
  pace.spend('fresh', 1_000_000)
  expect(await throughput(pace, 2, 'due')).toBeGreaterThan(100)
})

test('the wait ends when the service stops', async () => {
  const stop = new AbortController()
  const pace = createBulkPace({ utilization: () => 1, monotonicMs: () => 0 })
  const waiting = pace.ready(stop.signal)
  stop.abort()
  await waiting
})
