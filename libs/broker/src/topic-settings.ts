import type { TopicFault } from '@curfew/domain'
import type { PartitionState } from './metadata.ts'
import type { TopicKind, TopicsSettings } from './topics.ts'

// What a topic must be: how it is created, and what is said of one that differs. Nothing is mended by Curfew itself. The cluster
// belongs to its operators, and what manages their topics would undo it.

/** What decides how a topic must be set. */
interface Demand {
  readonly retentionMs: number
  readonly replicas: number
}

interface Rule {
  readonly setting: string
  /** The value that a topic is created with. */
  wanted(demand: Demand): string
  /** What is wrong with another value; null where it does as well. */
  judge(actual: string, demand: Demand): Judgement | null
}

interface Judgement {
  readonly why: string
  /** Whether records can be lost or refused by it. */
  readonly severe: boolean
}

/** From this many copies on, a write needs two of them: one broker may then be away and nothing is lost. */
const REPLICAS_FOR_TWO_IN_SYNC = 3
/** More than the broker's default of 1 MiB, for a record of an event that itself may have 1 MiB. */
const RECORD_BYTES_MAX = 2 * 1_048_576
/** A long weekend, in milliseconds: an outage of delivery that long must lose nothing. */
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
      // -1 is for ever.
      if (ms < 0 || ms >= retentionMs) return null
      const why = 'records are removed after that time, read or not'
      return ms < Math.min(retentionMs, RETENTION_MS_MIN) ? severe(why) : minor(why)
    },
  },
  {
    setting: 'retention.bytes',
    wanted: () => '-1',
    judge: (actual) =>
      Number(actual) < 0 ? null : severe('records beyond that size of a partition are removed, read or not'),
  },
  {
    setting: 'max.message.bytes',
    wanted: () => String(RECORD_BYTES_MAX),
    judge: (actual) =>
      Number(actual) >= RECORD_BYTES_MAX ? null : severe('batches that are larger are refused'),
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
        : minor('brokers compress every batch again, and every consumer needs that codec'),
  },
  {
    setting: 'message.timestamp.type',
    wanted: () => 'LogAppendTime',
    judge: (actual) =>
      actual === 'LogAppendTime'
        ? null
        : minor('retention then follows the clock of the machine that wrote the record'),
  },
]

/** The configuration names that `faultsOf` looks at. */
export const SETTING_NAMES: readonly string[] = RULES.map(({ setting }) => setting)

/** The configuration that a topic is created with. */
export function topicConfig(
  kind: TopicKind,
  settings: TopicsSettings,
): { readonly name: string; readonly value: string }[] {
  const demand = { retentionMs: settings[kind].retentionMs, replicas: settings.replicationFactor }
  return RULES.map(({ setting, wanted }) => ({ name: setting, value: wanted(demand) }))
}

/** What is known of a topic. */
export interface FoundTopic {
  readonly topic: string
  readonly kind: TopicKind
  /** In their order; none where the topic is not there. */
  readonly partitions: readonly PartitionState[]
  /** By name. Null where Kafka did not say. */
  readonly config: ReadonlyMap<string, string> | null
}

/** How a command reaches the cluster. */
export interface Tooling {
  readonly brokers: readonly string[]
  /** Whether the command needs credentials or certificates of its own. */
  readonly secured: boolean
}

/** All that is wrong with a topic. Where nothing is lost with it, for the ledger has the same, no fault is severe. */
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
    fix: `A service that runs creates it, if its Kafka user may; otherwise: ${tool('kafka-topics.sh', `${create} ${config.join(' ')}`)}`,
    severe: true,
  }
}

function unread(topic: string, tool: Tool): TopicFault {
  const allow = `--add --allow-principal User:NAME --operation DescribeConfigs --topic ${topic}`
  return {
    setting: 'settings',
    actual: 'not told',
    wanted: 'told',
    why: 'Kafka refuses to describe them to this service',
    fix: tool('kafka-acls.sh', allow),
    severe: false,
  }
}

/** Partitions that take no records at the moment. */
function partitionFaults({ topic, partitions, config }: FoundTopic, tool: Tool): readonly TopicFault[] {
  // Where every replica is in sync, the setting asks for too many: that fault says so.
  const lacking = partitions.filter(({ led, inSync, replicas }) => !led || inSync < replicas)
  const unavailable = unavailablePartitions({ partitions: lacking, config })
  if (unavailable.length === 0) return []
  return [
    {
      setting: 'partitions that take no records',
      actual: inShort(unavailable),
      wanted: 'none',
      why: 'records of their keys are refused',
      fix: `Start the brokers that are unavailable. They are listed by ${tool('kafka-topics.sh', `--describe --topic ${topic}`)}`,
      severe: true,
    },
  ]
}

/** Settings that differ. One command mends all of a topic. */
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

/** Partitions and replicas that are too few. */
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
      fix: `Only while no record waits, because keys move to other partitions and their order is lost: ${tool('kafka-topics.sh', `--alter --topic ${topic} --partitions ${wanted}`)}`,
      severe: false,
    })
  if (replicas < settings.replicationFactor)
    faults.push({
      setting: 'replicas',
      actual: String(replicas),
      wanted: String(settings.replicationFactor),
      why: 'fewer brokers may fail before records are lost or refused',
      fix: `Name ${settings.replicationFactor} replicas of each partition in FILE: ${tool('kafka-reassign-partitions.sh', '--reassignment-json-file FILE --execute')} (or set KAFKA_REPLICATION_FACTOR to what is meant)`,
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

const TOLD_MAX = 5

/** The first of many, as a list in words. */
export function inShort(texts: readonly string[]): string {
  const more = texts.length - TOLD_MAX
  return `${texts.slice(0, TOLD_MAX).join(', ')}${more > 0 ? ` and ${more} more` : ''}`
}

function replicasOf(partitions: readonly PartitionState[]): number {
  return Math.min(...partitions.map(({ replicas }) => replicas))
}
