import { createLog } from '@curfew/runtime'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { repeatUntil } from './repeat.ts'

// Goal: a job runs at its own pace, which may slow down while the job is idle. Method: a clock that the test drives.

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

test('the pause between rounds follows changes of the job’s pause', async () => {
  const stopping = new AbortController()
  const rounds: number[] = []
  const startedMs = Date.now()
  let pauseMs = 500
  const job = {
    name: 'waiting',
    get pauseMs() {
      return pauseMs
    },
    failurePauseMs: 1,
    async round() {
      rounds.push(Date.now() - startedMs)
      pauseMs *= 2
      return false
    },
  }
  const done = repeatUntil(stopping.signal, job, createLog({ service: 'test', level: 'silent' }))
  await vi.advanceTimersByTimeAsync(8_000)
  expect(rounds).toEqual([0, 1_000, 3_000, 7_000])
  stopping.abort()
  await done
})
