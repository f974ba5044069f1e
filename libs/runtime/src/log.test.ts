import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { LedgerSchemaError } from '@curfew/domain'
import { expect, test } from 'vitest'
import { createLog, describeError, type LogLevel, openLogFile } from './log.ts'

function open(level: LogLevel = 'info') {
  const lines: Record<string, unknown>[] = []
  const destination = { write: (line: string) => void lines.push(JSON.parse(line)) }
  return { lines, log: createLog({ service: 'ingest', level, destination }) }
}

test('a line is one JSON object with level, time, service and the event’s own members', () => {
  const { lines, log } = open()
  log.debug({ event: 'too.fine' })
  log.warn({ event: 'lease.lost', deliveries: 3 })
  expect(lines).toEqual([
    {
      level: 'warn',
      time: expect.stringMatching(/^\d{4}-.*Z$/),
      service: 'ingest',
      event: 'lease.lost',
      deliveries: 3,
    },
  ])
})

test('a database without its migrations causes one plain line, whatever fails because of it', () => {
  const { lines, log } = open()
  const message = 'The database lacks migrations of this release. Run: npx curfew migrate'
  const err = new LedgerSchemaError(message, { cause: new Error('relation "events" does not exist') })
  log.warn({ event: 'credentials.refresh-failed', err })
  log.error({ event: 'process.failed', err: new Error('PostgreSQL does not answer', { cause: err }) })
  expect(lines).toEqual([
    {
      ...{ level: 'error', time: expect.any(String), service: 'ingest' },
      ...{ event: 'ledger.not-migrated', message, reason: 'relation "events" does not exist' },
    },
  ])
  const fine = open('debug')
  fine.log.warn({ event: 'credentials.refresh-failed', err })
  expect(fine.lines.map(({ event }) => event)).toEqual(['ledger.not-migrated', 'credentials.refresh-failed'])
})

test('secrets are never written, neither at the top level nor deeper', () => {
  const { lines, log } = open()
  log.info({
    event: 'request.sent',
    logout_token: 'hunter2',
    headers: { authorization: 'Bearer hunter2' },
    request: { body: { logout_token: 'hunter2', key: 'hunter2' } },
  })
  expect(JSON.stringify(lines)).not.toContain('hunter2')
  expect(lines).toMatchObject([{ logout_token: '[secret]', headers: { authorization: '[secret]' } }])
})

test('an error is described with its causes, and without unknown members', () => {
  const { lines, log } = open()
  const database = Object.assign(new Error('duplicate key'), {
    code: '23505',
    detail: 'Key (sub)=(alice) already exists',
  })
  log.error({ event: 'ledger.failed', err: new TypeError('no ledger', { cause: database }) })
  expect(lines).toMatchObject([
    {
      err: {
        type: 'TypeError',
        message: 'no ledger',
        stack: expect.stringContaining('log.test.ts'),
        cause: { type: 'Error', message: 'duplicate key', code: '23505' },
      },
    },
  ])
  expect(JSON.stringify(lines)).not.toContain('alice')
})

test('an endless chain of causes is cut, and a thrown string and the errors of an AggregateError are described', () => {
  const endless = new Error('again')
  endless.cause = endless
  expect(JSON.stringify(describeError(endless)).match(/"again"/g)).toHaveLength(6)
  expect(describeError('out of paper')).toEqual({ type: 'string', message: 'out of paper' })
  expect(
    describeError(new AggregateError([new Error('v4'), new Error('v6')], 'refused')).errors,
  ).toMatchObject([{ message: 'v4' }, { message: 'v6' }])
})

test('a log file is made with its folder, and each line is written at once', () => {
  const folder = mkdtempSync(join(tmpdir(), 'curfew-log-'))
  try {
    const path = join(folder, 'deeper', 'curfew.log')
    createLog({ service: 'demo', level: 'info', destination: openLogFile(path) }).error({
      event: 'process.failed',
    })
    expect(readFileSync(path, 'utf8')).toContain('process.failed')
  } finally {
    rmSync(folder, { recursive: true })
  }
})
