import { spawn } from 'node:child_process'
import { cp, mkdir, readdir, rename, rm, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { cached } from '../server/cache.ts'
import { fetchWithMaven, versionIn } from '../server/maven.ts'
import { freePort } from '../server/ports.ts'
import { end, type Readiness, run, untilReady } from '../server/process.ts'

/** The first administrator, in the realm `master`. The server listens on loopback only, and its data are thrown away. */
export const ADMIN = { username: 'admin', password: 'admin' } as const

/** Keycloak logs this when it serves. */
export const SERVING: Readiness = { server: 'Keycloak', says: 'Listening on:', timeoutMs: 240_000 }

export interface PrepareOptions {
  /** Receives progress messages, one line at a time. */
  readonly log: (line: string) => void
  readonly environment: Readonly<Record<string, string | undefined>>
}

const POM = join(import.meta.dirname, 'pom.xml')
const BUILD_TIMEOUT_MS = 480_000

/** For a quick start and a small process: only the first compiler tier, and one collector thread. */
const JVM_OPTIONS: readonly string[] = [
  ...['-Xms64m', '-Xmx512m', '-XX:+UseSerialGC', '-XX:TieredStopAtLevel=1', '-Dfile.encoding=UTF-8'],
  // As Keycloak's own start script has it.
  '-Djava.util.logging.manager=org.jboss.logmanager.LogManager',
  '-Dpicocli.disable.closures=true',
  '-Djava.util.concurrent.ForkJoinPool.common.threadFactory=io.quarkus.bootstrap.forkjoin.QuarkusForkJoinWorkerThreadFactory',
  ...['java.util', 'java.util.concurrent', 'java.security', 'java.lang'].map(
    (name) => `--add-opens=java.base/${name}=ALL-UNNAMED`,
  ),
]

/**
 * Returns an optimised Keycloak with a database that has the realm `master` and its administrator. Prepares it once per version:
 * without that, each start would take three times as long.
 */
export async function prepareKeycloak({ log, environment }: PrepareOptions): Promise<string> {
  const version = await versionIn(POM, 'keycloak.version')
  const make = async (folder: string) => {
    // The marker of an earlier unpacking, which by default is in this folder of the sources, would suppress a later one.
    const places = [`-DoutputDirectory=${folder}`, `-DmarkersDirectory=${join(folder, 'markers')}`]
    const unpack = ['dependency:unpack-dependencies', ...places]
    await fetchWithMaven(POM, unpack, { what: `Keycloak ${version} (about 180 MB)`, log })
    const home = join(folder, 'home')
    await rename(join(folder, `keycloak-${version}`), home)
    log('building an optimised Keycloak (once, a minute or two)')
    const options = ['--db=dev-file', '--health-enabled=false', '--metrics-enabled=false']
    const built = await run('java', keycloakArguments(home, ['build', ...options]), {
      timeoutMs: BUILD_TIMEOUT_MS,
    })
    if (built.code !== 0) throw new Error(`Keycloak could not be built:\n${built.output}`)
    log('making its database (once)')
    await makeDatabase(home)
  }
  return join(await cached(`keycloak-${version}`, make, environment), 'home')
}

/** The arguments of `java` to run this command of Keycloak. */
function keycloakArguments(home: string, command: readonly string[]): readonly string[] {
  const folders = [`-Dkc.home.dir=${home}`, `-Djboss.server.config.dir=${join(home, 'conf')}`]
  const main = ['-cp', join(home, 'lib', 'quarkus-run.jar'), 'io.quarkus.bootstrap.runner.QuarkusEntryPoint']
  return [...JVM_OPTIONS, ...folders, ...main, ...command]
}

/** The arguments of `java` to serve plain HTTP on this port of loopback. */
export function serveArguments(home: string, port: number): readonly string[] {
  const listen = ['--http-enabled=true', '--http-host=127.0.0.1', `--http-port=${port}`]
  const alone = ['--hostname-strict=false', '--cache=local']
  return keycloakArguments(home, ['start', '--optimized', ...listen, ...alone])
}

/** Makes the database by a first start, and ends that server. */
async function makeDatabase(home: string): Promise<void> {
  const administrator = {
    KC_BOOTSTRAP_ADMIN_USERNAME: ADMIN.username,
    KC_BOOTSTRAP_ADMIN_PASSWORD: ADMIN.password,
  }
  const child = spawn('java', serveArguments(home, await freePort()), {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...administrator },
  })
  const endWithUs = () => child.kill('SIGKILL')
  process.once('exit', endWithUs)
  try {
    await untilReady(child, SERVING)
    await end(child, 'SIGTERM')
  } finally {
    await end(child, 'SIGKILL')
    process.removeListener('exit', endWithUs)
  }
}

/** Makes `home` a home folder of Keycloak with its own data. Everything else is linked to the prepared one. */
export async function linkHome(prepared: string, home: string): Promise<void> {
  await mkdir(home, { recursive: true })
  for (const name of await readdir(prepared)) {
    if (name !== 'data') await symlink(join(prepared, name), join(home, name))
  }
  await cp(join(prepared, 'data'), join(home, 'data'), { recursive: true })
  // Left there if the first server was killed.
  await rm(join(home, 'data', 'tmp'), { recursive: true, force: true })
}
