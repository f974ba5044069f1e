import type { EventLogState } from '@curfew/domain'
import { expect, test } from 'vitest'
import { BacklogDegradedError, createBacklogCheck } from './backlog-check.ts'

// Goal: readiness says that accepted logouts wait, and a slow or unavailable event log does not delay a check.

const stateOf = (oldestSeconds: number | null): EventLogState => ({
  name: 'PostgreSQL',
  brokersUnavailable: [],
  lanes: [
    oldestSeconds === null
      ? { lane: 'interactive', unknown: 'the topic is missing' }
      : { lane: 'interactive', unknown: null, waiting: 1, oldestSeconds, unassigned: null, removed: 0 },
    // The bulk lane gives way, and may be hours behind.
    { lane: 'bulk', unknown: null, waiting: 9, oldestSeconds: 9_000, unassigned: null, removed: 0 },
  ],
  topics: [],
})

test('a logout that has waited for more than a minute is a fault of the last known state', async () => {
  const states: (EventLogState | Error)[] = [
    stateOf(60),
    stateOf(61),
    stateOf(null),
    stateOf(61),
    new Error('away'),
  ]
  let nowMs = 0
  let looked = Promise.withResolvers<void>()
  const check = createBacklogCheck(
    {
      async look() {
        const state = states.shift()
        setImmediate(() => looked.resolve())
        if (state === undefined || state instanceof Error) throw state
        return state
      },
    },
    { monotonicMs: () => nowMs },
  )
  /** Checks twice: the first check starts a look, the second one judges its result. */
  async function judged(): Promise<void> {
    looked = Promise.withResolvers()
    nowMs += 10_001
    await check().catch(() => undefined)
    await looked.promise
    await check()
  }
  await expect(judged()).resolves.toBeUndefined()
  await expect(judged()).rejects.toThrow(BacklogDegradedError)
  await expect(judged()).resolves.toBeUndefined()
  await expect(judged()).rejects.toThrow('has waited for 61 s')
  await expect(judged()).resolves.toBeUndefined()
})

test('a caller that may wait gets the first reading, and does not wait for a log that does not answer', async () => {
  const waiting = createBacklogCheck({ look: async () => stateOf(61) })
  await expect(waiting({ waitMs: 60_000 })).rejects.toThrow('has waited for 61 s')
  const silent = createBacklogCheck({ look: () => new Promise(() => undefined) })
  await expect(silent({ waitMs: 1 })).resolves.toBeUndefined()
})
