import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { open, readdir, readFile, rename, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type pg from 'pg'
import { clearUnfinished, credentials, environment, makeCluster, readPassword } from './cluster.ts'
import { EmbeddedPostgresFailedError } from './errors.ts'
import {
  type Cluster,
  connect,
  endOrphan,
  endServer,
  lockOwnership,
  START_TIMEOUT_MS,
  socketFolder,
  tryConnect,
  urlOf,
} from './orphan.ts'
import { exists, findPlace } from './place.ts'

export { EmbeddedPostgresFailedError, EmbeddedPostgresInUseError } from './errors.ts'

export interface EmbeddedPostgresOptions {
  /** Folder for the database and its log, made if it is missing. Nothing else should lie in it. */
  readonly dataDir: string
  /** Receives messages for the operator, one sentence each. */
  readonly log: (line: string) => void
  /** Server settings that override ours, as in `postgresql.conf`. */
  readonly settings?: Readonly<Record<string, string>>
  /** False only in tests: nothing is flushed to disk. The data survive a kill of the server, not a crash of the machine. */
  readonly durable?: boolean
}

/** A running PostgreSQL that belongs to this process. */
export interface EmbeddedPostgres {
  /** Connects to the database `curfew`, with its password: a secret. Stays the same while this process runs. */
  readonly url: string
  /** Process id of the server. It changes when the server crashes and is restarted. */
  readonly pid: number
  /** Stops the server with a fast shutdown, and with an immediate one if that takes too long. Idempotent. */
  stop(): Promise<void>
}

const SETTINGS: Readonly<Record<string, string>> = {
  listen_addresses: '127.0.0.1',
  cluster_name: 'curfew',
  max_connections: '200',
  shared_buffers: '128MB',
  effective_cache_size: '512MB',
  random_page_cost: '1.1',
  // The database has no replicas.
  wal_level: 'minimal',
  max_wal_senders: '0',
  max_wal_size: '1GB',
  synchronous_commit: 'on',
  // Our statements are short: JIT compilation and parallel workers cost more than they save.
  jit: 'off',
  max_parallel_workers_per_gather: '0',
  // Rows of the event log live only briefly.
  autovacuum_naptime: '5s',
  timezone: 'UTC',
  log_timezone: 'UTC',
  log_line_prefix: '%m [%p] ',
  log_checkpoints: 'off',
  // A failed statement may hold a subject. So may its detail, which shows the row.
  log_min_error_statement: 'panic',
  log_error_verbosity: 'terse',
}
const NOT_DURABLE: Readonly<Record<string, string>> = {
  fsync: 'off',
  full_page_writes: 'off',
}

const DATABASE = 'curfew'

const LOG_BYTES_MAX = 16 * 1_024 * 1_024
const BLOCKED_START_TIMEOUT_MS = 15_000

const HAS_DATABASE = 'select from pg_database where datname = $1'

/**
 * Opens the PostgreSQL in `dataDir` and makes it on first use. It listens only on loopback and on its own socket, with a
 * random password. A crashed server is restarted, and a later start finds the data again. A server whose owner was killed is
 * taken over.
 *
 * @throws {EmbeddedPostgresInUseError} when another living process has it open.
 * @throws {EmbeddedPostgresFailedError} when it does not start.
 */
export async function openEmbeddedPostgres({
  dataDir,
  log,
  settings = {},
  durable = true,
}: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  const place = await findPlace(dataDir, log)
  const cluster = join(place.folder, 'cluster')
  await clearUnfinished(place.folder)
  if (!(await exists(cluster))) await makeCluster(place, cluster, durable)
  const password = await readPassword(cluster)
  const sockets = { unix_socket_directories: socketFolder(cluster) ?? '' }
  const all = { ...SETTINGS, ...sockets, ...settings, ...(durable ? {} : NOT_DURABLE) }
  const context: Cluster = { place, folder: cluster, password, settings: all, log }

  const stopping = new AbortController()
  let server = await startServer(context, findFreePort, stopping.signal)
  const port = server.port

  async function supervise(): Promise<void> {
    for (;;) {
      await server.exited
      if (stopping.signal.aborted) return
      log('PostgreSQL ended unexpectedly; restarting it')
      server = await restart()
    }
  }
  async function restart(): Promise<Server> {
    for (let pauseMs = 100; ; pauseMs = Math.min(pauseMs * 2, 5_000)) {
      try {
        return await startServer(context, async () => port, stopping.signal)
      } catch (error) {
        if (stopping.signal.aborted) return server
        log(`PostgreSQL could not be restarted: ${describe(error)}`)
      }
      await sleep(pauseMs, undefined, { signal: stopping.signal }).catch(ignore)
    }
  }
  const supervised = supervise()
  // The last act of a process that ends without stop(). It spares the next start the takeover.
  const onExit = () => server.interrupt()
  process.once('exit', onExit)

  let stopped: Promise<void> | null = null
  return {
    url: urlOf(password, port, DATABASE, socketFolder(cluster)),
    get pid() {
      return server.pid
    },
    stop() {
      stopped ??= (async () => {
        stopping.abort()
        await server.stop()
        await supervised
        await server.stop()
        process.off('exit', onExit)
      })()
      return stopped
    },
  }
}

interface Server {
  readonly pid: number
  readonly port: number
  /** Resolves when its process has ended. */
  readonly exited: Promise<void>
  interrupt(): void
  stop(): Promise<void>
}

/** Starts the server when no other process has it. Resolves when the server answers and we own it. */
async function startServer(
  context: Cluster,
  choosePort: () => Promise<number>,
  signal: AbortSignal,
): Promise<Server> {
  const { place, folder, settings } = context
  const logPath = join(place.folder, 'postgres.log')
  const blockedUntil = Date.now() + BLOCKED_START_TIMEOUT_MS
  for (;;) {
    await endOrphan(context)
    await clearSockets(folder)
    const port = await choosePort()
    const logFile = await openLog(logPath)
    const { size: logStart } = await logFile.stat()
    const all = Object.entries({ ...settings, port: String(port) })
    const child = spawn(
      place.postgres,
      ['-D', folder, ...all.flatMap(([name, value]) => ['-c', `${name}=${value}`])],
      {
        cwd: place.folder,
        env: environment(),
        stdio: ['ignore', logFile.fd, logFile.fd],
        // Outside our process group: Ctrl-C in a terminal signals the whole group, and we need the server while we drain.
        detached: process.platform !== 'win32',
        ...credentials(place.runAs),
      },
    )
    const exited = once(child, 'exit').then(ignore, ignore)
    await logFile.close()
    const server = await takeOwnership(context, child, exited, port, signal)
    if (server !== null) return server
    const output = (await readFile(logPath, 'utf8')).slice(logStart).trim().slice(-2_000)
    const blocked = /already exists|already in use|still in use/.test(output)
    if (!blocked || Date.now() > blockedUntil || signal.aborted) {
      throw new EmbeddedPostgresFailedError(`PostgreSQL did not start in ${folder}: ${output}`)
    }
    await sleep(200)
  }
}

/** Removes the sockets that a killed server left. Another process may have its pid, which their lock files name. */
async function clearSockets(cluster: string): Promise<void> {
  const left = (await readdir(cluster)).filter((name) => name.startsWith('.s.PGSQL.'))
  await Promise.all(left.map((name) => rm(join(cluster, name), { force: true })))
}

/** Waits until the server answers, then takes its ownership lock for the life of this process. Null if the server ended. */
async function takeOwnership(
  context: Cluster,
  child: ChildProcess,
  exited: Promise<void>,
  port: number,
  signal: AbortSignal,
): Promise<Server | null> {
  let running = true
  const ended = exited.then(() => {
    running = false
  })
  const server: Server = {
    pid: child.pid ?? -1,
    port,
    exited,
    interrupt: () => {
      if (running) child.kill('SIGINT')
    },
    stop: async () => {
      if (running)
        await endServer(
          async () => running,
          (name) => child.kill(name),
        )
      await owner?.end().catch(ignore)
    },
  }
  let owner: pg.Client | null = null

  async function own(deadline: number): Promise<boolean> {
    while (running && !signal.aborted) {
      const client = await tryConnect(context.password, port)
      if (client !== null && (await lockOwnership(client))) {
        owner = client
        client.once('end', () => {
          // An administrator may end this connection, and a crashed backend ends all of them. The server is still ours.
          if (running && !signal.aborted) own(Number.POSITIVE_INFINITY).catch(ignore)
        })
        return true
      }
      await client?.end().catch(ignore)
      if (Date.now() > deadline) return false
      await Promise.race([sleep(20), ended])
    }
    return false
  }

  try {
    if (!(await own(Date.now() + START_TIMEOUT_MS))) {
      if (!running) return null
      throw new EmbeddedPostgresFailedError(
        `PostgreSQL in ${context.folder} does not answer, or another process has its ownership lock; stop that process and start again`,
      )
    }
    await makeDatabase(context.password, port)
    return server
  } catch (error) {
    await server.stop()
    throw error
  }
}

async function makeDatabase(password: string, port: number): Promise<void> {
  const client = await connect(password, port)
  try {
    const { rowCount } = await client.query(HAS_DATABASE, [DATABASE])
    if (rowCount === 0) await client.query(`create database ${DATABASE}`)
  } finally {
    await client.end()
  }
}

async function openLog(path: string) {
  const file = await open(path, 'a', 0o600)
  if ((await file.stat()).size < LOG_BYTES_MAX) return file
  await file.close()
  await rename(path, `${path}.1`)
  return open(path, 'a', 0o600)
}

async function findFreePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1')
  await once(probe, 'listening')
  const address = probe.address()
  probe.close()
  await once(probe, 'close')
  return typeof address === 'object' && address !== null ? address.port : 0
}

function describe(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

function ignore(): undefined {
  return undefined
}
