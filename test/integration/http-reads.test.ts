import { randomUUID } from 'node:crypto'
import type { Database } from '@curfew/ledger'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Curfew, eventually, ISSUER, openCurfew } from '../support/curfew.ts'

// Goal: a read that takes too long, or too many reads at once, get a helpful refusal. Changes continue meanwhile.
// Method: a lock that blocks the readers of a table.

let curfew: Curfew

beforeAll(async () => {
  curfew = await openCurfew({ workers: 0, readTimeoutMs: 300 })
})
afterAll(() => curfew.stop())

/** Runs `work` while `table` is locked. */
function locked<Result>(table: string, work: (db: Database) => Promise<Result>): Promise<Result> {
  return curfew.db.withConnection(async (connection) => {
    await connection.query('begin')
    await connection.query(`lock table ${table} in access exclusive mode`)
    try {
      return await work(curfew.db)
    } finally {
      await connection.query('rollback')
    }
  })
}

test('a read that takes too long is a 504 that says to narrow it, and reveals no internals', async () => {
  for (const path of ['/v1/deliveries', '/v1/logout-events/019386aa-0000-7000-8000-000000000000']) {
    const table = path === '/v1/deliveries' ? 'deliveries' : 'events'
    const answer = await locked(table, () => curfew.call('GET', path))
    expect([answer.status, answer.headers.get('content-type')]).toEqual([504, 'application/problem+json'])
    const { title, detail } = (await answer.json()) as { title: string; detail: string }
    expect(title).toBe('Query took too long')
    expect(detail).toContain('Narrow it')
    expect(detail).not.toMatch(/statement|select/i)
  }
  expect((await curfew.call('GET', '/v1/deliveries')).status).toBe(200)
})

test('a dry run of a replay that takes too long is a 504 too', async () => {
  const answer = await locked('deliveries', () =>
    curfew.call('POST', '/v1/dead-letters/replay', { filter: {}, dry_run: true }),
  )
  expect(answer.status).toBe(504)
})

test('one credential has at most two running reads and sixteen waiting reads, and blocks no other reads or changes', async () => {
  const key = curfew.keyFor('deadletters:read')
  const statuses = await locked('replays', async () => {
    const read = (bearer: string) =>
      curfew
        .call('GET', `/v1/replays/${randomUUID()}`, undefined, { authorization: `Bearer ${bearer}` })
        .then(({ status, headers }) => [status, headers.get('retry-after')])
    const reads = Promise.all(Array.from({ length: 40 }, () => read(key)))
    await eventually(async () => {
      const { rows } = await curfew.db.query<{ count: number }>(
        "select count(*)::int as count from pg_locks where relation = 'replays'::regclass and not granted",
      )
      expect(rows[0]?.count).toBeGreaterThan(0)
      expect(rows[0]?.count).toBeLessThanOrEqual(2)
    })
    const changed = await curfew.call('PUT', `/v1/issuers/${ISSUER}`, { iss: 'https://idp.example' })
    expect(changed.status).toBe(200)
    expect((await curfew.call('GET', '/v1/deliveries')).status).toBe(200)
    return reads
  })
  const refused = statuses.filter(([status]) => status === 429)
  expect(refused.length).toBeGreaterThan(0)
  expect(refused.length).toBeLessThanOrEqual(24)
  expect(refused.every(([, after]) => after === '2')).toBe(true)
  expect([...new Set(statuses.map(([status]) => status))].sort()).toEqual(expect.arrayContaining([429, 504]))
})

test('a HEAD request counts as one read', async () => {
  const key = curfew.keyFor('ledger:read')
  const heads = await Promise.all(
    Array.from({ length: 12 }, () =>
      curfew.call('HEAD', '/v1/deliveries', undefined, { authorization: `Bearer ${key}` }),
    ),
  )
  expect(heads.map(({ status }) => status)).toEqual(Array.from({ length: 12 }, () => 200))
})
