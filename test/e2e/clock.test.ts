import { randomBytes } from 'node:crypto'
import { expect, test } from 'vitest'
import { createTestDatabase } from '../support/database.ts'
import { useProcesses } from '../support/processes.ts'

// Goal: an operator sees a machine whose clock is off, and it still accepts logouts.
// Method: real processes whose clock is ten minutes slow, over a database whose clock is right.

const processes = useProcesses()
const SLOW_CLOCK = `
const Real = Date
globalThis.Date = class Date extends Real {
  constructor(...given) { given.length === 0 ? super(Date.now()) : super(...given) }
  static now() { return Real.now() - 600_000 }
}`

test('a slow clock degrades ingest and the bookkeeper, takes the worker out of service, and is in the metrics of each', {
  timeout: 180_000,
}, async () => {
  await using database = await createTestDatabase()
  const key = randomBytes(32).toString('base64url')
  const services = (['ingest', 'bookkeeper', 'delivery'] as const).map((role) =>
    processes.start({
      name: role,
      file: `services/${role}/src/main.ts`,
      env: {
        ...{ DATABASE_URL: database.url, PORT: '0', HOST: '127.0.0.1' },
        ...{ CURFEW_ADMIN_KEY: key, CURFEW_MASTER_KEY: key },
        NODE_OPTIONS: `--import "data:text/javascript,${encodeURIComponent(SLOW_CLOCK)}"`,
      },
    }),
  )
  const urls = await Promise.all(
    services.map(async (each) => (await each.says(/server\.listening","url":"([^"]+)/, 120_000))[1] ?? ''),
  )
  const look = async (url: string) => {
    const ready = await fetch(`${url}/readyz`)
    const { unavailable, degraded } = (await ready.json()) as Record<string, readonly string[]>
    const [, offset] =
      /^curfew_clock_offset_seconds (.*)/m.exec(await (await fetch(`${url}/metrics`)).text()) ?? []
    const isKnown = [unavailable, degraded].flat().filter((check) => check === 'clock')
    return { status: ready.status, clock: isKnown, minutes: Math.round(Number(offset) / 60) }
  }
  await expect
    .poll(() => Promise.all(urls.map(look)), { timeout: 60_000, interval: 500 })
    .toEqual([
      { status: 200, clock: ['clock'], minutes: -10 },
      { status: 200, clock: ['clock'], minutes: -10 },
      { status: 503, clock: ['clock'], minutes: -10 },
    ])
})
