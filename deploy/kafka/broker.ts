import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { javaMissing } from '../server/maven.ts'
import { freePort } from '../server/ports.ts'
import { run } from '../server/process.ts'
import { inDocker } from './docker.ts'
import { withJava } from './java.ts'
import { type OwnKafka, type RunningKafka, startNodes } from './node.ts'
import type { NodePorts, Security } from './settings.ts'

export type { KafkaNode, OwnKafka, RunningKafka } from './node.ts'

/** No broker is available. One sentence for each place that was searched says what was found there instead. */
export interface NoKafka {
  readonly how: 'none'
  readonly lookedFor: readonly string[]
}

export interface OpenKafkaOptions {
  /** Receives progress messages, one line at a time. */
  readonly log: (line: string) => void
  readonly environment?: Readonly<Record<string, string | undefined>>
}

export interface OwnKafkaOptions extends OpenKafkaOptions {
  /** The number of nodes to start, whatever `KAFKA_BROKERS` names. Each is broker and controller in one. */
  readonly brokers: number
  /** Settings of every broker, such as `compression.type`. */
  readonly settings?: Readonly<Record<string, string>>
  /** Default: plaintext connections without authentication. */
  readonly security?: Security
}

/**
 * Finds or starts a real Apache Kafka: the cluster that `KAFKA_BROKERS` names, otherwise one broker in Docker, otherwise one
 * under Java with jars that Maven fetches. With `brokers`, starts a cluster of its own.
 *
 * @throws {Error} when a broker is available but does not start. The message holds the end of its log.
 */
export function openKafka(options: OwnKafkaOptions): Promise<OwnKafka | NoKafka>
export function openKafka(options: OpenKafkaOptions): Promise<RunningKafka | NoKafka>
export async function openKafka({
  log,
  environment = process.env,
  brokers,
  settings = {},
  security = {},
}: OpenKafkaOptions & Partial<OwnKafkaOptions>): Promise<RunningKafka | NoKafka> {
  const named = (environment.KAFKA_BROKERS ?? '')
    .split(',')
    .map((broker) => broker.trim())
    .filter((broker) => broker !== '')
  if (brokers === undefined && named.length > 0) {
    return { how: 'environment', brokers: named, stop: async () => undefined }
  }
  const lookedFor = brokers === undefined ? ['KAFKA_BROKERS is not set.'] : []
  const docker = await run('docker', ['info', '--format', '{{.ServerVersion}}'], { timeoutMs: 10_000 })
  if (docker.code !== 0) {
    lookedFor.push(`No Docker engine: \`docker info\` says "${docker.summary}".`)
    const java = await javaMissing()
    if (java !== null) return { how: 'none', lookedFor: [...lookedFor, ...java] }
  }
  const nodes: NodePorts[] = []
  while (nodes.length < (brokers ?? 1)) {
    nodes.push({ clients: await freePort(), brokers: await freePort(), controllers: await freePort() })
  }
  const folder = await mkdtemp(join(tmpdir(), 'curfew-kafka-'))
  const place = { log, environment, folder, plan: { nodes, settings, security } }
  try {
    return await startNodes(docker.code === 0 ? await inDocker(place) : await withJava(place), place)
  } catch (error) {
    await rm(folder, { recursive: true, force: true })
    throw error
  }
}
