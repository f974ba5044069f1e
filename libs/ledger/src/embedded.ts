import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { chown, mkdir, open, readdir, readFile, rename, rm, stat } from 'node:fs/promises'
import { createServer } from 'node:net'
import { basename, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { CurfewError } from '@curfew/domain'
import pg from 'pg'
import { isUnavailable } from './database.ts'
import {
  exists,
  findPlace,
  type Place,
  readIfThere,
  renameUnlessThere,
  replaceFile,
} from './embedded-place.ts'

export interface EmbeddedPostgresOptions {
  /** Folder for the database and its log; made if need be. Nothing else should lie in it. */
  readonly dataDir: string
  /** Told in a sentence of what an operator should know. */
  readonly log: (line: string) => void
  /** Server settings beside ours, as in `postgresql.conf`. */
  readonly settings?: Readonly<Record<string, string>>
  /** False only in tests: nothing is flushed to disk. It survives a kill of the server, not a crash of the machine. */
  readonly durable?: boolean
}

/** A running PostgreSQL that belongs to this process. */
export interface EmbeddedPostgres {
  /** Connects to its database `curfew`, password and all: a secret. Stays the same for as long as we run. */
  readonly url: string
  /** Process id of the server. Another one after the server crashed and was restarted. */
  readonly pid: number
  /** Stops the server: fast, and at once if that takes too long. Idempotent. */
  stop(): Promise<void>
}

/** Another living process uses this data folder. */
export class EmbeddedPostgresInUseError extends CurfewError {
  override readonly code = 'ERR_EMBEDDED_POSTGRES_IN_USE'
}

/** The embedded PostgreSQL did not start; the message has the end of its log. */
export class EmbeddedPostgresFailedError extends CurfewError {
  override readonly code = 'ERR_EMBEDDED_POSTGRES_FAILED'
}

const SETTINGS: Readonly<Record<string, string>> = {
  listen_addresses: '127.0.0.1',
  unix_socket_directories: '',
  cluster_name: 'curfew',
  max_connections: '200',
  shared_buffers: '128MB',
  effective_cache_size: '512MB',
  random_page_cost: '1.1',
  // Nobody replicates from it.
  wal_level: 'minimal',
  max_wal_senders: '0',
  max_wal_size: '1GB',
  synchronous_commit: 'on',
  // Our statements are short: compiling or spreading them costs more than it saves.
  jit: 'off',
  max_parallel_workers_per_gather: '0',
  // The event log's rows die young.
  autovacuum_naptime: '5s',
  timezone: 'UTC',
  log_timezone: 'UTC',
  log_line_prefix: '%m [%p] ',
  log_checkpoints: 'off',
  // A failed statement may hold a subject.
  log_min_error_statement: 'panic',
}
const NOT_DURABLE: Readonly<Record<string, string>> = {
  fsync: 'off',
  full_page_writes: 'off',
}

const USER = 'curfew'
const DATABASE = 'curfew'
/** In the cluster's own folder, so that cluster and password always come and go together. */
const PASSWORD_FILE = 'curfew-password'
const POSTGRES_MAJOR = '18'

const UNFINISHED = /^cluster\.[0-9a-f]+\.unfinished/
const UNFINISHED_AGE_MS = 120_000
const LOG_BYTES_MAX = 16 * 1_024 * 1_024
/** Recovery after a crash reads the log since the last checkpoint: seconds, on a slow disk a minute. */
const START_TIMEOUT_MS = 120_000
const BLOCKED_START_TIMEOUT_MS = 15_000
const FAST_STOP_TIMEOUT_MS = 10_000
const IMMEDIATE_STOP_TIMEOUT_MS = 5_000
/** How long another's ownership must last before we believe it: the server needs a moment to see that an owner was killed. */
const OWNED_PROOF_MS = 2_000

// Whoever holds this lock owns the server. A server whose lock is free lost its owner.
const LOCK_OWNERSHIP = 'select pg_try_advisory_lock(1129665102, 1) as locked'
const READ_SERVER = `
  select current_setting('data_directory') as data_directory,
         pg_postmaster_start_time() > clock_timestamp() - interval '2 seconds' as young`
const HAS_DATABASE = 'select from pg_database where datname = $1'

/**
 * Opens the PostgreSQL in `dataDir`, making it on first use. It listens on loopback only, with a random password. It is
 * restarted when it crashes, found again on the next start, and taken over from an owner that was killed.
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
  const version = (await readFile(join(cluster, 'PG_VERSION'), 'utf8')).trim()
  if (version !== POSTGRES_MAJOR) {
    throw new EmbeddedPostgresFailedError(
      `${cluster} was made by PostgreSQL ${version}; this release has ${POSTGRES_MAJOR}. Dump it with the release that made it, and restore it into a new folder`,
    )
  }
  const password = (await readFile(join(cluster, PASSWORD_FILE), 'utf8')).trim()
  const all = { ...SETTINGS, ...settings, ...(durable ? {} : NOT_DURABLE) }
  const context: Context = { place, cluster, password, settings: all, log }

  const stopping = new AbortController()
  let server = await startServer(context, findFreePort, stopping.signal)
  const port = server.port

  async function supervise(): Promise<void> {
    for (;;) {
      await server.exited
      if (stopping.signal.aborted) return
      log('PostgreSQL ended unexpectedly; starting it again')
      server = await restart()
    }
  }
  async function restart(): Promise<Server> {
    for (let pauseMs = 100; ; pauseMs = Math.min(pauseMs * 2, 5_000)) {
      try {
        return await startServer(context, async () => port, stopping.signal)
      } catch (error) {
        if (stopping.signal.aborted) return server
        log(`PostgreSQL could not be started again: ${describe(error)}`)
      }
      await sleep(pauseMs, undefined, { signal: stopping.signal }).catch(ignore)
    }
  }
  const supervised = supervise()
  // The last thing that a process can do which ends without stop(): it spares the next start the take-over.
  const onExit = () => server.interrupt()
  process.once('exit', onExit)

  let stopped: Promise<void> | null = null
  return {
    url: urlOf(password, port, DATABASE),
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

interface Context {
  readonly place: Place
  readonly cluster: string
  readonly password: string
  readonly settings: Readonly<Record<string, string>>
  readonly log: (line: string) => void
}

interface Server {
  readonly pid: number
  readonly port: number
  /** Resolves when its process has ended. */
  readonly exited: Promise<void>
  interrupt(): void
  stop(): Promise<void>
}

