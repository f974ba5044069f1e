import type { TopicFault } from '@curfew/domain'
import type { PartitionState } from './metadata.ts'
import type { TopicKind, TopicsSettings } from './topics.ts'

// The required settings of topics: they are created with these, and a topic that differs has faults. Curfew itself repairs none:
// the cluster belongs to its operators, and a tool that manages their topics would undo the repair.

/** The values that determine the settings of a topic. */
interface Demand {
  readonly retentionMs: number
  readonly replicas: number
}

interface Rule {
  readonly setting: string
  /** The value for a new topic. */
  wanted(demand: Demand): string
  /** Judges another value; null if it is as good. */
  judge(actual: string, demand: Demand): Judgement | null
}

interface Judgement {
  readonly why: string
  /** Whether it can cause records to be lost or refused. */
  readonly severe: boolean
}

/** From this many replicas on, a write needs two of them. One broker may then be unavailable without loss. */
const REPLICAS_FOR_TWO_IN_SYNC = 3
/** More than the broker's default of 1 MiB: an event may have 1 MiB, and its record is larger. */
const RECORD_BYTES_MAX = 2 * 1_048_576
/** A long weekend, in milliseconds. An outage of delivery this long must lose nothing. */
const RETENTION_MS_MIN = 3 * 86_400_000

const severe = (why: string): Judgement => ({ why, severe: true })
const minor = (why: string): Judgement => ({ why, severe: false })

const RULES: readonly Rule[] = [
  {
    setting: 'cleanup.policy',
    wanted: () => 'delete',
    judge: (actual) =>
      actual === 'delete' ? null : severe('compaction removes records of one key before they are read'),
  },
  {
    setting: 'retention.ms',
    wanted: ({ retentionMs }) => String(retentionMs),
    judge(actual, { retentionMs }) {
      const ms = Number(actual)
      // A negative value keeps records for ever.
      if (ms < 0 || ms >= retentionMs) return null
      const why = 'records are removed after this time, read or not'
      return ms < Math.min(retentionMs, RETENTION_MS_MIN) ? severe(why) : minor(why)
    },
  },
  {
    setting: 'retention.bytes',
    wanted: () => '-1',
    judge: (actual) =>
      Number(actual) < 0 ? null : severe('records beyond this size of a partition are removed, read or not'),
  },
  {
    setting: 'max.message.bytes',
    wanted: () => String(RECORD_BYTES_MAX),
    judge: (actual) => (Number(actual) >= RECORD_BYTES_MAX ? null : severe('larger batches are refused')),
  },
  {
    setting: 'min.insync.replicas',
    wanted: ({ replicas }) => (replicas >= REPLICAS_FOR_TWO_IN_SYNC ? '2' : '1'),
    judge(actual, { replicas }) {
      const least = Number(actual)
      if (replicas >= REPLICAS_FOR_TWO_IN_SYNC && least < 2)
        return severe('the loss of one broker can lose confirmed records')
      if (least > replicas) return severe('every record is refused')
      if (replicas >= REPLICAS_FOR_TWO_IN_SYNC && least === replicas)
        return minor('every record is refused while one broker is unavailable')
      return null
    },
  },
  {
    setting: 'unclean.leader.election.enable',
    wanted: () => 'false',
    judge: (actual) =>
      actual === 'false' ? null : severe('a replica that missed confirmed records can become the leader'),
  },
  {
    setting: 'compression.type',
    wanted: () => 'producer',
    judge: (actual) =>
      actual === 'producer'
        ? null
        : minor('brokers compress every batch again, and every consumer needs this codec'),
  },
  {
    setting: 'message.timestamp.type',
    wanted: () => 'LogAppendTime',
    judge: (actual) =>
      actual === 'LogAppendTime' ? null : minor('retention then follows the clock of the producer'),
  },
]

/** The configuration names that `faultsOf` checks. */
export const SETTING_NAMES: readonly string[] = RULES.map(({ setting }) => setting)

/** The configuration of a new topic. */
export function topicConfig(
  kind: TopicKind,
  settings: TopicsSettings,
): { readonly name: string; readonly value: string }[] {
  const demand = { retentionMs: settings[kind].retentionMs, replicas: settings.replicationFactor }
  return RULES.map(({ setting, wanted }) => ({ name: setting, value: wanted(demand) }))
}

/** The state of a topic. */
export interface FoundTopic {
  readonly topic: string
  readonly kind: TopicKind
  /** In order; empty if the topic does not exist. */
  readonly partitions: readonly PartitionState[]
  /** By name; null if Kafka refused to describe it. */
  readonly config: ReadonlyMap<string, string> | null
}

/** How Kafka's command-line tools reach the cluster. */
export interface Tooling {
  readonly brokers: readonly string[]
  /** Whether the command needs credentials or certificates of its own. */
  readonly secured: boolean
}

/** The faults of a topic. A published topic has no severe fault, because the ledger has the same data. */
export function faultsOf(found: FoundTopic, settings: TopicsSettings, tooling: Tooling): TopicFault[] {
  const { topic, kind, partitions, config } = found
  const tool = (name: string, rest: string) =>
    `${name} --bootstrap-server ${tooling.brokers.join(',')}${tooling.secured ? ' --command-config client.properties' : ''} ${rest}`
  const faults =
    partitions.length === 0
      ? [missing(found, settings, tool)]
      : [
          ...partitionFaults(found, tool),
          ...countFaults(found, settings, tool),
          ...(config === null ? [unread(topic, tool)] : []),
          ...settingFaults(found, settings, tool),
        ]
  const isLane = kind !== 'deadLetters' && kind !== 'outcomes'
  return isLane ? faults : faults.map((fault) => ({ ...fault, severe: false }))
}

