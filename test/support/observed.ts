import { spawn } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Client } from '@curfew/client'
import { createPostgresEventLog, type Database } from '@curfew/ledger'
import { freePort } from '../../deploy/server/ports.ts'
import { end, untilReady } from '../../deploy/server/process.ts'
import { eventually, ISS, ISSUER } from './curfew.ts'
import { createTestDatabase, type TestDatabase } from './database.ts'
import { type Processes, startStandalone } from './processes.ts'
import { openRelyingParty } from './relying-party.ts'

// A running standalone with traffic of every kind, scraped by a real Prometheus. Queries of dashboards and alerts are asked there.

/** One series of an answer. */
export interface Sample {
  readonly labels: Readonly<Record<string, string>>
  /** Can be NaN or infinite. */
  readonly value: number
}

export interface Observed extends AsyncDisposable {
  /** The address of Curfew. */
  readonly url: string
  readonly adminKey: string
  /** Uses the admin key. */
  readonly client: Client
  readonly db: Database
  /** The address of Prometheus. */
  readonly prometheusUrl: string
  /** Evaluates PromQL, as of now. @throws {Error} with the words of Prometheus, if it refuses the expression. */
  query(expr: string): Promise<readonly Sample[]>
  /** Repeats a query until it has a result. @throws {Error} if there is none after `timeoutMs`. */
  until(expr: string, timeoutMs?: number): Promise<readonly Sample[]>
  close(): Promise<void>
}

/** The label `job` of the scraped Curfew. */
export const JOB = 'curfew'
/** The clients, by what becomes of their deliveries. `crm` is refused for good, and has an orphaned session. */
export const CLIENTS = { acknowledged: 'mail', deadLettered: 'crm', unavailable: 'wiki' } as const
const SCRAPE_MS = 500
const START_TIMEOUT_MS = 60_000
/** The slowest values are counted each minute. */
const VALUE_TIMEOUT_MS = 150_000

/**
 * Starts `curfew up` and Prometheus. Resolves when the traffic is scraped: acknowledged deliveries, dead letters, an open breaker
 * with waiting deliveries, an orphaned session, a quarantined record and a refused post to the relay.
 *
 * @param options.prometheus the path of the server's program.
 */
export async function openObserved({
  processes,
  prometheus,
}: {
  readonly processes: Processes
  readonly prometheus: string
}): Promise<Observed> {
  const stack = new AsyncDisposableStack()
  try {
    const database = stack.use(await createTestDatabase())
    const { url, adminKey, client } = await startStandalone(processes, {
      dataFolder: await processes.dataFolder(),
      env: { DATABASE_URL: database.url, CURFEW_ALLOWED_NETWORKS: '127.0.0.0/8' },
      timeoutMs: START_TIMEOUT_MS,
    })
    const prometheusUrl = await startPrometheus(stack, prometheus, new URL(url).host)
    const query = (expr: string) => ask(prometheusUrl, expr)
    const until = (expr: string, timeoutMs = VALUE_TIMEOUT_MS) => resultOf(query, expr, timeoutMs)
    await makeTraffic({ stack, url, client, database, until })
    const resources = stack.move()
    const close = () => resources.disposeAsync()
    return {
      ...{ url, adminKey: adminKey ?? '', client, db: database.db, prometheusUrl },
      ...{ query, until, close, [Symbol.asyncDispose]: close },
    }
  } finally {
    // Ends everything if the start failed. Otherwise its resources have moved.
    await stack.disposeAsync()
  }
}

async function makeTraffic({
  stack,
  url,
  client,
  database,
  until,
}: {
  readonly stack: AsyncDisposableStack
  readonly url: string
  readonly client: Client
  readonly database: TestDatabase
  readonly until: Observed['until']
}): Promise<void> {
  await client.putIssuer(ISSUER, { iss: ISS })
  stack.use(await openRelyingParty({ client }, { clientId: CLIENTS.acknowledged }))
  const crm = stack.use(
    await openRelyingParty({ client }, { clientId: CLIENTS.deadLettered, curfew: { retry_schedule_ms: [] } }),
  )
  crm.behave({ status: 503, body: 'maintenance' })
  const wiki = stack.use(await openRelyingParty({ client }, { clientId: CLIENTS.unavailable }))
  await wiki.goDown()

  const expiresAt = new Date(Date.now() + 3_600_000).toISOString()
  const session = { iss: ISS, sub: 'orphan', sid: 'orphan', client_id: crm.clientId, expires_at: expiresAt }
  await client.postSession(session)
  await eventually(async () => {
    const { items } = await client.listSessions({ iss: ISS, sid: 'orphan' })
    if (items.length === 0) throw new Error('the session is not in the index yet')
  })
  await client.postLogoutEvent({ iss: ISS, sid: 'orphan', sub: 'orphan' })
  await postToRelay(url)
  await quarantineRecord(database)

  // Rates need two values of a counter.
  await client.postLogoutEvents(logouts('first'))
  await until(`curfew_deliveries_settled_total{job="${JOB}",state="acknowledged"}`)
  await client.postLogoutEvents(logouts('second'))
  await until('curfew_deliveries_settled_total{state="dead_lettered"}')
  await until('curfew_breakers_open > 0')
  await until('curfew_quarantined_records > 0')
  await until('curfew_sessions_orphaned > 0')
}

