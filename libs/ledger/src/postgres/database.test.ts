import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { LedgerUnavailableError } from '@curfew/domain'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createTestDatabase, type TestDatabase } from '../../../../test/support/database.ts'
import { createDatabase, openDatabase, withTransaction } from './database.ts'

let own: TestDatabase
beforeAll(async () => {
  own = await createTestDatabase({ poolMax: 2 })
  await own.db.query('create table numbers (n bigint primary key)')
})
afterAll(() => own.drop())

test('a bigint is returned as a number, and a prepared statement works on every connection', async () => {
  const ask = () =>
    own.db.query<{ n: number }>({ name: 'plus_one', text: 'select $1::bigint + 1 as n', values: [41] })
  const answers = await Promise.all([ask(), ask(), ask()])
  expect(answers.map(({ rows }) => rows)).toEqual([[{ n: 42 }], [{ n: 42 }], [{ n: 42 }]])
})

test('a transaction whose work rejects is rolled back and returns its connection', async () => {
  for (let round = 0; round < 3; round++) {
    const failed = withTransaction(own.db, async (transaction) => {
      await transaction.query('insert into numbers values (1)')
      throw new Error('no')
    })
    await expect(failed).rejects.toThrow('no')
  }
  expect((await own.db.query('select * from numbers')).rows).toEqual([])
})

test('an error in the statement itself is thrown unchanged', async () => {
  await expect(own.db.query('select 1 / 0')).rejects.toMatchObject({ code: '22012' })
})

test('a prepared statement works again after a migration changed its result', async () => {
  await own.db.query('create table changing (n integer)')
  const ask = () => own.db.query({ name: 'changing', text: 'select * from changing' })
  // Prepares it on every connection of the pool.
  await Promise.all(Array.from({ length: 20 }, ask))
  await own.db.query('alter table changing add column m integer')
  await expect
    .poll(() => Promise.all(Array.from({ length: 20 }, ask)).then(() => 'all', String), { timeout: 5_000 })
    .toBe('all')
})

test('a connection ended by the server rejects with LedgerUnavailableError, and the next call opens a new one', async () => {
  const cut = own.db.query('select pg_terminate_backend(pg_backend_pid())')
  await expect(cut).rejects.toBeInstanceOf(LedgerUnavailableError)
  expect((await own.db.query('select 1 as n')).rows).toEqual([{ n: 1 }])
})

test('a broken idle connection is reported and does not end the process', async () => {
  const errors: unknown[] = []
  const reported = Promise.withResolvers<void>()
  const db = createDatabase(own.url, {
    onIdleError: (error) => {
      errors.push(error)
      reported.resolve()
    },
  })
  const { rows } = await db.query<{ pid: number }>('select pg_backend_pid() as pid')
  await own.db.query('select pg_terminate_backend($1)', [rows[0]?.pid])
  await reported.promise
  expect((await db.query('select 1 as n')).rows).toEqual([{ n: 1 }])
  await db.end()
})

test('a server that shuts down in the packet that says it is ready does not end the process', async () => {
  const message = (type: string, ...parts: readonly (string | number)[]) => {
    const body = Buffer.concat(
      parts.map((part) => (typeof part === 'string' ? Buffer.from(part) : int32(part))),
    )
    return Buffer.concat([Buffer.from(type), int32(body.length + 4), body])
  }
  const int32 = (value: number) => {
    const bytes = Buffer.alloc(4)
    bytes.writeInt32BE(value)
    return bytes
  }
  const shutdown = message('E', 'SFATAL\0C57P01\0Mterminating connection\0\0')
  const server = createServer((socket) => {
    socket.on('error', () => undefined)
    // AuthenticationOk, ReadyForQuery and the shutdown, in one packet.
    socket.once('data', () => socket.end(Buffer.concat([message('R', 0), message('Z', 'I'), shutdown])))
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const db = createDatabase(`postgres://curfew@127.0.0.1:${port}/none`)
  await expect(db.query('select 1')).rejects.toBeInstanceOf(LedgerUnavailableError)
  await db.end()
  server.close()
})

test('the server cancels a statement that takes too long', async () => {
  const db = createDatabase(own.url, { statementTimeoutMs: 50 })
  await expect(db.query('select pg_sleep(20)')).rejects.toBeInstanceOf(LedgerUnavailableError)
  await db.end()
})

test('of two transactions in a deadlock, one rejects with an error that permits another attempt', async () => {
  await own.db.query('create table pair as select n from generate_series(1, 2) n')
  const bothHaveOne = Promise.withResolvers<void>()
  let first = 0
  const inOrder = (one: number, other: number) =>
    withTransaction(own.db, async (transaction) => {
      await transaction.query('select from pair where n = $1 for update', [one])
      first += 1
      if (first === 2) bothHaveOne.resolve()
      await bothHaveOne.promise
      await transaction.query('select from pair where n = $1 for update', [other])
    })
  const outcomes = await Promise.allSettled([inOrder(1, 2), inOrder(2, 1)])
  const failed = outcomes.flatMap((outcome) => (outcome.status === 'rejected' ? [outcome.reason] : []))
  expect(failed).toEqual([expect.any(LedgerUnavailableError)])
})

test('opening waits for an unavailable server until the timeout or the abort', async () => {
  const unreachable = 'postgres://curfew@127.0.0.1:1/none'
  await expect(openDatabase(unreachable, { openTimeoutMs: 100 })).rejects.toBeInstanceOf(
    LedgerUnavailableError,
  )
  const opening = openDatabase(unreachable, { signal: AbortSignal.timeout(100) })
  await expect(opening).rejects.toBeInstanceOf(LedgerUnavailableError)
  const wrong = openDatabase(own.url.replace(/\/[^/]*$/, '/no_such_database'))
  await expect(wrong).rejects.toMatchObject({ code: '3D000' })
})
