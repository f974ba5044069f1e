import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { chown, mkdir, readdir, readFile, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { EmbeddedPostgresFailedError } from './errors.ts'
import { type Place, renameUnlessThere, replaceFile } from './place.ts'

/** The role that owns the cluster. */
export const OWNER_ROLE = 'curfew'
/** Lies in the cluster's own folder, so that cluster and password always stay together. */
const PASSWORD_FILE = 'curfew-password'
const POSTGRES_MAJOR = '18'

const UNFINISHED = /^cluster\.[0-9a-f]+\.unfinished/
const UNFINISHED_AGE_MS = 120_000

/** Makes a cluster under a temporary name and renames it at the end. An interrupted one is never taken for complete. */
export async function makeCluster(
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
      `--username=${OWNER_ROLE}`,
      `--pwfile=${passwordFile}`,
      '--auth=scram-sha-256',
      '--encoding=UTF8',
      // Sorts by code point on every machine, whatever locales it has.
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

/** Removes the folders that interrupted attempts left behind. */
export async function clearUnfinished(folder: string): Promise<void> {
  for (const name of await readdir(folder)) {
    if (!UNFINISHED.test(name)) continue
    const path = join(folder, name)
    // Another process may still be making a young one.
    const { mtimeMs } = await stat(path)
    if (Date.now() - mtimeMs > UNFINISHED_AGE_MS) await rm(path, { recursive: true, force: true })
  }
}

/** Reads the cluster's password. @throws {EmbeddedPostgresFailedError} when another PostgreSQL version made the cluster. */
export async function readPassword(cluster: string): Promise<string> {
  const version = (await readFile(join(cluster, 'PG_VERSION'), 'utf8')).trim()
  if (version !== POSTGRES_MAJOR) {
    throw new EmbeddedPostgresFailedError(
      `${cluster} was made by PostgreSQL ${version}; this release has ${POSTGRES_MAJOR}. Dump it with the release that made it, and restore it into a new folder`,
    )
  }
  return (await readFile(join(cluster, PASSWORD_FILE), 'utf8')).trim()
}

/** Options of `spawn` that set the user to run as. */
export function credentials(runAs: Place['runAs']): { uid: number; gid: number } | Record<string, never> {
  return runAs === null ? {} : { uid: runAs.uid, gid: runAs.gid }
}

/** The environment of PostgreSQL: no secret of ours, and no variable that changes PostgreSQL's own defaults (`PG…`). */
export function environment(): NodeJS.ProcessEnv {
  const kept = ['PATH', 'HOME', 'TMPDIR', 'TEMP', 'TMP', 'SystemRoot', 'USERPROFILE']
  const entries = kept.map((name) => [name, process.env[name]] as const)
  return { ...Object.fromEntries(entries.filter(([, value]) => value !== undefined)), LC_ALL: 'C', TZ: 'UTC' }
}