/** Makes a cluster under another name first: one that was interrupted halfway is never taken for whole. */
async function makeCluster(
  { folder, initdb, runAs }: Place,
  cluster: string,
  durable: boolean,
): Promise<void> {
  const unfinished = join(folder, `cluster.${randomBytes(6).toString('hex')}.unfinished`)
  const passwordFile = `${unfinished}.password`
  const password = randomBytes(24).toString('base64url')
  await mkdir(unfinished, { mode: 0o700 })
  if (runAs !== null) await chown(unfinished, runAs.uid, runAs.gid)
  await replaceFile(passwordFile, `${password}\n`, runAs)
  const made = spawn(
    initdb,
    [
      `--pgdata=${unfinished}`,
      `--username=${USER}`,
      `--pwfile=${passwordFile}`,
      '--auth=scram-sha-256',
      '--encoding=UTF8',
      // Sorts by code point on every machine alike, whatever locales it has.
      '--locale=C',
      '--locale-provider=builtin',
      '--builtin-locale=C.UTF-8',
      '--no-instructions',
      ...(durable ? [] : ['--no-sync']),
    ],
    { cwd: folder, env: environment(), stdio: ['ignore', 'pipe', 'pipe'], ...credentials(runAs) },
  )
  let output = ''
  for (const stream of [made.stdout, made.stderr]) stream.on('data', (chunk) => (output += chunk))
  const [code] = await once(made, 'close')
  await rm(passwordFile, { force: true })
  if (code !== 0) {
    await rm(unfinished, { recursive: true, force: true })
    throw new EmbeddedPostgresFailedError(`initdb ended with ${code}: ${output.trim().slice(-2_000)}`)
  }
  await replaceFile(join(unfinished, PASSWORD_FILE), `${password}\n`, runAs)
  await renameUnlessThere(unfinished, cluster)
}

async function clearUnfinished(folder: string): Promise<void> {
  for (const name of await readdir(folder)) {
    if (!UNFINISHED.test(name)) continue
    const path = join(folder, name)
    // A young one may be another process's that makes it right now.
    const { mtimeMs } = await stat(path)
    if (Date.now() - mtimeMs > UNFINISHED_AGE_MS) await rm(path, { recursive: true, force: true })
  }
}

