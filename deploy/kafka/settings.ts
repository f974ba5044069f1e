import { join } from 'node:path'
import { versionIn } from '../server/maven.ts'
import type { Readiness } from '../server/process.ts'

// The settings of a cluster, under Docker and Java alike.

/** How clients connect to the brokers. Default: plaintext connections without authentication. */
export interface Security {
  /** Passwords by user name. A user may log in with PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512. */
  readonly users?: Readonly<Record<string, string>>
  /** Certificate and key of every broker, in PEM. */
  readonly tls?: { readonly cert: string; readonly key: string }
}

/** The ports of one node on loopback, by the kind of peer that connects to them. */
export interface NodePorts {
  readonly clients: number
  readonly brokers: number
  readonly controllers: number
}

export interface ClusterPlan {
  /** The first is node 1. */
  readonly nodes: readonly NodePorts[]
  /** Broker settings that override those below. */
  readonly settings: Readonly<Record<string, string>>
  readonly security: Security
}

/** The input of every way to run nodes. */
export interface Place {
  readonly log: (line: string) => void
  readonly environment: Readonly<Record<string, string | undefined>>
  /** Holds data and configuration. Deleted with the cluster. */
  readonly folder: string
  readonly plan: ClusterPlan
}

/** Any 16 bytes in base64url. Clusters never meet, so all of them may have the same id. */
export const CLUSTER_ID = 'Y3VyZmV3LXRlc3RzLTAwMQ'

/** Kafka logs this when it serves, under Docker and Java alike. */
export const SERVING: Readiness = { server: 'Kafka', says: 'Kafka Server started', timeoutMs: 90_000 }

const COPIES_MAX = 3
const SCRAM_MECHANISMS = ['SCRAM-SHA-256', 'SCRAM-SHA-512']

/** Copies of each partition: one for each broker, at most the three of a production cluster. */
export function replicationFactor(brokers: number): number {
  return Math.min(brokers, COPIES_MAX)
}

/** The address that a node's clients use. */
export function addressOf({ clients }: NodePorts): string {
  return `127.0.0.1:${clients}`
}

/**
 * The `server.properties` of one node, which is broker and controller in one. Clients have their own listener, so brokers
 * need no password to reach each other. Groups form without delay, and internal topics are small. Sessions may be short, so
 * that tests do not wait long for a dead consumer or a killed broker.
 *
 * @param listenAt the address of the listener for clients.
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
    // A killed node cannot start again before its old session has ended, so a single node gets a short session. In a cluster, a
    // longer session keeps a busy machine from ending the session of a broker that lives.
    'broker.heartbeat.interval.ms': '300',
    'broker.session.timeout.ms': nodes.length === 1 ? '1500' : '3000',
    ...securityProperties(security),
    ...settings,
  })
}

/** Arguments of `kafka-storage.sh format` beside the configuration. The cluster keeps SCRAM passwords in its own data. */
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

/** The Maven project that names Kafka's jars and their version. */
export const POM: string = join(import.meta.dirname, 'pom.xml')

/** Reads the Kafka version from pom.xml, the only place that names it. */
export function kafkaVersion(): Promise<string> {
  return versionIn(POM, 'kafka.version')
}
