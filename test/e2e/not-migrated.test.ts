import { randomBytes } from 'node:crypto'
import { expect, test } from 'vitest'
import { createTestDatabase } from '../support/database.ts'
import { runCurfew, useProcesses } from '../support/processes.ts'

// Goal: services that start before `curfew migrate` log one line that says so, and work after the migration.
// Method: the services as separate processes over a database without tables.

const processes = useProcesses()
const patiently = { timeout: 30_000, interval: 50 }

test('services over a database without tables log the command to run, and work after it has run', {
  timeout: 120_000,
}, async () => {
  await using database = await createTestDatabase()
  await database.db.query('drop schema public cascade')
  await database.db.query('create schema public')
  const key = randomBytes(32).toString('base64url')
  const services = (['ingest', 'console', 'delivery', 'bookkeeper'] as const).map((role) =>
    processes.start({
      name: role,
      file: `services/${role}/src/main.ts`,
      env: {
        ...{ DATABASE_URL: database.url, PORT: '0', HOST: '127.0.0.1' },
        ...{ CURFEW_ADMIN_KEY: key, CURFEW_MASTER_KEY: key },
      },
    }),
  )
  const urls = await Promise.all(
    services.map(async (service) => (await service.says(/server\.listening","url":"([^"]+)/))[1] ?? ''),
  )
  await Promise.all(services.map((service) => service.says(/not-migrated/)))
  const statuses = () => Promise.all(urls.map(async (url) => (await fetch(`${url}/readyz`)).status))
  expect(await statuses()).not.toContain(200)
  // During the migration the services see a part of the schema.
  const migratedAt = new Date().toISOString()
  expect(await runCurfew(processes, ['migrate'], { DATABASE_URL: database.url })).toMatchObject({ code: 0 })
  await expect.poll(statuses, patiently).toEqual([200, 200, 200, 200])
  for (const { stderr } of services) {
    const lines = stderr.split('\n').filter((line) => line !== '')
    const before = lines
      .map((line) => JSON.parse(line))
      .filter(({ time, event }) => time < migratedAt && !event.startsWith('process.'))
    expect(before).toMatchObject([
      { event: 'server.listening' },
      { event: 'ledger.not-migrated', message: expect.stringContaining('Run: npx curfew migrate') },
    ])
    expect(stderr.match(/npx curfew migrate/g)).toHaveLength(1)
  }
})
