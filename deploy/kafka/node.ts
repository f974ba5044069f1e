import { readFile } from 'node:fs/promises'
import { join } from 'node:path'

// What every way of running the one node has in common.

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

/** Names what is fetched, and its version. */
export const POM: string = join(import.meta.dirname, 'pom.xml')

/** The version in pom.xml, the one place that names it. */
export async function kafkaVersion(): Promise<string> {
  const version = /<kafka\.version>([^<]+)</.exec(await readFile(POM, 'utf8'))?.[1]
  if (version === undefined) throw new Error('deploy/kafka/pom.xml names no kafka.version')
  return version
}