type Tool = (name: string, rest: string) => string

function missing({ topic, kind }: FoundTopic, settings: TopicsSettings, tool: Tool): TopicFault {
  const { partitions } = settings[kind]
  const config = topicConfig(kind, settings).map(({ name, value }) => `--config ${name}=${value}`)
  const create = `--create --topic ${topic} --partitions ${partitions} --replication-factor ${settings.replicationFactor}`
  return {
    setting: 'topic',
    actual: 'missing',
    wanted: 'present',
    why: 'it takes no records',
    fix: `A running service creates it if its Kafka user has the right. Otherwise run: ${tool('kafka-topics.sh', `${create} ${config.join(' ')}`)}`,
    severe: true,
  }
}

function unread(topic: string, tool: Tool): TopicFault {
  const allow = `--add --allow-principal User:NAME --operation DescribeConfigs --topic ${topic}`
  return {
    setting: 'settings',
    actual: 'unreadable',
    wanted: 'readable',
    why: 'Kafka refuses to describe them to this service',
    fix: tool('kafka-acls.sh', allow),
    severe: false,
  }
}

/** Partitions that take no records at present. */
function partitionFaults({ topic, partitions, config }: FoundTopic, tool: Tool): readonly TopicFault[] {
  // If every replica is in sync, `min.insync.replicas` is too high, which is a fault of its own.
  const lacking = partitions.filter(({ led, inSync, replicas }) => !led || inSync < replicas)
  const unavailable = unavailablePartitions({ partitions: lacking, config })
  if (unavailable.length === 0) return []
  return [
    {
      setting: 'partitions that take no records',
      actual: inShort(unavailable),
      wanted: 'none',
      why: 'records of their keys are refused',
      fix: `Start the brokers that are unavailable. List them with: ${tool('kafka-topics.sh', `--describe --topic ${topic}`)}`,
      severe: true,
    },
  ]
}

/** Settings that differ. One command corrects all settings of a topic. */
function settingFaults(
  { topic, kind, partitions, config }: FoundTopic,
  settings: TopicsSettings,
  tool: Tool,
): readonly TopicFault[] {
  const demand = { retentionMs: settings[kind].retentionMs, replicas: replicasOf(partitions) }
  const differing = RULES.flatMap(({ setting, wanted, judge }) => {
    const actual = config?.get(setting)
    const judgement = actual === undefined ? null : judge(actual, demand)
    return actual === undefined || judgement === null
      ? []
      : [{ setting, actual, wanted: wanted(demand), ...judgement }]
  })
  const values = differing.map(({ setting, wanted }) => `${setting}=${wanted}`).join(',')
  const alter = `--alter --entity-type topics --entity-name ${topic} --add-config ${values}`
  return differing.map((each) => ({ ...each, fix: tool('kafka-configs.sh', alter) }))
}

/** Too few partitions and too few replicas. */
function countFaults(
  { topic, kind, partitions }: FoundTopic,
  settings: TopicsSettings,
  tool: Tool,
): readonly TopicFault[] {
  const wanted = settings[kind].partitions
  const replicas = replicasOf(partitions)
  const faults: TopicFault[] = []
  if (partitions.length < wanted)
    faults.push({
      setting: 'partitions',
      actual: String(partitions.length),
      wanted: String(wanted),
      why: 'fewer workers share the records',
      fix: `Run this only while no record waits, because keys move to other partitions and lose their order: ${tool('kafka-topics.sh', `--alter --topic ${topic} --partitions ${wanted}`)}`,
      severe: false,
    })
  if (replicas < settings.replicationFactor)
    faults.push({
      setting: 'replicas',
      actual: String(replicas),
      wanted: String(settings.replicationFactor),
      why: 'fewer brokers may fail before records are lost or refused',
      fix: `Name ${settings.replicationFactor} replicas of each partition in FILE: ${tool('kafka-reassign-partitions.sh', '--reassignment-json-file FILE --execute')} (or set KAFKA_REPLICATION_FACTOR to the number that you want)`,
      severe: true,
    })
  return faults
}

/** Partitions that refuse records, each with the reason, as in `3 (no leader)`. */
export function unavailablePartitions({
  partitions,
  config,
}: {
  readonly partitions: readonly Pick<PartitionState, 'partition' | 'led' | 'inSync'>[]
  readonly config: FoundTopic['config']
}): readonly string[] {
  const least = Number(config?.get('min.insync.replicas') ?? 1)
  return partitions.flatMap(({ partition, led, inSync }) => {
    if (!led) return [`${partition} (no leader)`]
    if (inSync < least) return [`${partition} (${inSync} of ${least} replicas in sync)`]
    return []
  })
}

const LISTED_MAX = 5

/** The first few of many texts as one list. */
export function inShort(texts: readonly string[]): string {
  const more = texts.length - LISTED_MAX
  return `${texts.slice(0, LISTED_MAX).join(', ')}${more > 0 ? ` and ${more} more` : ''}`
}

function replicasOf(partitions: readonly PartitionState[]): number {
  return Math.min(...partitions.map(({ replicas }) => replicas))
}
