import { LedgerUnavailableError } from '@curfew/domain'
import { expect, test, vi } from 'vitest'
import { createJobGuard } from './job-guard.ts'

// Goal: a job that fails for good ends, one that fails for a while does not, and the log stays readable.
// Method: failures of the test's own, tried as often as the guard lets them, on a clock of the test's own.

function openGuard() {
  let nowMs = 0
  const [warn, error] = [vi.fn(), vi.fn()]
  const log = { isLevelEnabled: () => true, debug: vi.fn(), info: vi.fn(), warn, error }
  const guard = createJobGuard({ log, name: 'replay', idMember: 'replay_id', monotonicMs: () => nowMs })
  const ended: string[] = []
  const end = async (failure: string) => void ended.push(failure)
  return {
    ...{ guard, ended, warn, error },
    /** Fails again and again for so long, looking five times a second. @returns how often. */
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

test('a job that a value fails ends within minutes, after few tries, and its reason repeats no value', async () => {
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
  await failFor(3 * 3_600_000, () => new LedgerUnavailableError('away'))
  expect(ended).toEqual([])
  expect(warn).toHaveBeenCalledTimes(180)
})

test('an outage before a fault is not counted as tries of it', async () => {
  const { failFor, ended } = openGuard()
  await failFor(3_600_000, () => new LedgerUnavailableError('away'))
  await failFor(30_000, refused)
  expect(ended).toEqual([])
})

test('a job that gets further between its failures does not end', async () => {
  const { failFor, ended } = openGuard()
  let done = 0
  await failFor(3_600_000, refused, () => `${done++}`)
  expect(ended).toEqual([])
})

test('where the end cannot be written, it is tried again', async () => {
  const { failFor, ended } = openGuard()
  let times = 0
  await failFor(600_000, refused, undefined, async (failure) => {
    times += 1
    if (times === 1) throw new LedgerUnavailableError('away')
    ended.push(failure)
  })
  expect([times, ended.length]).toEqual([2, 1])
})
