import { LedgerUnavailableError } from '@curfew/domain'
import { expect, test, vi } from 'vitest'
import { createJobGuard } from './job-guard.ts'

// Goal: a job with a permanent failure ends, one with a temporary failure does not, and the log stays readable.
// Method: given failures, tried as often as the guard allows, on a clock that the test drives.

function openGuard() {
  let nowMs = 0
  const [warn, error] = [vi.fn(), vi.fn()]
  const log = { isLevelEnabled: () => true, debug: vi.fn(), info: vi.fn(), warn, error }
  const guard = createJobGuard({ log, name: 'replay', idMember: 'replay_id', monotonicMs: () => nowMs })
  const ended: string[] = []
  const end = async (failure: string) => void ended.push(failure)
  return {
    ...{ guard, ended, warn, error },
    /** Fails for `ms`, checking five times a second. @returns the number of tries. */
    async failFor(ms: number, failure: () => unknown, place = () => 'the same', ending = end) {
      let tries = 0
      for (const untilMs = nowMs + ms; nowMs < untilMs && ended.length === 0; nowMs += 200) {
        if (!guard.isDue('one')) continue
        tries += 1
        await guard.failed({ id: 'one', place: place(), end: ending }, failure())
      }
      return tries
    },
  }
}

const refused = () => Object.assign(new Error('value "alice" is out of range'), { code: '22003' })

test('a job that fails because of a value ends within minutes, and its reason does not repeat the value', async () => {
  const { failFor, ended, error } = openGuard()
  expect(await failFor(600_000, refused)).toBeLessThan(10)
  expect(ended).toEqual([expect.stringContaining('(22003)')])
  expect(ended[0]).not.toContain('alice')
  expect(error).toHaveBeenCalledExactlyOnceWith(
    expect.objectContaining({ event: 'replay.ended-as-failed', replay_id: 'one' }),
  )
})

test('a job never ends while the ledger is unavailable, and is logged once a minute', async () => {
  const { failFor, ended, warn } = openGuard()
  await failFor(3 * 3_600_000, () => new LedgerUnavailableError('unavailable'))
  expect(ended).toEqual([])
  expect(warn).toHaveBeenCalledTimes(180)
})

test('tries during an outage do not count for a later fault', async () => {
  const { failFor, ended } = openGuard()
  await failFor(3_600_000, () => new LedgerUnavailableError('unavailable'))
  await failFor(30_000, refused)
  expect(ended).toEqual([])
})

test('a job that makes progress between its failures does not end', async () => {
  const { failFor, ended } = openGuard()
  let done = 0
  await failFor(3_600_000, refused, () => `${done++}`)
  expect(ended).toEqual([])
})

test('a failed write of the end is repeated', async () => {
  const { failFor, ended } = openGuard()
  let times = 0
  await failFor(600_000, refused, undefined, async (failure) => {
    times += 1
    if (times === 1) throw new LedgerUnavailableError('unavailable')
    ended.push(failure)
  })
  expect([times, ended.length]).toEqual([2, 1])
})
