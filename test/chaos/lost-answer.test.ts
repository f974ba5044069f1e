import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { type Standalone, startStandalone, useProcesses } from '../support/processes.ts'
import { ISS, openTally, register, type Tally } from './load.ts'

// Goal: PostgreSQL carries out a statement, and its answer is lost with the connection. No logout is lost, and none stays under a
// lease that no worker knows. Method: `curfew up` reaches its database through a proxy that cuts the connection when the answer
// to the chosen statement arrives.

/** A proxy to PostgreSQL that can lose one answer. */
interface AnswerDropper {
  readonly url: string
  /**
   * Waits for the next answer to `statement` that contains `text`, drops the answer and cuts its connection. Resolves when that
   * has happened.
   */
  dropAnswer(statement: string, text?: string): Promise<void>
  /** Cuts every connection, and refuses new ones until `during` resolves. */
  cut(during: () => Promise<void>): Promise<void>
  close(): Promise<void>
}

async function openAnswerDropper(target: string): Promise<AnswerDropper> {
  const { hostname, port } = new URL(target)
  const sockets = new Set<Socket>()
  let wanted: { readonly statement: string; readonly text: string; done(): void } | null = null
  let unavailable = false
  const server = createServer((near) => {
    if (unavailable) {
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
      // PostgreSQL answers after the commit, because no statement here is part of a longer transaction.
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
  // The server's own Unix socket would bypass the proxy.
  url.searchParams.delete('host')
  return {
    url: url.href,
    dropAnswer: (statement, text = '') =>
      new Promise((done) => {
        wanted = { statement, text, done }
      }),
    async cut(during) {
      unavailable = true
      for (const socket of sockets) socket.destroy()
      await during()
      unavailable = false
    },
    async close() {
      server.close()
      for (const socket of sockets) socket.destroy()
    },
  }
}

const processes = useProcesses('file')
let database: TestDatabase
let dropper: AnswerDropper
let curfew: Standalone
let tally: Tally

beforeAll(async () => {
  database = await createTestDatabase()
  dropper = await openAnswerDropper(database.url)
  curfew = await startStandalone(processes, {
    dataFolder: await processes.dataFolder(),
    env: {
      DATABASE_URL: dropper.url,
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
  await dropper.close()
  await database.drop()
})

async function expectDelivered(id: string): Promise<void> {
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
])('a logout is delivered and acknowledged although the answer to %s is lost', async (statement) => {
  const dropped = dropper.dropAnswer(statement)
  const { id } = await curfew.client.postLogoutEvent({ iss: ISS, sub: statement })
  await dropped
  await expectDelivered(id)
})

test('a claimed delivery is sent and acknowledged although the answer to claim_due is lost', async () => {
  // Fails the first try and both quick retries. The delivery is then due later, and must be claimed.
  tally.fail(3)
  const dropped = dropper.dropAnswer('claim_due', ISS)
  const { id } = await curfew.client.postLogoutEvent({ iss: ISS, sub: 'claim_due' })
  await dropped
  await expectDelivered(id)
  expect(tally.times.get(id)).toBe(4)
})

test.each(['plan_events', 'claim_due'])(
  'a logout is delivered although the answer to %s is lost and PostgreSQL is unavailable for three days',
  async (statement) => {
    if (statement === 'claim_due') tally.fail(3)
    const dropped = dropper.dropAnswer(statement, statement === 'claim_due' ? ISS : '')
    const { id } = await curfew.client.postLogoutEvent({ iss: ISS, sub: `${statement} and an outage` })
    await dropped
    await dropper.cut(async () => {
      // Three days pass for the ledger while the worker waits. The worker is still alive afterwards.
      for (const table of ['deliveries', 'leases']) {
        await database.db.query(`update ${table} set leased_at = leased_at - interval '3 days'`)
      }
      const { rows } = await database.db.query("select from deliveries where state = 'in_flight'")
      expect(rows).toHaveLength(1)
    })
    await expectDelivered(id)
  },
)
