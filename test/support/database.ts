import { randomBytes } from 'node:crypto'
import { rm } from 'node:fs/promises'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import { type EmbeddedPostgres, EmbeddedPostgresInUseError, openEmbeddedPostgres } from '@curfew/embedded'
import { createDatabase, type Database, type DatabaseOptions, migrate, openDatabase } from '@curfew/ledger'
import { inject } from 'vitest'
import type { TestProject } from 'vitest/node'

// One PostgreSQL for a whole run of tests, and in it a database of its own for each test that asks: a copy of a migrated
// template, made in milliseconds. TEST_DATABASE_URL names another server, by a role that may create databases.

declare module 'vitest' {
  interface ProvidedContext {
    databaseUrl: string
  }
}

/** Prefix of every database that tests make. What has it is dropped without asking. */
const PREFIX = 'curfew_test_'
const SLOTS = 16

/** Vitest's global setup. */
export async function setup(project: TestProject): Promise<() => Promise<void>> {
  const given = process.env.TEST_DATABASE_URL
  const server = given === undefined ? await openSlot() : null
  const url = server?.url ?? given ?? ''
  const template = await makeTemplate(url, server !== null)
  project.provide('databaseUrl', template)
  return async () => {
    await using admin = await openAdmin(url)
    await admin.db.query(`drop database ${nameOf(template)} with (force)`)
    await server?.stop()
  }
}

/** A private, migrated database. */
export interface TestDatabase extends AsyncDisposable {
  readonly url: string
  readonly db: Database
  /** Closes `db` and drops the database, whoever else is connected to it. Idempotent. */
  drop(): Promise<void>
}

/** Makes a private, migrated, empty database. Only within a test run: its server is the run's. */
export async function createTestDatabase(options: DatabaseOptions = {}): Promise<TestDatabase> {
  const template = inject('databaseUrl')
  const name = `${PREFIX}${randomBytes(6).toString('hex')}`
  {
    await using admin = await openAdmin(template)
    await admin.db.query(`create database ${name} template ${nameOf(template)}`)
  }
  const url = withDatabase(template, name)
  const db = createDatabase(url, options)
  let dropped: Promise<void> | null = null
  const drop = () => {
    dropped ??= (async () => {
      await db.end()
      await using admin = await openAdmin(template)
      await admin.db.query(`drop database if exists ${name} with (force)`)
    })()
    return dropped
  }
  return { url, db, drop, [Symbol.asyncDispose]: drop }
}

/**
 * The first server of a few that no other run is using. They stay on disk from run to run, for making one takes longer than
 * many a run; and the next run takes over a server whose run was killed.
 */
async function openSlot(): Promise<EmbeddedPostgres> {
  const base = join(tmpdir(), `curfew-test-postgres-${userInfo().uid}`)
  for (let slot = 0; slot < SLOTS; slot++) {
    const dataDir = join(base, String(slot))
    const open = () => openEmbeddedPostgres({ dataDir, log: () => undefined, durable: false })
    try {
      return await open()
    } catch (error) {
      if (error instanceof EmbeddedPostgresInUseError) continue
      // Half of it may have been swept away with other temporary files; nothing in it is worth keeping.
      await rm(dataDir, { recursive: true, force: true })
      return await open()
    }
  }
  throw new Error(`all ${SLOTS} test servers under ${base} are in use`)
}

async function makeTemplate(url: string, ours: boolean): Promise<string> {
  await using admin = await openAdmin(url)
  if (ours) {
    const { rows } = await admin.db.query<{ datname: string }>(
      'select datname from pg_database where starts_with(datname, $1)',
      [PREFIX],
    )
    for (const { datname } of rows) await admin.db.query(`drop database ${datname} with (force)`)
  }
  const name = `${PREFIX}template_${randomBytes(6).toString('hex')}`
  await admin.db.query(`create database ${name}`)
  const template = withDatabase(url, name)
  const db = await openDatabase(template)
  await migrate(db)
  // Nobody may be connected to a template while it is copied.
  await db.end()
  return template
}

async function openAdmin(url: string): Promise<AsyncDisposable & { readonly db: Database }> {
  const db = createDatabase(withDatabase(url, 'postgres'), { poolMax: 1 })
  return { db, [Symbol.asyncDispose]: () => db.end() }
}

function withDatabase(url: string, name: string): string {
  const changed = new URL(url)
  changed.pathname = `/${name}`
  return changed.href
}

function nameOf(url: string): string {
  return new URL(url).pathname.slice(1)
}
