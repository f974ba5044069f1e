import { createLog } from '@curfew/runtime'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { repeatUntil } from './repeat.ts'

// Goal: a chore is done at the pace that it asks for, which may grow while there is no use in it. Method: a clock that is moved.

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

test('the pause is that of the job by now', async () => {
  const stopping = new AbortController()
  const rounds: number[] = []
  const began = Date.now()
  let pauseMs = 500
  const job = {
    name: 'waiting',
    get pauseMs() {
      return pauseMs
    },
    failurePauseMs: 1,
    async round() {
      rounds.push(Date.now() - began)
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
