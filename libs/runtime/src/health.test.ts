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

test('a check that hangs counts as away, does not hold up the answer, and is asked anew', async () => {
  const { lines, log } = collect()
  const answers = [Promise.withResolvers<void>().promise, Promise.resolve()]
  const ready = createReadiness(
    { ledger: () => answers.shift() ?? Promise.resolve() },
    { log, deadlineMs: 5 },
  )
  expect(await ready()).toEqual(['ledger'])
  expect(await ready()).toEqual([])
  expect(lines).toEqual([
    ['check.failed', 'ledger'],
    ['check.recovered', 'ledger'],
  ])
})

test('probes at the same time share one asking', async () => {
  const { log } = collect()
  const { promise, resolve } = Promise.withResolvers<void>()
  const check = vi.fn(() => promise)
  const ready = createReadiness({ ledger: check }, { log, deadlineMs: 1_000 })
  const probes = [ready(), ready(), ready()]
  resolve()
  expect(await Promise.all(probes)).toEqual([[], [], []])
  expect(check).toHaveBeenCalledTimes(1)
  await ready()
  expect(check).toHaveBeenCalledTimes(2)
})
