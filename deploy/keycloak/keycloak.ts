import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { javaMissing } from '../server/maven.ts'
import { freePort } from '../server/ports.ts'
import { end, untilReady } from '../server/process.ts'
import {
  ADMIN,
  linkHome,
  type PrepareOptions,
  prepareKeycloak,
  SERVING,
  serveArguments,
} from './distribution.ts'

/** Keycloak is not available. One sentence for each thing that is missing. */
export interface NoKeycloak {
  readonly how: 'none'
  readonly lookedFor: readonly string[]
}

/** A Keycloak that we started. Its data are deleted when it ends. */
export interface RunningKeycloak {
  readonly how: 'maven'
  /** The URL without a trailing slash. Realms are below it. */
  readonly url: string
  /** The administrator of all realms. */
  readonly admin: { readonly username: string; readonly password: string }
  /** The folder of `kcadm.sh`. */
  readonly bin: string
  /** Ends the server and deletes its data. Idempotent. */
  stop(): Promise<void>
}

/**
 * Starts a real Keycloak under Java, with a distribution that Maven fetches.
 *
 * @throws {Error} when it does not start. The message holds the end of its log.
 */
export async function openKeycloak({
  log,
  environment = process.env,
}: Pick<PrepareOptions, 'log'> & Partial<PrepareOptions>): Promise<RunningKeycloak | NoKeycloak> {
  const missing = await javaMissing()
  if (missing !== null) return { how: 'none', lookedFor: missing }
  const prepared = await prepareKeycloak({ log, environment })
  const folder = await mkdtemp(join(tmpdir(), 'curfew-keycloak-'))
  let child: ChildProcess | null = null
  const endWithUs = () => child?.kill('SIGKILL')
  process.once('exit', endWithUs)
  const stop = async () => {
    // The data are deleted, so a graceful stop would save nothing.
    if (child !== null) await end(child, 'SIGKILL')
    process.removeListener('exit', endWithUs)
    await rm(folder, { recursive: true, force: true })
  }
  try {
    const home = join(folder, 'home')
    await linkHome(prepared, home)
    const port = await freePort()
    log(`starting Keycloak on 127.0.0.1:${port}`)
    child = spawn('java', serveArguments(home, port), { stdio: ['ignore', 'pipe', 'pipe'] })
    await untilReady(child, SERVING)
    return { how: 'maven', url: `http://127.0.0.1:${port}`, admin: ADMIN, bin: join(home, 'bin'), stop }
  } catch (error) {
    await stop()
    throw error
  }
}
