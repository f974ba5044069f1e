import { readFile } from 'node:fs/promises'
import { join } from 'node:path'

// What a cluster is made of, whatever runs its nodes.

/** How clients reach the brokers. Where it says nothing they come in the clear, without a name. */
export interface Security {
  /** Passwords by user name. A user may log in with PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512. */
  readonly users?: Readonly<Record<string, string>>
  /** Certificate and key of every broker, in PEM. */
  readonly tls?: { readonly cert: string; readonly key: string }
}

/** Ports of one node on loopback, by who connects to them. */
export interface NodePorts {
  readonly clients: number
  readonly brokers: number
  readonly controllers: number
}

export interface ClusterPlan {
  /** The first is node 1. */
  readonly nodes: readonly NodePorts[]
  /** Broker settings, put over those below. */
  readonly settings: Readonly<Record<string, string>>
  readonly security: Security
}

/** What a way of running nodes is given to work with. */
export interface Place {
  readonly log: (line: string) => void
  readonly environment: Readonly<Record<string, string | undefined>>
  /** For data and configuration; deleted with the cluster. */
  readonly folder: string
  readonly plan: ClusterPlan
}

/** Any 16 bytes in base64url: clusters never meet, so they may all have the same name. */
export const CLUSTER_ID = 'Y3VyZmV3LXRlc3RzLTAwMQ'

const COPIES_MAX = 3
const SCRAM_MECHANISMS = ['SCRAM-SHA-256', 'SCRAM-SHA-512']

/** Copies of each partition that so many brokers can hold, up to the three of a production cluster. */
export function replicationFactor(brokers: number): number {
  return Math.min(brokers, COPIES_MAX)
}

/** The address that a node's clients use. */
export function addressOf({ clients }: NodePorts): string {
  return `127.0.0.1:${clients}`
}

/**
 * `server.properties` of one node, which is broker and controller in one. Clients have a listener of their own, so that
 * brokers need no password to reach each other. Groups form without delay and internal topics are small. Sessions may be
 * short: tests need not wait for a dead consumer, nor for a killed broker.
 *
 * @param listenAt address at which clients are served.
 */
export function serverProperties(
  { nodes, settings, security }: ClusterPlan,
  { id, data, listenAt }: { readonly id: number; readonly data: string; readonly listenAt: string },
): string {
  const ports = nodes[id - 1]
  if (ports === undefined) throw new Error(`the cluster has no node ${id}`)
  const copies = String(replicationFactor(nodes.length))
  const inSync = nodes.length < COPIES_MAX ? '1' : '2'
  return propertiesText({
    'process.roles': 'broker,controller',
    'node.id': String(id),
    'log.dirs': data,
    listeners: `CLIENTS://${listenAt}:${ports.clients},BROKERS://127.0.0.1:${ports.brokers},CONTROLLERS://127.0.0.1:${ports.controllers}`,
    'advertised.listeners': `CLIENTS://${addressOf(ports)},BROKERS://127.0.0.1:${ports.brokers}`,
    'listener.security.protocol.map': `CLIENTS:${protocolOf(security)},BROKERS:PLAINTEXT,CONTROLLERS:PLAINTEXT`,
    'inter.broker.listener.name': 'BROKERS',
    'controller.listener.names': 'CONTROLLERS',
    'controller.quorum.voters': nodes
      .map(({ controllers }, index) => `${index + 1}@127.0.0.1:${controllers}`)
      .join(','),
    'auto.create.topics.enable': 'false',
    'group.initial.rebalance.delay.ms': '0',
    'group.min.session.timeout.ms': '500',
    'offsets.topic.num.partitions': String(2 * nodes.length),
    'offsets.topic.replication.factor': copies,
    'transaction.state.log.num.partitions': '1',
    'transaction.state.log.replication.factor': copies,
    'transaction.state.log.min.isr': inSync,
    'share.coordinator.state.topic.num.partitions': '1',
    'share.coordinator.state.topic.replication.factor': copies,
    'share.coordinator.state.topic.min.isr': inSync,
    'num.network.threads': '2',
    'num.io.threads': '2',
    'log.cleaner.dedupe.buffer.size': '2097152',
    'log.cleaner.threads': '1',
    // A node that was killed waits at its start until its old session is over. Alone it has nothing to lose by a short one;
    // beside others, a busy machine must not end the session of a broker that lives.
    'broker.heartbeat.interval.ms': '300',
    'broker.session.timeout.ms': nodes.length === 1 ? '1500' : '3000',
    ...securityProperties(security),
    ...settings,
  })
}

/** What `kafka-storage.sh format` is told beside the configuration: SCRAM passwords are kept in the cluster's own data. */
export function formatArguments({ users = {} }: Security): readonly string[] {
  const scram = SCRAM_MECHANISMS.flatMap((mechanism) =>
    Object.entries(users).flatMap(([name, password]) => [
      '--add-scram',
      `${mechanism}=[name=${name},password=${password}]`,
    ]),
  )
  return ['--cluster-id', CLUSTER_ID, ...scram]
}

function protocolOf({ users, tls }: Security): string {
  if (users === undefined) return tls === undefined ? 'PLAINTEXT' : 'SSL'
  return tls === undefined ? 'SASL_PLAINTEXT' : 'SASL_SSL'
}

function securityProperties({ users, tls }: Security): Record<string, string> {
  const listener = 'listener.name.clients'
  const properties: Record<string, string> = {}
  if (users !== undefined) {
    const known = Object.entries(users).map(([name, password]) => ` user_${name}="${password}"`)
    properties[`${listener}.sasl.enabled.mechanisms`] = ['PLAIN', ...SCRAM_MECHANISMS].join(',')
    properties[`${listener}.plain.sasl.jaas.config`] =
      `org.apache.kafka.common.security.plain.PlainLoginModule required${known.join('')};`
    for (const mechanism of SCRAM_MECHANISMS) {
      properties[`${listener}.${mechanism.toLowerCase()}.sasl.jaas.config`] =
        'org.apache.kafka.common.security.scram.ScramLoginModule required;'
    }
  }
  if (tls !== undefined) {
    properties[`${listener}.ssl.keystore.type`] = 'PEM'
    properties[`${listener}.ssl.keystore.certificate.chain`] = tls.cert
    properties[`${listener}.ssl.keystore.key`] = tls.key
  }
  return properties
}

function propertiesText(properties: Readonly<Record<string, string>>): string {
  return Object.entries(properties)
    .map(([name, value]) => `${name}=${value.replaceAll('\\', '\\\\').replaceAll('\n', '\\n')}\n`)
    .join('')
}

/** Names what is fetched, and its version. */
export const POM: string = join(import.meta.dirname, 'pom.xml')

/** The version in pom.xml, the one place that names it. */
export async function kafkaVersion(): Promise<string> {
  const version = /<kafka\.version>([^<]+)</.exec(await readFile(POM, 'utf8'))?.[1]
  if (version === undefined) throw new Error('deploy/kafka/pom.xml names no kafka.version')
  return version
}
