import { randomBytes } from 'node:crypto'
import { rm } from 'node:fs/promises'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import { type EmbeddedPostgres, EmbeddedPostgresInUseError, openEmbeddedPostgres } from '@curfew/embedded'
import { createDatabase, type Database, type DatabaseOptions, migrate, openDatabase } from '@curfew/ledger'
import { inject } from 'vitest'
import type { TestProject } from 'vitest/node'
import { stopped } from './end-of-run.ts'

// One PostgreSQL for a whole test run. Each test that asks gets its own database: a copy of a migrated template, made in
// milliseconds. TEST_DATABASE_URL names another server, with a role that may create databases.

declare module 'vitest' {
  interface ProvidedContext {
    databaseUrl: string
  }
}

/** Prefix of every database of the tests. Leftover databases with it are dropped without asking. */
const PREFIX = 'curfew_test_'
const SLOTS = 16

/** Vitest's global setup. */
export async function setup(project: TestProject): Promise<() => Promise<void>> {
  const given = process.env.TEST_DATABASE_URL
  const server = given === undefined ? await openSlot() : null
  const url = server?.url ?? given ?? ''
  const template = await makeTemplate(url, server !== null)
  project.provide('databaseUrl', template)
  const stop = async () => {
    // The next run on the same server drops what is left of this one.
    if (server !== null) return server.stop()
    await using admin = await openAdmin(url)
    await admin.db.query(`drop database ${nameOf(template)} with (force)`)
  }
  return () => stopped('PostgreSQL', stop())
}

/** A private, migrated database. */
export interface TestDatabase extends AsyncDisposable {
  readonly url: string
  readonly db: Database
  /** Closes `db` and drops the database, even if other connections use it. Idempotent. */
  drop(): Promise<void>
}

/** Creates a private, migrated, empty database on the server of the test run. */
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
 * Opens the first test server that no other run uses. The servers stay on disk between runs, because creating one takes longer
 * than many a run. The next run takes over a server whose run was killed.
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
      // Its files may have been partly deleted with other temporary files. They hold nothing of value.
      await rm(dataDir, { recursive: true, force: true })
      return await open()
    }
  }
  throw new Error(`all ${SLOTS} test servers under ${base} are in use`)
}

async function makeTemplate(url: string, isOwn: boolean): Promise<string> {
  await using admin = await openAdmin(url)
  if (isOwn) {
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
  // A template is copied only while it has no connection.
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
