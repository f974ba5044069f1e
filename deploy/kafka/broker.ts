import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openInDocker } from './docker.ts'
import { openWithJava } from './java.ts'
import type { Place, RunningKafka } from './node.ts'
import { freePort } from './ports.ts'
import { run } from './process.ts'

export type { RunningKafka } from './node.ts'

/** Why no broker can be had: what was looked for and what was found instead, one sentence each. */
export interface NoKafka {
  readonly how: 'none'
  readonly lookedFor: readonly string[]
}

export interface OpenKafkaOptions {
  /** Told of progress, one line at a time. */
  readonly log: (line: string) => void
  readonly environment?: Readonly<Record<string, string | undefined>>
}

/**
 * Finds or starts a real Apache Kafka broker: the one that `KAFKA_BROKERS` names, else one in Docker, else one under
 * Java with its jars fetched by Maven.
 *
 * @throws {Error} when a broker could have been had but did not start, with the end of its log.
 */
export async function openKafka({
  log,
  environment = process.env,
}: OpenKafkaOptions): Promise<RunningKafka | NoKafka> {
  const named = environment.KAFKA_BROKERS?.split(',')
    .map((broker) => broker.trim())
    .filter((broker) => broker !== '')
  if (named !== undefined && named.length > 0) {
    return { how: 'environment', brokers: named, stop: async () => undefined }
  }
  const lookedFor = ['KAFKA_BROKERS is not set.']
  const docker = await run('docker', ['info', '--format', '{{.ServerVersion}}'], { timeoutMs: 10_000 })
  const java = docker.code === 0 ? null : await javaMissing()
  if (docker.code !== 0) {
    lookedFor.push(`No Docker engine: \`docker info\` says "${docker.summary}".`)
    if (java !== null) return { how: 'none', lookedFor: [...lookedFor, ...java] }
  }
  const folder = await mkdtemp(join(tmpdir(), 'curfew-kafka-'))
  const port = await freePort()
  const controllerPort = await freePort()
  const place: Place = { log, environment, folder, port, controllerPort }
  try {
    return docker.code === 0 ? await openInDocker(place) : await openWithJava(place)
  } catch (error) {
    await rm(folder, { recursive: true, force: true })
    throw error
  }
}

const JAVA_VERSION_MIN = 17

/** What the third way lacks, or null when it has all. */
async function javaMissing(): Promise<readonly string[] | null> {
  const [java, maven] = await Promise.all([
    run('java', ['-version'], { timeoutMs: 20_000 }),
    run('mvn', ['--version'], { timeoutMs: 20_000 }),
  ])
  const major = Number(/version "(\d+)/.exec(java.output)?.[1] ?? 0)
  const missing: string[] = []
  if (java.code !== 0) missing.push(`No Java: \`java -version\` says "${java.summary}".`)
  else if (major < JAVA_VERSION_MIN)
    missing.push(`Java is version ${major}, and Kafka 4 needs ${JAVA_VERSION_MIN}.`)
  if (maven.code !== 0) missing.push(`No Maven: \`mvn --version\` says "${maven.summary}".`)
  return missing.length === 0 ? null : missing
}
