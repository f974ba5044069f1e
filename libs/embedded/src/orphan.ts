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

/** One cluster, and what is needed to run it. */
export interface Cluster {
  readonly place: Place
  readonly folder: string
  readonly password: string
  readonly settings: Readonly<Record<string, string>>
  readonly log: (line: string) => void
}

/** Recovery after a crash reads the log since the last checkpoint: seconds, on a slow disk a minute. */
export const START_TIMEOUT_MS = 120_000
const FAST_STOP_TIMEOUT_MS = 10_000
const IMMEDIATE_STOP_TIMEOUT_MS = 5_000
/** How long another's ownership must last before we believe it: the server needs a moment to see that an owner was killed. */
const OWNED_PROOF_MS = 2_000

// Whoever holds this lock owns the server. A server whose lock is free lost its owner.
const LOCK_OWNERSHIP = 'select pg_try_advisory_lock(1129665102, 1) as locked'
const READ_SERVER = `
  select current_setting('data_directory') as data_directory,
         pg_postmaster_start_time() > clock_timestamp() - interval '2 seconds' as young`

/**
 * Sees to it that no server runs in `cluster`: ends one whose owner is gone.
 *
 * @throws {EmbeddedPostgresInUseError} when its owner lives.
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
    return (await lockOwnership(client)) ? 'orphan' : 'owned'
  } catch (error) {
    if (isUnavailable(error)) return 'gone'
    throw error
  }
}

/** Fast shutdown (SIGINT), then immediate (SIGQUIT: it recovers at the next start), then the end. */
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

/** Longest path of a socket that every system takes, in bytes. */
const SOCKET_PATH_MAX = 103

/**
 * The folder for the server's socket: its own, which nobody else may enter. A statement costs a tenth less through it than
 * over loopback. Null where sockets are not to be had, or the path is more than one may have.
 */
export function socketFolder(cluster: string): string | null {
  const fits = Buffer.byteLength(join(cluster, '.s.PGSQL.65535')) <= SOCKET_PATH_MAX
  return process.platform !== 'win32' && fits && /^[\w./-]+$/.test(cluster) ? cluster : null
}

/** A secret. By the socket in `socket` where there is one. */
export function urlOf(password: string, port: number, database: string, socket: string | null): string {
  const url = `postgres://${OWNER_ROLE}:${password}@127.0.0.1:${port}/${database}`
  return socket === null ? url : `${url}?host=${encodeURIComponent(socket)}`
}

/** A connection to the maintenance database, where the ownership lock is. */
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

/** Null where nobody answers, or a stranger does. */
export async function tryConnect(password: string, port: number): Promise<pg.Client | null> {
  try {
    return await connect(password, port)
  } catch (error) {
    // A server that refuses the password is another cluster's, and has the port now.
    if (isUnavailable(error) || isWrongPassword(error)) return null
    throw error
  }
}

/** Tries to become the owner of the server behind `client`, for as long as that is connected. */
export async function lockOwnership(client: pg.Client): Promise<boolean> {
  const { rows } = await client.query<{ locked: boolean }>(LOCK_OWNERSHIP)
  return rows[0]?.locked === true
}

function ignore(): undefined {
  return undefined
}
