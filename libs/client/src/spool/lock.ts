import { randomUUID } from 'node:crypto'
import { readFile, readlink, rename, rm, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'

// One process uses a spool. A file names it. Node.js cannot lock a file, so a process checks the file again before it confirms an
// entry: after a mistaken take-over the earlier process confirms nothing more, and the new one reads all that was confirmed.

/** Another process uses the directory of the spool. */
export class SpoolLockedError extends Error {
  constructor(directory: string, owner: Owner | null) {
    super(
      owner === null
        ? `The lock of the spool ${directory} is gone or belongs to another process. This process stores nothing more there. Give each process a directory of its own, and restart this one.`
        : `Process ${owner.pid} uses the spool ${directory}. Stop that process, or give this one a directory of its own.`,
    )
    this.name = 'SpoolLockedError'
  }
}

/** The process in a lock file. */
export interface Owner {
  readonly pid: number
  /** When the process started, in ticks since the boot. Null where the system does not say it. */
  readonly started: string | null
  /** The boot of the machine. Null where the system does not say it. */
  readonly boot: string | null
  /** The PID namespace, which a container has for itself. Null where the system has none. */
  readonly namespace: string | null
  /** Different for each lock. */
  readonly token: string
}

export interface Lock {
  /** @throws {SpoolLockedError} if the lock is not this one. */
  check(): Promise<void>
  release(): Promise<void>
}

/** The tokens of the locks that this process has. */
const tokens = new Set<string>()

/** @throws {SpoolLockedError} if another process has the lock and is alive. */
export async function takeLock(directory: string): Promise<Lock> {
  const path = join(directory, 'lock')
  const self = await ownerOf(process.pid, randomUUID())
  const owner = await readOwner(path)
  if (owner !== null && (await isHeld(owner, self))) throw new SpoolLockedError(resolve(directory), owner)
  // A rename replaces the file as a whole: no process reads half of it.
  const draft = `${path}.${self.token}`
  await writeFile(draft, JSON.stringify(self), { mode: 0o600 })
  await rename(draft, path)
  tokens.add(self.token)
  const isOurs = async () => (await readOwner(path))?.token === self.token
  return {
    async check() {
      if (!(await isOurs())) throw new SpoolLockedError(resolve(directory), null)
    },
    async release() {
      tokens.delete(self.token)
      if (await isOurs()) await rm(path, { force: true })
    },
  }
}

/** Whether the process in the lock file still has the lock. */
async function isHeld(owner: Owner, self: Owner): Promise<boolean> {
  if (owner.boot !== self.boot) return false
  // A restarted container has a new namespace. A process of another namespace is not visible here.
  if (owner.namespace !== self.namespace) return false
  if (owner.pid === self.pid)
    return self.started === null ? tokens.has(owner.token) : owner.started === self.started
  if (!isAlive(owner.pid)) return false
  const { started } = await ownerOf(owner.pid, '')
  return started === owner.started
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch (error) {
    // The process of another user is alive: EPERM.
    return codeOf(error) !== 'ESRCH'
  }
}

async function ownerOf(pid: number, token: string): Promise<Owner> {
  const [stat, boot, namespace] = await Promise.all([
    fact(readFile(`/proc/${pid}/stat`, 'utf8')),
    fact(readFile('/proc/sys/kernel/random/boot_id', 'utf8')),
    fact(readlink('/proc/self/ns/pid')),
  ])
  // Field 22, counted after the name of the program, which may have spaces.
  const started = stat?.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? null
  return { pid, started, boot, namespace, token }
}

async function readOwner(path: string): Promise<Owner | null> {
  const text = await unlessMissing(readFile(path, 'utf8'))
  try {
    const owner = JSON.parse(text ?? 'null') as Partial<Owner> | null
    if (typeof owner?.pid !== 'number' || typeof owner.token !== 'string') return null
    const { pid, token, started = null, boot = null, namespace = null } = owner
    return { pid, token, started, boot, namespace }
  } catch {
    // A crash of the machine may leave an empty file. No process has such a lock.
    return null
  }
}

async function unlessMissing(text: Promise<string>): Promise<string | null> {
  try {
    return await text
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return null
    throw error
  }
}

/** A fact of the system, or null where it does not say it. */
async function fact(text: Promise<string>): Promise<string | null> {
  return text.then(
    (value) => value.trim(),
    () => null,
  )
}

/** The code of an error of the system, such as `ENOENT`. */
export function codeOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error ? String(error.code) : undefined
}