/** Starts the server, once nobody else has it, and returns when it answers and we own it. */
async function startServer(
  context: Context,
  choosePort: () => Promise<number>,
  signal: AbortSignal,
): Promise<Server> {
  const { place, cluster, settings } = context
  const logPath = join(place.folder, 'postgres.log')
  const blockedUntil = Date.now() + BLOCKED_START_TIMEOUT_MS
  for (;;) {
    await endOrphan(context)
    const port = await choosePort()
    const logFile = await openLog(logPath)
    const { size: logStart } = await logFile.stat()
    const all = Object.entries({ ...settings, port: String(port) })
    const child = spawn(
      place.postgres,
      ['-D', cluster, ...all.flatMap(([name, value]) => ['-c', `${name}=${value}`])],
      {
        cwd: place.folder,
        env: environment(),
        stdio: ['ignore', logFile.fd, logFile.fd],
        // Out of our process group: Ctrl-C in a terminal goes to the whole group, and we need the server to drain.
        detached: process.platform !== 'win32',
        ...credentials(place.runAs),
      },
    )
    const exited = once(child, 'exit').then(ignore, ignore)
    await logFile.close()
    const server = await takeOwnership(context, child, exited, port, signal)
    if (server !== null) return server
    const said = (await readFile(logPath, 'utf8')).slice(logStart).trim().slice(-2_000)
    const blocked = /already exists|already in use|still in use/.test(said)
    if (!blocked || Date.now() > blockedUntil || signal.aborted) {
      throw new EmbeddedPostgresFailedError(`PostgreSQL did not start in ${cluster}: ${said}`)
    }
    await sleep(200)
  }
}

