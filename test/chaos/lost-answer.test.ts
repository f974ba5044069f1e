import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { type Standalone, startStandalone, useProcesses } from '../support/processes.ts'
import { ISS, openTally, register, type Tally } from './load.ts'

// Goal: a statement that PostgreSQL carried out, and whose answer got lost with the connection, neither loses a logout nor
// leaves it lying under a lease that nobody knows of. Method: `curfew up` reaches its database through a proxy that cuts
// the connection when the answer to the statement in question comes back.

/** A way to PostgreSQL that can lose one answer. */
interface Thief {
  readonly url: string
  /**
   * Cuts the next connection on which `statement` is answered, with `text` in the answer, and keeps the answer. Resolves
   * when that is done.
   */
  steal(statement: string, text?: string): Promise<void>
  /** Cuts every connection, and refuses new ones for as long as `during` lasts. */
  cut(during: () => Promise<void>): Promise<void>
  close(): Promise<void>
}

async function openThief(target: string): Promise<Thief> {
  const { hostname, port } = new URL(target)
  const sockets = new Set<Socket>()
  let wanted: { readonly statement: string; readonly text: string; done(): void } | null = null
  let away = false
  const server = createServer((near) => {
    if (away) {
      near.destroy()
      return
    }
    const far = connect(Number(port), hostname)
    let asked: typeof wanted = null
    near.on('data', (chunk) => {
      if (wanted !== null && chunk.includes(`\0${wanted.statement}\0`)) {
        asked = wanted
        wanted = null
      }
      far.write(chunk)
    })
    far.on('data', (chunk) => {
      if (asked === null || !chunk.includes(asked.text)) {
        wanted ??= asked
        asked = null
        near.write(chunk)
        return
      }
      // PostgreSQL answers after the commit: nothing here is a transaction of several statements.
      near.destroy()
      asked.done()
      asked = null
    })
    for (const [socket, other] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(socket)
      socket.setNoDelay(true)
      socket.on('error', () => other.destroy())
      socket.on('close', () => {
        sockets.delete(socket)
        other.destroy()
      })
    }
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  const url = new URL(target)
  url.port = String(typeof address === 'object' ? address?.port : '')
  // Not by the server's own socket, past us.
  url.searchParams.delete('host')
  return {
    url: url.href,
    steal: (statement, text = '') =>
      new Promise((done) => {
        wanted = { statement, text, done }
      }),
    async cut(during) {
      away = true
      for (const socket of sockets) socket.destroy()
      await during()
      away = false
    },
    async close() {
      server.close()
      for (const socket of sockets) socket.destroy()
    },
  }
}

const processes = useProcesses('file')
let database: TestDatabase
let thief: Thief
let curfew: Standalone
let tally: Tally

beforeAll(async () => {
  database = await createTestDatabase()
  thief = await openThief(database.url)
  curfew = await startStandalone(processes, {
    dataFolder: await processes.dataFolder(),
    env: {
      DATABASE_URL: thief.url,
      CURFEW_ADMIN_KEY: `cfw_${randomBytes(32).toString('base64url')}`,
      CURFEW_ALLOWED_NETWORKS: '127.0.0.0/8',
      CURFEW_LEASE_MS: '1000',
    },
  })
  tally = await openTally('mail')
  await register(curfew.client, [tally])
})
afterAll(async () => {
  await processes.end()
  await tally.close()
  await thief.close()
  await database.drop()
})

async function expectTold(id: string): Promise<void> {
  await expect
    .poll(() => curfew.client.getLogoutEvent(id).catch(() => null), { timeout: 12_000, interval: 50 })
    .toMatchObject({ status: 'settled', acknowledged: 1, total: 1 })
}

test.each([
  'append_log_records',
  'fetch_log_records',
  'plan_events',
  'commit_log_records',
  'settle_deliveries',
  'beat',
])('the answer to %s is lost: the logout is told, and acknowledged', async (statement) => {
  const stolen = thief.steal(statement)
  const { id } = await curfew.client.postLogoutEvent({ iss: ISS, sub: statement })
  await stolen
  await expectTold(id)
})

test('the answer to claim_due is lost, with a delivery in it: it is told, and acknowledged', async () => {
  // The first try and both quick retries: then it is due later, and has to be claimed.
  tally.fail(3)
  const stolen = thief.steal('claim_due', ISS)
  const { id } = await curfew.client.postLogoutEvent({ iss: ISS, sub: 'claim_due' })
  await stolen
  await expectTold(id)
  expect(tally.times.get(id)).toBe(4)
})

test.each(['plan_events', 'claim_due'])(
  'the answer to %s is lost, and PostgreSQL is unavailable for longer than anything waits: the logout is told',
  async (statement) => {
    if (statement === 'claim_due') tally.fail(3)
    const stolen = thief.steal(statement, statement === 'claim_due' ? ISS : '')
    const { id } = await curfew.client.postLogoutEvent({ iss: ISS, sub: `${statement} and an outage` })
    await stolen
    await thief.cut(async () => {
      // Three days pass for the ledger while the worker waits: it comes back, and still lives.
      for (const table of ['deliveries', 'leases']) {
        await database.db.query(`update ${table} set leased_at = leased_at - interval '3 days'`)
      }
      const { rows } = await database.db.query("select from deliveries where state = 'in_flight'")
      expect(rows).toHaveLength(1)
    })
    await expectTold(id)
  },
)
