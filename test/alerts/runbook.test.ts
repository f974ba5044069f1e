import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { createClient } from '@curfew/client'
import type { Jwks } from '@curfew/contract'
import type { Database } from '@curfew/ledger'
import { afterEach, expect, test } from 'vitest'
import { freePort } from '../../deploy/server/ports.ts'
import { type Member, openCluster } from '../chaos/cluster.ts'
import { eventually, ISS, ISSUER } from '../support/curfew.ts'
import { createTestDatabase } from '../support/database.ts'
import { differenceOfText } from '../support/docs-compare.ts'
import { readPages } from '../support/docs-pages.ts'
import { openShell } from '../support/docs-shell.ts'
import { startStandalone, useProcesses } from '../support/processes.ts'
import { openRelyingParty } from '../support/relying-party.ts'
import { FAULT_PAGES } from './fault-pages.ts'

// Goal: the operator who follows a page of the runbook finds the fault, ends it, and sees that it is over.
// Method: each page's own commands run against a Curfew with that fault. A fence with `scene=NAME` first lets that happen which the
// page asks of another person, such as the owner of the relying party.

const processes = useProcesses()
const stack: AsyncDisposable[] = []
afterEach(async () => {
  for (const each of stack.splice(0).reverse()) await each[Symbol.asyncDispose]()
})
const TEST_MS = 240_000
const CLIENT = 'crm'

type Scenes = Readonly<Record<string, () => Promise<unknown>>>

/** Runs the commands of a page in order, and compares their output with the page. */
async function follow(name: string, env: Readonly<Record<string, string>>, scenes: Scenes): Promise<void> {
  const page = readPages().find(({ path }) => path === `docs/sre/runbook/${name}.md`)
  if (page === undefined) throw new Error(`the runbook has no page ${name}`)
  const shell = openShell({ env, realNpx: false })
  const played: string[] = []
  let output = ''
  try {
    for (const { language, text: script, attributes, line } of page.blocks) {
      if (attributes.scene !== undefined) {
        await scenes[attributes.scene]?.()
        played.push(attributes.scene)
      }
      if (language === 'sh') {
        const ran = await shell.run(script, Number(attributes.exit ?? 0))
        output = ran.stdout
        expect(ran.fault, `${name}:${line}\n${script}\n${ran.stdout}\n${ran.stderr}`).toBeNull()
      } else if (language === 'text') {
        expect(differenceOfText(script, output), `${name}:${line}\n${output}`).toBeNull()
      }
    }
  } finally {
    shell.close()
  }
  expect(played).toEqual(Object.keys(scenes))
}

async function openStandalone() {
  const database = await createTestDatabase()
  stack.push(database)
  const { url, adminKey, client } = await startStandalone(processes, {
    dataFolder: await processes.dataFolder(),
    env: { DATABASE_URL: database.url, CURFEW_ALLOWED_NETWORKS: '127.0.0.0/8' },
    timeoutMs: 60_000,
  })
  return { client, db: database.db, env: { CURFEW_URL: url, CURFEW_KEY: adminKey ?? '' } }
}

test('every page with a fault of its own is followed here', () => {
  expect(FAULT_PAGES.map((path) => path.replace(/^.*\/|\.md$/g, ''))).toEqual([
    'endpoint-unavailable',
    'dead-letters',
    'no-worker',
    'no-bookkeeper',
  ])
})

test('a relying party is unavailable', { timeout: TEST_MS }, async () => {
  const { client, env } = await openStandalone()
  await client.putIssuer(ISSUER, { iss: ISS })
  const rp = await openRelyingParty({ client }, { clientId: CLIENT, metadata: { client_name: 'CRM' } })
  stack.push(rp)
  await rp.goDown()
  const health = async () => (await client.getRelyingPartyHealth(ISSUER, CLIENT)).endpoints[0]
  await client.postLogoutEvents(Array.from({ length: 7 }, (_, n) => ({ iss: ISS, sub: `user-${n}` })))
  await eventually(async () => {
    expect(await health()).toMatchObject({ breaker: { state: 'open' }, waiting: 7 })
  })
  await follow('endpoint-unavailable', env, {
    recovered: async () => {
      await rp.comeUp()
      await expect
        .poll(health, { timeout: 120_000, interval: 200 })
        .toMatchObject({ breaker: { state: 'closed' }, waiting: 0 })
    },
  })
  expect(rp.received).toHaveLength(7)
})

