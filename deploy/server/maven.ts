import { readFile } from 'node:fs/promises'
import { run } from './process.ts'

const ASK_TIMEOUT_MS = 20_000
const DOWNLOAD_TIMEOUT_MS = 600_000
/** Kafka 4 and Keycloak 26 need it. */
const JAVA_VERSION_MIN = 17

/** Lists what is missing to run a Java server of Maven Central; null if nothing is. */
export async function javaMissing(): Promise<readonly string[] | null> {
  const [java, maven] = await Promise.all([
    run('java', ['-version'], { timeoutMs: ASK_TIMEOUT_MS }),
    run('mvn', ['--version'], { timeoutMs: ASK_TIMEOUT_MS }),
  ])
  const major = Number(/version "(\d+)/.exec(java.output)?.[1] ?? 0)
  const missing: string[] = []
  if (java.code !== 0) missing.push(`No Java: \`java -version\` says "${java.summary}".`)
  else if (major < JAVA_VERSION_MIN)
    missing.push(`Java is version ${major}, and version ${JAVA_VERSION_MIN} is needed.`)
  if (maven.code !== 0) missing.push(`No Maven: \`mvn --version\` says "${maven.summary}".`)
  return missing.length === 0 ? null : missing
}

/** Reads a version from a property of a pom.xml, the only place that names it. */
export async function versionIn(pom: string, property: string): Promise<string> {
  const version = new RegExp(`<${property}>([^<]+)<`).exec(await readFile(pom, 'utf8'))?.[1]
  if (version === undefined) throw new Error(`${pom} names no ${property}`)
  return version
}

/**
 * Fetches the dependencies of a pom.xml.
 *
 * @param goal such as `dependency:copy-dependencies`, with its options.
 * @throws {Error} with Maven's errors.
 */
export async function fetchWithMaven(
  pom: string,
  goal: readonly string[],
  { what, log }: { readonly what: string; readonly log: (line: string) => void },
): Promise<void> {
  log(`fetching ${what} with Maven (once)`)
  let count = 0
  const fetched = await run('mvn', ['-B', '-f', pom, ...goal], {
    timeoutMs: DOWNLOAD_TIMEOUT_MS,
    onLine: (line) => {
      const file = /Downloaded from \S+: \S+\/([^/\s]+\.(?:jar|zip)) \(([^)]+)\)/.exec(line)
      if (file !== null) log(`  ${++count}. ${file[1]} (${file[2]})`)
    },
  })
  if (fetched.code === 0) return
  const errors = fetched.output.split('\n').filter((line) => line.startsWith('[ERROR]'))
  throw new Error(`Maven could not fetch ${what}:\n${errors.slice(0, 10).join('\n') || fetched.summary}`)
}
