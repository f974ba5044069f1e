import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, onTestFinished, test } from 'vitest'
import { eventually } from '../support/curfew.ts'
import { createTestDatabase } from '../support/database.ts'
import { startStandalone, useProcesses } from '../support/processes.ts'

// Goal: hanging reads delay neither logouts nor heartbeats.
// Method: the real command over a database with one locked table, and 64 concurrent reads of this table. Several keys share the
// reads, so that no key reaches its limits.

const processes = useProcesses()
const KEYS = 16
const READS_PER_KEY = 4
const LEASE_MS = 2_000

async function openRp() {
  const rp = { requests: 0, uri: '' }
  const server = createServer((_request, response) => {
    rp.requests++
    response.end()
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(() => {
    server.close()
    server.closeAllConnections()
  })
  rp.uri = `http://127.0.0.1:${(server.address() as AddressInfo).port}/logout`
  return rp
}

test('64 hanging reads delay neither logouts nor heartbeats', async () => {
  await using database = await createTestDatabase()
  const rp = await openRp()
  const { process, url, client } = await startStandalone(processes, {
    dataFolder: await processes.dataFolder(),
    env: {
      DATABASE_URL: database.url,
      CURFEW_ALLOWED_NETWORKS: '127.0.0.0/8',
      CURFEW_LEASE_MS: String(LEASE_MS),
    },
  })
  await client.putIssuer('main', { iss: 'https://idp.example' })
  await client.putRelyingParty('main', 'mail', { backchannel_logout_uri: rp.uri })
  const keys = await Promise.all(
    Array.from({ length: KEYS }, (_, n) =>
      client.createApiKey({ name: `reader-${n}`, scopes: ['admin'] }).then(({ key }) => key),
    ),
  )
  const post = async (sub: string) => {
    const startedMs = performance.now()
    await client.postLogoutEvent({ iss: 'https://idp.example', sub })
    return performance.now() - startedMs
  }
  await post('first')
  await eventually(() => expect(rp.requests).toBe(1))

  const ended = new AbortController()
  const reading: Promise<unknown>[] = []
  await database.db.withConnection(async (connection) => {
    await connection.query('begin')
    await connection.query('lock table replays in access exclusive mode')
    // Each reader sends its next request after an answer, so the reads are at their limit all the time.
    const readOn = async (key: string) => {
      while (!ended.signal.aborted) {
        const response = await fetch(`${url}/v1/replays/${randomUUID()}`, {
          headers: { authorization: `Bearer ${key}` },
          signal: ended.signal,
        }).catch(() => null)
        await response?.text().catch(() => '')
        if (response?.status === 429) await sleep(100)
      }
    }
    for (const key of keys) for (let n = 0; n < READS_PER_KEY; n++) reading.push(readOn(key))
    await eventually(async () => {
      const { rows } = await connection.query(
        "select count(*)::int as count from pg_locks where relation = 'replays'::regclass and not granted",
      )
      expect(rows[0].count).toBeGreaterThan(0)
    })
    // Longer than the longest wait for a connection.
    await sleep(6_000)

    const took: number[] = []
    const silences: number[] = []
    for (let n = 0; n < 20; n++) {
      took.push(await post(`user-${n}`))
      const { rows } = await connection.query(
        'select extract(epoch from clock_timestamp() - max(seen_at)) * 1000 as ms from workers',
      )
      silences.push(Number(rows[0].ms))
      await sleep(100)
    }
    await eventually(() => expect(rp.requests).toBe(21))
    expect(Math.max(...took)).toBeLessThan(2_000)
    expect(Math.max(...silences)).toBeLessThan(LEASE_MS)
    await connection.query('rollback')
  })
  ended.abort()
  await Promise.all(reading)
  expect(process.stderr).not.toMatch(/worker\.(?:lost|beat-failed)/)
}, 90_000)
