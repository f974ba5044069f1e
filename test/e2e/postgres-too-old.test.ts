import { randomBytes } from 'node:crypto'
import { expect, test } from 'vitest'
import { freePort } from '../../deploy/server/ports.ts'
import { createTestDatabase } from '../support/database.ts'
import { useProcesses } from '../support/processes.ts'

// Goal: a service never runs over a PostgreSQL that is too old for its statements, and still starts while PostgreSQL is unavailable.
// Method: the services as separate processes. A function of the database claims another version for a real server.

const processes = useProcesses()
const START_MS = 90_000

function startAll(databaseUrl: string) {
  const key = randomBytes(32).toString('base64url')
  return (['ingest', 'console', 'delivery', 'bookkeeper'] as const).map((role) =>
    processes.start({
      name: role,
      file: `services/${role}/src/main.ts`,
      env: {
        ...{ DATABASE_URL: databaseUrl, PORT: '0', HOST: '127.0.0.1' },
        ...{ CURFEW_ADMIN_KEY: key, CURFEW_MASTER_KEY: key },
      },
    }),
  )
}

test('no service starts over PostgreSQL 15, and each says so', { timeout: 200_000 }, async () => {
  await using database = await createTestDatabase()
  await database.db.query(`
    create function public.current_setting(name text) returns text language sql as
      $$ select case name when 'server_version_num' then '150005' else '15.5' end $$`)
  const name = new URL(database.url).pathname.slice(1)
  await database.db.query(`alter database ${name} set search_path = public, pg_catalog`)
  for (const service of startAll(database.url)) {
    expect(await service.exit(START_MS), service.stderr).toEqual({ code: 1, signal: null })
    expect(service.stderr).toContain(
      'The server is PostgreSQL 15.5. Curfew needs 16 or newer: upgrade the server.',
    )
    expect(service.stderr).not.toContain('server.listening')
  }
})

test('every service starts while PostgreSQL is unavailable', { timeout: 200_000 }, async () => {
  const services = startAll(`postgresql://curfew:none@127.0.0.1:${await freePort()}/curfew`)
  await Promise.all(services.map((service) => service.says(/server\.listening/, START_MS)))
  for (const { ended } of services) expect(ended).toBeNull()
})
