import type { BindingId, WorkerId } from '@curfew/domain'
import { createLog } from '@curfew/runtime'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { createBreakerReports } from './breaker-reports.ts'

// Goal: the ledger learns the last state of every breaker in few statements, despite failures, and no caller waits.
// Method: a ledger that answers when the test says so, and a clock that the test drives.

beforeEach(() => vi.useFakeTimers())
afterEach(() => vi.useRealTimers())

const [ONE, TWO] = [1, 2] as [BindingId, BindingId]

function rig() {
  const notes: { readonly opened: readonly BindingId[]; readonly closed: readonly BindingId[] }[] = []
  const answers: PromiseWithResolvers<void>[] = []
  const ended = new AbortController()
  const reports = createBreakerReports({
    ledger: {
      noteBreakers({ opened, closed }) {
        notes.push({ opened, closed })
        const answer = Promise.withResolvers<void>()
        answers.push(answer)
        return answer.promise
      },
    },
    worker: { id: () => 'w1' as WorkerId },
    log: createLog({ service: 'test', level: 'silent' }),
    ended: ended.signal,
  })
  return { notes, reports, ended, last: () => answers.at(-1) }
}

test('reports that arrive during a statement form the next one, with the last state of every binding', async () => {
  const { notes, reports, last } = rig()
  reports.note(ONE, 'opened')
  reports.note(ONE, 'closed')
  reports.note(TWO, 'opened')
  reports.note(ONE, 'opened')
  expect(notes).toEqual([{ opened: [ONE], closed: [] }])
  last()?.resolve()
  await vi.advanceTimersByTimeAsync(0)
  expect(notes.slice(1)).toEqual([{ opened: [ONE, TWO], closed: [] }])
})

test('a failed report is repeated unless there is a newer one', async () => {
  const { notes, reports, last } = rig()
  reports.note(ONE, 'opened')
  reports.note(TWO, 'opened')
  last()?.resolve()
  await vi.advanceTimersByTimeAsync(0)
  reports.note(TWO, 'closed')
  last()?.reject(new Error('the ledger is unavailable'))
  await vi.advanceTimersByTimeAsync(999)
  expect(notes).toHaveLength(2)
  reports.note(ONE, 'closed')
  await vi.advanceTimersByTimeAsync(1)
  expect(notes.slice(2)).toEqual([{ opened: [], closed: [TWO, ONE] }])
})

test('nothing is reported after the end', async () => {
  const { notes, reports, ended, last } = rig()
  reports.note(ONE, 'opened')
  ended.abort()
  last()?.reject(new Error('the ledger is unavailable'))
  await vi.advanceTimersByTimeAsync(60_000)
  expect(notes).toHaveLength(1)
})
