import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openInDocker } from './docker.ts'
import { openWithJava } from './java.ts'
import { run } from './process.ts'

/** A broker that tests and people at their desks may use. */
export interface RunningKafka {
  readonly how: 'environment' | 'docker' | 'maven'
  /** `host:port` of each. */
  readonly brokers: readonly string[]
  /** Ends the broker and deletes its data; leaves alone one that the environment named. Idempotent. */
  stop(): Promise<void>
  /** Ends the broker at once, as a power failure would (SIGKILL). Absent where the broker is not ours. */
  readonly kill?: () => Promise<void>
  /** Starts a killed broker again on the same port with the same data. Absent where the broker is not ours. */
  readonly restart?: () => Promise<void>
  /** Makes the broker hang: connections stay, answers do not come. Absent where the broker is not ours. */
  readonly suspend?: () => Promise<void>
  /** Ends a `suspend`. */
  readonly resume?: () => Promise<void>
}

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

/** What a way of running a broker is given to work with. */
export interface Place {
  readonly log: (line: string) => void
  readonly environment: Readonly<Record<string, string | undefined>>
  /** For data and configuration; deleted with the broker. */
  readonly folder: string
  readonly port: number
  readonly controllerPort: number
}

/**
 * Settings of the one node, broker and controller in one: loopback only, groups form without delay, internal topics
 * as small as they can be, and sessions may be short, so that tests need not wait for a dead consumer.
 */
export function serverProperties(overrides: Readonly<Record<string, string>>): Record<string, string> {
  return {
    'process.roles': 'broker,controller',
    'node.id': '1',
    'controller.listener.names': 'CONTROLLER',
    'listener.security.protocol.map': 'PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT',
    'auto.create.topics.enable': 'false',
    'group.initial.rebalance.delay.ms': '0',
    'group.min.session.timeout.ms': '500',
    'offsets.topic.num.partitions': '2',
    'offsets.topic.replication.factor': '1',
    'transaction.state.log.num.partitions': '1',
    'transaction.state.log.replication.factor': '1',
    'transaction.state.log.min.isr': '1',
    'share.coordinator.state.topic.num.partitions': '1',
    'share.coordinator.state.topic.replication.factor': '1',
    'share.coordinator.state.topic.min.isr': '1',
    'num.network.threads': '2',
    'num.io.threads': '2',
    'log.cleaner.dedupe.buffer.size': '2097152',
    'log.cleaner.threads': '1',
    // A kill must not be followed by minutes in which the node waits for its own old session.
    'broker.heartbeat.interval.ms': '300',
    'broker.session.timeout.ms': '1500',
    ...overrides,
  }
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
  const [port, controllerPort] = await freePorts()
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

/** Two ports that were free a moment ago, taken at once so that they differ. */
async function freePorts(): Promise<[number, number]> {
  const servers = [createServer(), createServer()]
  const ports = await Promise.all(
    servers.map(
      (server) =>
        new Promise<number>((resolve, reject) => {
          server.once('error', reject)
          server.listen(0, '127.0.0.1', () => {
            const address = server.address()
            resolve(typeof address === 'object' && address !== null ? address.port : 0)
          })
        }),
    ),
  )
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))))
  const [port = 0, controllerPort = 0] = ports
  return [port, controllerPort]
}
