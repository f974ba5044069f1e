import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { LedgerSchemaError } from '@curfew/domain'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { createTestDatabase, type TestDatabase } from '../../../../test/support/database.ts'
import { createDatabase } from './database.ts'
import {
  createLedgerCheck,
  MigrationError,
  migrate,
  PostgresTooOldError,
  pendingMigrations,
  SchemaTooNewError,
} from './migrate.ts'

let own: TestDatabase
let folder: string
beforeEach(async () => {
  own = await createTestDatabase()
  // Removes the product's schema, because these tests have their own migrations.
  await own.db.query('drop schema public cascade; create schema public')
  folder = await mkdtemp(join(tmpdir(), 'curfew-migrations-'))
  await write('0001_one.sql', 'create table one (n integer); insert into one values (1)')
  await write('0002_two.sql', 'create table two (n integer)')
})
afterEach(async () => {
  await own.drop()
  await rm(folder, { recursive: true })
})
const write = (name: string, sql: string) => writeFile(join(folder, name), sql)

test('pending migrations are applied in order, once', async () => {
  expect(await pendingMigrations(own.db, { folder })).toEqual(['0001_one.sql', '0002_two.sql'])
  expect(await migrate(own.db, { folder })).toEqual(['0001_one.sql', '0002_two.sql'])
  expect(await migrate(own.db, { folder })).toEqual([])
  await write('0003_three.sql', 'create table three (n integer)')
  expect(await pendingMigrations(own.db, { folder })).toEqual(['0003_three.sql'])
  expect(await migrate(own.db, { folder })).toEqual(['0003_three.sql'])
})

test('a service is not ready before the schema of its release exists, and says what to run', async () => {
  const check = createLedgerCheck(own.db)
  const error = await check().catch((thrown: unknown) => thrown)
  expect(error).toBeInstanceOf(LedgerSchemaError)
  expect(String(error)).toContain('npx curfew migrate')
  await expect(own.db.query('select 1 from events')).rejects.toThrow(LedgerSchemaError)
  await migrate(own.db)
  await check()
  // The next release migrates the database while this one runs.
  await own.db.query("insert into migrations values (9999, '9999_next.sql', 'x')")
  await check()
  await createLedgerCheck(own.db)()
})

test('a server that is too old is refused before any migration, and no service is ready with it', async () => {
  const old = new Proxy(own.db, {
    get: (db, name) =>
      name === 'query' ? async () => ({ rows: [{ number: 150_005, text: '15.5' }] }) : Reflect.get(db, name),
  })
  await expect(migrate(old, { folder })).rejects.toThrow(PostgresTooOldError)
  await expect(createLedgerCheck(old)()).rejects.toThrow('PostgreSQL 15.5. Curfew needs 16 or newer')
  expect(await pendingMigrations(own.db, { folder })).toHaveLength(2)
})

test('concurrent migrators apply each migration once', async () => {
  const databases = Array.from({ length: 4 }, () => createDatabase(own.url))
  const applied = await Promise.all(databases.map((db) => migrate(db, { folder })))
  expect(applied.flat().sort()).toEqual(['0001_one.sql', '0002_two.sql'])
  expect((await own.db.query('select n from one')).rows).toEqual([{ n: 1 }])
  await Promise.all(databases.map((db) => db.end()))
})

test('a failing migration is rolled back with its number, and the migrations before it stay', async () => {
  await write('0002_two.sql', 'create table two (n integer); select nonsense')
  const failed = migrate(own.db, { folder })
  await expect(failed).rejects.toBeInstanceOf(MigrationError)
  await expect(failed).rejects.toThrow(/0002_two\.sql.*nonsense/)
  await write('0002_two.sql', 'create table two (n integer)')
  expect(await migrate(own.db, { folder })).toEqual(['0002_two.sql'])
})

test('a file that was changed after it was applied is refused, and the error names it', async () => {
  await migrate(own.db, { folder })
  await write('0001_one.sql', 'create table one (n bigint)')
  await expect(migrate(own.db, { folder })).rejects.toThrow(/0001_one\.sql was changed/)
  await expect(pendingMigrations(own.db, { folder })).rejects.toBeInstanceOf(MigrationError)
})

test('a database migrated by a newer release is refused', async () => {
  await migrate(own.db, { folder })
  await rm(join(folder, '0002_two.sql'))
  await expect(migrate(own.db, { folder })).rejects.toBeInstanceOf(SchemaTooNewError)
})

test('a gap in the numbers is refused before anything is applied', async () => {
  await write('0004_four.sql', 'select 1')
  await expect(migrate(own.db, { folder })).rejects.toThrow(/0004_four\.sql.*0003_/)
  expect((await own.db.query("select to_regclass('one') as t")).rows).toEqual([{ t: null }])
})