const logouts = (batch: string) => Array.from({ length: 10 }, (_, n) => ({ iss: ISS, sub: `${batch}-${n}` }))

/** Posts a text that is no logout token to the relay. */
async function postToRelay(url: string): Promise<void> {
  const address = `${url}/relay/${ISSUER}/${CLIENTS.acknowledged}`
  const { status } = await fetch(address, {
    method: 'POST',
    body: new URLSearchParams({ logout_token: 'none' }),
  })
  if (status !== 400) throw new Error(`the relay answered ${status} to a text that is no token`)
}

/** Appends a record that no release of Curfew would write. */
async function quarantineRecord({ db, url }: TestDatabase): Promise<void> {
  const eventLog = createPostgresEventLog({ db, url })
  const value = new TextEncoder().encode('no JSON')
  await eventLog.append([{ lane: 'interactive', key: 'unreadable', value, headers: {} }])
  await eventLog.close()
}

/** Starts Prometheus. @returns its address. */
async function startPrometheus(
  stack: AsyncDisposableStack,
  program: string,
  target: string,
): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'curfew-prometheus-'))
  stack.defer(() => rm(folder, { recursive: true, force: true, maxRetries: 5 }))
  const configuration = {
    global: { scrape_interval: `${SCRAPE_MS}ms`, scrape_timeout: `${SCRAPE_MS}ms` },
    scrape_configs: [{ job_name: JOB, static_configs: [{ targets: [target] }] }],
  }
  // JSON is YAML.
  const file = join(folder, 'prometheus.yaml')
  await writeFile(file, JSON.stringify(configuration))
  const address = `127.0.0.1:${await freePort()}`
  const child = spawn(
    program,
    [
      `--config.file=${file}`,
      `--storage.tsdb.path=${join(folder, 'data')}`,
      `--web.listen-address=${address}`,
    ],
    { stdio: ['ignore', 'pipe', 'pipe'] },
  )
  const killAtOnce = () => void child.kill('SIGKILL')
  process.once('exit', killAtOnce)
  stack.defer(async () => {
    await end(child, 'SIGKILL')
    process.off('exit', killAtOnce)
  })
  await untilReady(child, {
    server: 'Prometheus',
    says: 'Server is ready to receive web requests',
    timeoutMs: START_TIMEOUT_MS,
  })
  return `http://${address}`
}

interface Answer {
  readonly error?: string
  readonly data?: {
    readonly resultType: 'vector' | 'scalar'
    readonly result:
      | readonly { readonly metric: Readonly<Record<string, string>>; readonly value: [number, string] }[]
      | [number, string]
  }
}

async function ask(prometheusUrl: string, expr: string): Promise<readonly Sample[]> {
  const response = await fetch(`${prometheusUrl}/api/v1/query`, {
    method: 'POST',
    body: new URLSearchParams({ query: expr }),
  })
  const { data, error = `HTTP ${response.status}` } = (await response.json()) as Answer
  if (data === undefined) throw new Error(`Prometheus refuses ${expr}: ${error}`)
  const series =
    data.resultType === 'scalar'
      ? [{ metric: {}, value: data.result as [number, string] }]
      : (data.result as readonly { metric: Record<string, string>; value: [number, string] }[])
  // Prometheus writes +Inf and -Inf.
  return series.map(({ metric, value: [, text] }) => ({
    labels: metric,
    value: Number(text.replace('Inf', 'Infinity')),
  }))
}

async function resultOf(
  query: Observed['query'],
  expr: string,
  timeoutMs: number,
): Promise<readonly Sample[]> {
  for (const deadline = Date.now() + timeoutMs; ; await new Promise((next) => setTimeout(next, SCRAPE_MS))) {
    const found = await query(expr)
    if (found.length > 0) return found
    if (Date.now() > deadline) throw new Error(`${expr} has no result after ${timeoutMs} ms`)
  }
}
