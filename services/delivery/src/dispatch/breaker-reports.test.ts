import type { BindingId, WorkerId } from '@curfew/domain'
import { createLog } from '@curfew/runtime'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { createBreakerReports } from './breaker-reports.ts'

// Goal: the ledger hears the last word of each binding, in few statements, whatever fails; and nobody waits for it.
// Method: a ledger that answers when it is told to, and a clock driven by hand.

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

test('what comes up while one statement is under way makes up the next, with the last word of each', async () => {
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

test('what failed is said again, unless something newer is known', async () => {
  const { notes, reports, last } = rig()
  reports.note(ONE, 'opened')
  reports.note(TWO, 'opened')
  last()?.resolve()
  await vi.advanceTimersByTimeAsync(0)
  reports.note(TWO, 'closed')
  last()?.reject(new Error('the ledger is away'))
  await vi.advanceTimersByTimeAsync(999)
  expect(notes).toHaveLength(2)
  reports.note(ONE, 'closed')
  await vi.advanceTimersByTimeAsync(1)
  expect(notes.slice(2)).toEqual([{ opened: [], closed: [TWO, ONE] }])
})

test('nothing more is said once all has ended', async () => {
  const { notes, reports, ended, last } = rig()
  reports.note(ONE, 'opened')
  ended.abort()
  last()?.reject(new Error('the ledger is away'))
  await vi.advanceTimersByTimeAsync(60_000)
  expect(notes).toHaveLength(1)
})
