import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { LedgerSchemaError } from '@curfew/domain'
import { expect, test } from 'vitest'
import { createLog, describeError, type LogLevel } from './log.ts'
import { bufferLines, openLogFile } from './log-destination.ts'

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

test('a token, an API key or the password of a URL inside a text is not written', () => {
  const { lines, log } = open()
  const jws = 'eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl'
  log.warn({ event: 'rp.answered', said: `no ${jws} please`, list: [{ key: 'hunter2' }, ['a']] })
  const err = new Error(`connect postgres://curfew:hunter2@db.example/x with cfw_${'k'.repeat(43)}`)
  log.error({ event: 'ledger.failed', err })
  const text = JSON.stringify(lines)
  for (const secret of ['eyJ', 'c2lnbmF0dXJl', 'hunter2', 'kkkk']) expect(text).not.toContain(secret)
  expect(lines).toMatchObject([
    { said: 'no [secret] please', list: [{ key: '[secret]' }, ['a']] },
    { err: { message: 'connect postgres://[secret]@db.example/x with [secret]' } },
  ])
})

test('lines are written together: when they are many, after a moment, at an error, and about the process at once', async () => {
  const written: string[] = []
  const log = createLog({
    service: 'test',
    level: 'info',
    destination: bufferLines({ write: (text) => void written.push(text) }),
  })
  const count = (text = '') => text.split('\n').length - 1
  log.info({ event: 'delivery.attempted' })
  log.info({ event: 'delivery.attempted' })
  expect(written).toEqual([])
  await expect.poll(() => written.map(count)).toEqual([2])
  log.info({ event: 'delivery.attempted' })
  log.error({ event: 'ledger.failed' })
  expect(written.map(count)).toEqual([2, 2])
  log.info({ event: 'process.ready' })
  expect(written.map(count)).toEqual([2, 2, 1])
  for (let number = 0; number < 1_000; number++) log.info({ event: 'delivery.attempted', number })
  expect(written.length).toBeGreaterThan(10)
  expect(written.length).toBeLessThan(100)
  expect(Math.max(...written.map((text) => text.length))).toBeLessThan(16 * 1_024)
})

test('a log file is made with its folder, and an error is written at once', () => {
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

test('a log that cannot be written stops nothing, and later says how many lines are lost', () => {
  const written: string[] = []
  let isFull = true
  const sink = {
    write(text: string) {
      if (isFull) throw Object.assign(new Error('no space left on device'), { code: 'ENOSPC' })
      written.push(text)
    },
  }
  const log = createLog({ service: 'test', level: 'info', destination: bufferLines(sink) })
  log.info({ event: 'delivery.attempted' })
  log.error({ event: 'ledger.failed' })
  log.error({ event: 'ledger.failed' })
  isFull = false
  log.error({ event: 'process.crashed' })
  log.error({ event: 'process.failed' })
  log.error({ event: 'process.stopped' })
  const lines = written.join('').trimEnd().split('\n')
  expect(lines.map((line) => JSON.parse(line))).toMatchObject([
    { event: 'process.crashed' },
    { event: 'log.lines-lost', service: 'test', lines: 3 },
    { event: 'process.failed' },
    { event: 'process.stopped' },
  ])
})

test.each(['/dev/full', 'a closed pipe'])('a process outlives its log: %s', async (where) => {
  const program = `
    import { createLog } from ${JSON.stringify(join(import.meta.dirname, 'log.ts'))}
    import { setTimeout } from 'node:timers/promises'
    const log = createLog({ service: 'test', level: 'info' })
    for (let number = 0; number < 40; number++) {
      log.info({ event: 'delivery.attempted', text: 'x'.repeat(8_192) })
      log.error({ event: 'ledger.failed' })
      if (number % 10 === 0) await setTimeout(150)
    }
    process.stdout.write('alive')`
  const stderr = where === '/dev/full' ? openSync('/dev/full', 'w') : 'pipe'
  const child = spawn(process.execPath, ['--input-type=module', '-e', program], {
    stdio: ['ignore', 'pipe', stderr],
  })
  if (where === 'a closed pipe') child.stderr?.destroy()
  const [said] = await once(child.stdout ?? child, 'data')
  expect(String(said)).toBe('alive')
  child.kill('SIGKILL')
})