test('the identity provider does not publish the key after a rotation', { timeout: TEST_MS }, async () => {
  const { client, db, env } = await openStandalone()
  let published: Jwks = { keys: [] }
  const iss = await openProvider(() => published)
  await client.putIssuer(ISSUER, { iss })
  // The relying party verifies with the keys of the identity provider.
  const its = { client: { ...client, getJwks: async () => published } }
  const rp = await openRelyingParty(its, { clientId: CLIENT, iss, metadata: { client_name: 'CRM' } })
  stack.push(rp)
  published = await client.getJwks(ISSUER)
  await client.rotateKeys(ISSUER, { immediately: true })
  // A worker uses a copy of the keys that may be two minutes old.
  let posted = 0
  await expect
    .poll(
      async () => {
        await client.postLogoutEvent({ iss, sub: `user-${++posted}` })
        const { items } = await client.listDeliveries({ client_id: CLIENT, state: 'pending' })
        return items.length
      },
      { timeout: 150_000, interval: 1_000 },
    )
    .toBeGreaterThan(0)
  await untilDead(db, async () => (await client.listDeadLetters({ client_id: CLIENT })).items.length)
  await follow('dead-letters', env, {
    published: async () => {
      published = await client.getJwks(ISSUER)
    },
    replayed: () =>
      eventually(async () => {
        const { items } = await client.listDeliveries({ client_id: CLIENT, state: 'pending' })
        expect(items).toEqual([])
      }),
  })
})

/** Lets the attempts after a refusal, which take ten minutes, follow at once. */
async function untilDead(db: Database, count: () => Promise<number>): Promise<void> {
  await expect
    .poll(
      async () => {
        await db.query(`update deliveries set due_at = now() where state = 'pending'`)
        return await count()
      },
      { timeout: 60_000, interval: 500 },
    )
    .toBeGreaterThan(0)
}

test('no delivery worker runs, and then no bookkeeper', { timeout: 2 * TEST_MS }, async () => {
  const database = await createTestDatabase()
  stack.push(database)
  const { cluster, env, id, delivery, bookkeeper } = await openWithoutWorker(database.url)
  const apart = cluster.members
  await untilMissing(apart, 'workers')
  const events = `${apart[0]?.url}/v1/logout-events/${id}`
  const unplanned = await fetch(events, { headers: { authorization: `Bearer ${cluster.key}` } })
  expect([unplanned.status, await unplanned.text()]).toEqual([
    404,
    expect.stringContaining('no delivery worker is alive'),
  ])
  await follow('no-worker', env, {
    started: async () => {
      delivery.start()
      await expect
        .poll(() => cluster.tallies.map(({ times }) => times.get(id)), { timeout: 90_000, interval: 200 })
        .toEqual([1, 1])
      await untilWell(apart)
    },
  })

  await bookkeeper.stop()
  const left = apart.filter((member) => member !== bookkeeper)
  await untilMissing(left, 'bookkeepers')
  await follow('no-bookkeeper', env, {
    started: async () => {
      bookkeeper.start()
      await untilWell(apart)
    },
  })
})

