import { LedgerUnavailableError, SigningKeyError } from '@curfew/domain'
import { createLog } from '@curfew/runtime'
import { expect, test } from 'vitest'
import { untilAble } from './until-able.ts'

// Goal: a worker that cannot start yet says why, and does not fill the log.

test.each([
  ['master-key.wrong', new SigningKeyError('The master key opens none of the signing keys')],
  ['ledger.unavailable', new LedgerUnavailableError('PostgreSQL is not available: ECONNREFUSED')],
])('%s is one line without a stack, however often the start is tried', async (event, error) => {
  const lines: string[] = []
  const log = createLog({
    service: 'test',
    level: 'info',
    destination: { write: (line: string) => void lines.push(line) },
  })
  let tries = 0
  const work = async () => {
    tries += 1
    if (tries <= 20) throw error
  }
  await untilAble(work, { log, stopping: new AbortController().signal, pauseMs: 0 })
  expect(tries).toBe(21)
  expect(lines.map((line) => JSON.parse(line))).toMatchObject([
    { event, code: error.code, reason: error.message },
  ])
  expect(lines.join('')).not.toContain('stack')
})

test('an error that waiting does not help ends the start', async () => {
  const log = createLog({ service: 'test', level: 'info', destination: { write: () => undefined } })
  const work = () => Promise.reject(new TypeError('a bug'))
  await expect(untilAble(work, { log, stopping: new AbortController().signal })).rejects.toThrow('a bug')
})
