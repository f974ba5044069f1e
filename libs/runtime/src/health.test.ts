import { EventLogDegradedError, EventLogUnavailableError } from '@curfew/domain'
import { expect, test, vi } from 'vitest'
import { createReadiness } from './health.ts'
import type { LogLine } from './log.ts'

function collect() {
  const lines: unknown[] = []
  const write = ({ event, check }: LogLine) => {
    lines.push([event, check])
  }
  return { lines, log: { isLevelEnabled: () => true, debug: write, info: write, warn: write, error: write } }
}

test('a check that hangs counts as unavailable, does not delay the answer, and is run again', async () => {
  const { lines, log } = collect()
  const answers = [Promise.withResolvers<void>().promise, Promise.resolve()]
  const ready = createReadiness(
    { ledger: () => answers.shift() ?? Promise.resolve() },
    { log, deadlineMs: 5 },
  )
  expect(await ready()).toEqual({ unavailable: ['ledger'], degraded: [] })
  expect(await ready()).toEqual({ unavailable: [], degraded: [] })
  expect(lines).toEqual([
    ['check.failed', 'ledger'],
    ['check.recovered', 'ledger'],
  ])
})

test('concurrent probes share one run of a check', async () => {
  const { log } = collect()
  const { promise, resolve } = Promise.withResolvers<void>()
  const check = vi.fn(() => promise)
  const ready = createReadiness({ ledger: check }, { log, deadlineMs: 1_000 })
  const probes = [ready(), ready(), ready()]
  resolve()
  expect(await Promise.all(probes)).toEqual(Array(3).fill({ unavailable: [], degraded: [] }))
  expect(check).toHaveBeenCalledTimes(1)
  await ready()
  expect(check).toHaveBeenCalledTimes(2)
})

test('a check that works in part is degraded, and the log has one line about it', async () => {
  const { lines, log } = collect()
  let error: Error | null = new EventLogDegradedError('bulk accepts no records')
  const check = async () => {
    if (error !== null) throw error
  }
  const ready = createReadiness({ 'event-log': check }, { log, deadlineMs: 1_000 })
  expect(await ready()).toEqual({ unavailable: [], degraded: ['event-log'] })
  expect(await ready()).toEqual({ unavailable: [], degraded: ['event-log'] })
  error = new EventLogUnavailableError('no lane accepts records')
  expect(await ready()).toEqual({ unavailable: ['event-log'], degraded: [] })
  error = null
  expect(await ready()).toEqual({ unavailable: [], degraded: [] })
  expect(lines).toEqual([
    ['check.degraded', 'event-log'],
    ['check.failed', 'event-log'],
    ['check.recovered', 'event-log'],
  ])
})