/** Starts each service except a delivery worker, behind a proxy, and posts a logout. */
async function openWithoutWorker(databaseUrl: string) {
  const keys = { CURFEW_MASTER_KEY: randomBytes(32).toString('base64url') }
  const roles = ['ingest', 'console', 'bookkeeper'] as const
  const cluster = await openCluster(processes, {
    ...{ brokers: [], database: { url: databaseUrl }, roles, env: keys },
  })
  stack.push(cluster)
  const [ingest, console, bookkeeper] = cluster.members
  if (ingest === undefined || console === undefined || bookkeeper === undefined)
    throw new Error('a service is missing')
  const url = await openProxy({ ingest: ingest.url, console: console.url })
  const { id } = await createClient({ url, key: cluster.key }).postLogoutEvent({ iss: ISS, sub: 'alice' })
  const port = String(await freePort())
  const delivery = {
    start: () =>
      processes.start({
        name: 'delivery',
        file: 'services/delivery/src/main.ts',
        env: {
          ...{ ...keys, DATABASE_URL: databaseUrl, CURFEW_ALLOWED_NETWORKS: '127.0.0.0/8' },
          ...{ HOST: '127.0.0.1', PORT: port, LOG_LEVEL: 'warn' },
        },
      }),
  }
  const env = { CURFEW_URL: url, CURFEW_KEY: cluster.key, ID: id }
  return { cluster, env, id, delivery, bookkeeper }
}

const patiently = { timeout: 90_000, interval: 500 }

async function stateOf({ url }: Member) {
  const response = await fetch(`${url}/readyz`)
  const { degraded } = (await response.json()) as { readonly degraded: readonly string[] }
  const metrics = await (await fetch(`${url}/metrics`)).text()
  const alive = (kind: string) => Number(new RegExp(`^curfew_${kind}_alive (\\d+)$`, 'm').exec(metrics)?.[1])
  return {
    ...{ status: response.status, degraded },
    alive: { workers: alive('workers'), bookkeepers: alive('bookkeepers') },
  }
}

/** Waits until each of the services reports that no worker, or no bookkeeper, is alive. They stay ready. */
async function untilMissing(members: readonly Member[], kind: 'workers' | 'bookkeepers'): Promise<void> {
  const missing = {
    status: 200,
    degraded: expect.arrayContaining([kind]),
    alive: { workers: 1, bookkeepers: 1, [kind]: 0 },
  }
  await expect.poll(() => Promise.all(members.map(stateOf)), patiently).toEqual(members.map(() => missing))
}

async function untilWell(members: readonly Member[]): Promise<void> {
  const well = { status: 200, degraded: [], alive: { workers: 1, bookkeepers: 1 } }
  await expect.poll(() => Promise.all(members.map(stateOf)), patiently).toEqual(members.map(() => well))
}

/** Serves discovery and a key set. @returns its address. */
async function openProvider(keys: () => Jwks): Promise<string> {
  const iss: string = await serve((request, response) => {
    const body = request.url === '/certs' ? keys() : { issuer: iss, jwks_uri: `${iss}/certs` }
    response.setHeader('content-type', 'application/json').end(JSON.stringify(body))
  })
  return iss
}

/** The proxy that docs/operate/run.md asks for. @returns its address. */
async function openProxy(urls: { readonly ingest: string; readonly console: string }): Promise<string> {
  return serve(async (request, response) => {
    const { method = '', url: path = '', headers } = request
    const isIngest = /^\/v1\/logout-events(?:$|\/[^/]+(?:\/summary)?(?:\?|$))/.test(path)
    const answer = await fetch(`${isIngest ? urls.ingest : urls.console}${path}`, {
      method,
      headers: {
        authorization: headers.authorization ?? '',
        'content-type': headers['content-type'] ?? 'application/json',
      },
      body: method === 'GET' ? null : await text(request),
    })
    for (const [name, value] of answer.headers)
      if (!/^(?:transfer-encoding|content-length|connection|content-encoding)$/.test(name))
        response.setHeader(name, value)
    response.writeHead(answer.status).end(await answer.text())
  })
}

async function serve(
  handle: (request: IncomingMessage, response: ServerResponse) => unknown,
): Promise<string> {
  const server = createServer(handle)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  stack.push({
    async [Symbol.asyncDispose]() {
      server.close()
      server.closeAllConnections()
    },
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}