/** Waits until the server answers, and takes its ownership lock for the life of this process. Null when it ended instead. */
async function takeOwnership(
  context: Context,
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
      if (client !== null && (await isTrue(client, LOCK_OWNERSHIP))) {
        owner = client
        client.once('end', () => {
          // An administrator may end the connection, or a crashed backend all of them: the server is still ours.
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
      throw new EmbeddedPostgresFailedError(`PostgreSQL in ${context.cluster} could not be owned in time`)
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

/**
 * Sees to it that no server runs in `cluster`: ends one whose owner is gone.
 *
 * @throws {EmbeddedPostgresInUseError} when its owner lives.
 */
async function endOrphan({ place, cluster, password, log }: Context): Promise<void> {
  const deadline = Date.now() + START_TIMEOUT_MS
  const provenAt = Date.now() + OWNED_PROOF_MS
  while (Date.now() < deadline) {
    const lockFile = await readIfThere(join(cluster, 'postmaster.pid'))
    if (lockFile === null) return
    const [pidLine, , , portLine] = lockFile.split('\n')
    const pid = Number(pidLine)
    const client = Number(portLine) > 0 ? await tryConnect(password, Number(portLine)) : null
    if (client !== null) {
      try {
        const verdict = await judge(client, cluster)
        if (verdict === 'owned' && Date.now() > provenAt) {
          throw new EmbeddedPostgresInUseError(
            `the database in ${cluster} is in use by another process (its server has pid ${pid}); stop that one first, or name another folder by CURFEW_DATA`,
          )
        }
        if (verdict === 'orphan') {
          log(`stopping PostgreSQL (pid ${pid}), whose owner was killed`)
          await endServer(
            () => isServerOf(pid, cluster),
            (name) => process.kill(pid, name),
          )
          continue
        }
        if (verdict !== 'elsewhere') {
          await sleep(100)
          continue
        }
      } finally {
        await client.end().catch(ignore)
      }
    } else if (await isServerOf(pid, cluster)) {
      // Starting, recovering or shutting down.
      await sleep(100)
      continue
    }
    // The lock file is stale. PostgreSQL sees so by itself unless another process got the number since, as happens in
    // containers, whose numbers start anew. Then the file is made to name a process that cannot be; the rest of it stays, by
    // which PostgreSQL still finds out whether parts of the old server are alive.
    if (isAlive(pid)) {
      const [, ...rest] = lockFile.split('\n')
      await replaceFile(join(cluster, 'postmaster.pid'), [IMPOSSIBLE_PID, ...rest].join('\n'), place.runAs)
    }
    return
  }
  throw new EmbeddedPostgresFailedError(`a PostgreSQL that runs in ${cluster} neither answers nor ends`)
}

const IMPOSSIBLE_PID = 2_147_483_646

/** What a server is to us that answers where the lock file of `cluster` says. Holds its ownership lock if it is an orphan. */
async function judge(
  client: pg.Client,
  cluster: string,
): Promise<'orphan' | 'owned' | 'young' | 'elsewhere' | 'gone'> {
  try {
    const { rows } = await client.query<{ data_directory: string; young: boolean }>(READ_SERVER)
    const [row] = rows
    if (row === undefined) return 'gone'
    // A copied data folder brings the lock file of the original.
    if (!(await isSameFolder(row.data_directory, cluster))) return 'elsewhere'
    if (row.young) return 'young'
    return (await isTrue(client, LOCK_OWNERSHIP)) ? 'orphan' : 'owned'
  } catch (error) {
    if (isUnavailable(error)) return 'gone'
    throw error
  }
}

/** Fast shutdown (SIGINT), then immediate (SIGQUIT: it recovers at the next start), then the end. */
async function endServer(
  isRunning: () => Promise<boolean>,
  kill: (signal: NodeJS.Signals) => void,
): Promise<void> {
  const steps = [
    ['SIGINT', FAST_STOP_TIMEOUT_MS],
    ['SIGQUIT', IMMEDIATE_STOP_TIMEOUT_MS],
    ['SIGKILL', IMMEDIATE_STOP_TIMEOUT_MS],
  ] as const
  for (const [signal, timeoutMs] of steps) {
    try {
      kill(signal)
    } catch (error) {
      if ((error as { code?: unknown }).code !== 'ESRCH') throw error
    }
    const deadline = Date.now() + timeoutMs
    while (await isRunning()) {
      if (Date.now() > deadline) break
      await sleep(10)
    }
    if (!(await isRunning())) return
  }
  throw new EmbeddedPostgresFailedError('PostgreSQL cannot be ended')
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    // EPERM: there is such a process, of another user.
    return (error as { code?: unknown }).code === 'EPERM'
  }
}

/**
 * Whether process `pid` is a server that runs in `cluster`, by its command line, which anybody may read. A dead process that
 * nobody has waited for, as is common in containers, has none.
 */
async function isServerOf(pid: number, cluster: string): Promise<boolean> {
  if (!isAlive(pid)) return false
  const words = await readCommandLine(pid)
  const folder = words[words.indexOf('-D') + 1]
  if (!/^postgres(?:\.exe)?$/.test(basename(words[0] ?? '')) || folder === undefined) return false
  return isSameFolder(folder, cluster)
}

async function readCommandLine(pid: number): Promise<readonly string[]> {
  if (process.platform === 'linux') return ((await readIfThere(`/proc/${pid}/cmdline`)) ?? '').split('\0')
  // On Windows PostgreSQL looks for its own kind under the number, so a reused one does not fool it.
  if (process.platform === 'win32') return []
  const run = promisify(execFile)
  const { stdout } = await run('ps', ['-ww', '-o', 'command=', '-p', String(pid)]).catch(() => ({
    stdout: '',
  }))
  return stdout.trim().split(' ')
}

async function isSameFolder(one: string, other: string): Promise<boolean> {
  if (one === other) return true
  if (!(await exists(one))) return false
  const [a, b] = await Promise.all([stat(one), stat(other)])
  return a.dev === b.dev && a.ino === b.ino
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

function urlOf(password: string, port: number, database: string): string {
  return `postgres://${USER}:${password}@127.0.0.1:${port}/${database}`
}

/** A connection to the maintenance database, where the ownership lock is. */
async function connect(password: string, port: number): Promise<pg.Client> {
  const client = new pg.Client({
    connectionString: urlOf(password, port, 'postgres'),
    application_name: 'curfew owner',
    connectionTimeoutMillis: 5_000,
  })
  client.on('error', ignore)
  await client.connect()
  return client
}

async function tryConnect(password: string, port: number): Promise<pg.Client | null> {
  try {
    return await connect(password, port)
  } catch (error) {
    // 28P01: another cluster's server has the port now.
    if (isUnavailable(error) || (error as { code?: unknown }).code === '28P01') return null
    throw error
  }
}

async function isTrue(client: pg.Client, question: string): Promise<boolean> {
  const { rows } = await client.query<{ locked: boolean }>(question)
  return rows[0]?.locked === true
}

function credentials(runAs: Place['runAs']): { uid: number; gid: number } | Record<string, never> {
  return runAs === null ? {} : { uid: runAs.uid, gid: runAs.gid }
}

/** Nothing of ours that is secret, and nothing that would change PostgreSQL's own defaults (`PG…`). */
function environment(): NodeJS.ProcessEnv {
  const kept = ['PATH', 'HOME', 'TMPDIR', 'TEMP', 'TMP', 'SystemRoot', 'USERPROFILE']
  const entries = kept.map((name) => [name, process.env[name]] as const)
  return { ...Object.fromEntries(entries.filter(([, value]) => value !== undefined)), LC_ALL: 'C', TZ: 'UTC' }
}

function describe(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

function ignore(): undefined {
  return undefined
}
