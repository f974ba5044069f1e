import { execFile } from 'node:child_process'
import { stat } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { isUnavailable, isWrongPassword } from '@curfew/ledger'
import pg from 'pg'
import { OWNER_ROLE } from './cluster.ts'
import { EmbeddedPostgresFailedError, EmbeddedPostgresInUseError } from './errors.ts'
import { exists, type Place, readIfThere, replaceFile } from './place.ts'

/** One cluster, and the settings to run it. */
export interface Cluster {
  readonly place: Place
  readonly folder: string
  readonly password: string
  readonly settings: Readonly<Record<string, string>>
  readonly log: (line: string) => void
}

/** Crash recovery replays the WAL since the last checkpoint. That takes seconds, or a minute on a slow disk. */
export const START_TIMEOUT_MS = 120_000
const FAST_STOP_TIMEOUT_MS = 10_000
const IMMEDIATE_STOP_TIMEOUT_MS = 5_000
/** A server counts as in use only if another process still owns it after this time, in milliseconds: it may notice a killed owner late. */
const OWNED_PROOF_MS = 2_000

// The process that has this lock owns the server. A server whose lock is free lost its owner.
const LOCK_OWNERSHIP = 'select pg_try_advisory_lock(1129665102, 1) as locked'
const READ_SERVER = `
  select current_setting('data_directory') as data_directory,
         pg_postmaster_start_time() > clock_timestamp() - interval '2 seconds' as young`

/**
 * Makes sure that no server runs in `cluster`. Stops a server whose owner is gone.
 *
 * @throws {EmbeddedPostgresInUseError} when the owner lives.
 */
export async function endOrphan({ place, folder: cluster, password, log }: Cluster): Promise<void> {
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
            `the database in ${cluster} is in use by another process (its server has pid ${pid}); stop that process first, or set CURFEW_DATA to another folder`,
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
      // The server is starting, recovering or shutting down.
      await sleep(100)
      continue
    }
    // The lock file is stale. PostgreSQL notices that itself, unless another process has the pid by now. That happens in
    // containers, where pids restart from 1. Then we write an impossible pid into the file. The other lines stay: by them
    // PostgreSQL finds out whether parts of the old server are alive.
    if (isAlive(pid)) {
      const [, ...rest] = lockFile.split('\n')
      await replaceFile(join(cluster, 'postmaster.pid'), [IMPOSSIBLE_PID, ...rest].join('\n'), place.runAs)
    }
    return
  }
  throw new EmbeddedPostgresFailedError(
    `a PostgreSQL that runs in ${cluster} neither answers nor ends; end its processes and start again`,
  )
}

const IMPOSSIBLE_PID = 2_147_483_646

/** Classifies the server that answers at the port in `cluster`'s lock file. Takes its ownership lock if it is an orphan. */
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
    return (await lockOwnership(client)) ? 'orphan' : 'owned'
  } catch (error) {
    if (isUnavailable(error)) return 'gone'
    throw error
  }
}

/** Sends SIGINT (fast shutdown), then SIGQUIT (immediate shutdown, with recovery at the next start), then SIGKILL. */
export async function endServer(
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
  throw new EmbeddedPostgresFailedError('PostgreSQL did not end, not even by SIGKILL')
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    // EPERM: the process exists and belongs to another user.
    return (error as { code?: unknown }).code === 'EPERM'
  }
}

/**
 * Whether process `pid` is a server of `cluster`, by its command line, which every user may read. A dead process has an empty
 * one until its parent waits for it. Such processes are common in containers.
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
  // On Windows PostgreSQL itself checks whether the pid belongs to a PostgreSQL, so a reused pid does not mislead it.
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

/** Longest socket path that every system accepts, in bytes. */
const SOCKET_PATH_MAX = 103

/**
 * The folder of the server's socket: the cluster's own folder, which no other user may enter. A statement costs a tenth less
 * over the socket than over loopback. Null where the system has no such sockets, or the path does not suit one.
 */
export function socketFolder(cluster: string): string | null {
  const fits = Buffer.byteLength(join(cluster, '.s.PGSQL.65535')) <= SOCKET_PATH_MAX
  return process.platform !== 'win32' && fits && /^[\w./-]+$/.test(cluster) ? cluster : null
}

/** The connection URL, a secret. It leads to the socket in the folder `socket` unless that is null. */
export function urlOf(password: string, port: number, database: string, socket: string | null): string {
  const url = `postgres://${OWNER_ROLE}:${password}@127.0.0.1:${port}/${database}`
  return socket === null ? url : `${url}?host=${encodeURIComponent(socket)}`
}

/** Connects to the maintenance database, which has the ownership lock. */
export async function connect(password: string, port: number): Promise<pg.Client> {
  const client = new pg.Client({
    connectionString: urlOf(password, port, 'postgres', null),
    application_name: 'curfew owner',
    connectionTimeoutMillis: 5_000,
  })
  client.on('error', ignore)
  await client.connect()
  return client
}

/** Null when no server answers, or the server refuses our password. */
export async function tryConnect(password: string, port: number): Promise<pg.Client | null> {
  try {
    return await connect(password, port)
  } catch (error) {
    // A server that refuses the password belongs to another cluster, which now has the port.
    if (isUnavailable(error) || isWrongPassword(error)) return null
    throw error
  }
}

/** Tries to own the server behind `client`. The ownership lasts as long as the connection. */
export async function lockOwnership(client: pg.Client): Promise<boolean> {
  const { rows } = await client.query<{ locked: boolean }>(LOCK_OWNERSHIP)
  return rows[0]?.locked === true
}

function ignore(): undefined {
  return undefined
}
