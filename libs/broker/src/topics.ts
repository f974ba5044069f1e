import type { LogLane } from '@curfew/domain'
import kafkajs, { type Admin } from 'kafkajs'
import type { KafkaLog } from './client.ts'

/** What one topic must be. */
export interface TopicSettings {
  /** At least so many. More partitions mean more consumers and more batches at once; they can be added, never removed. */
  readonly partitions: number
  /** Records live at least so long, read or not, in milliseconds. It bounds how long delivery may be away. */
  readonly retentionMs: number
}

/** All our topics. */
export interface TopicsSettings {
  /** Put before every name, such as `test.1.`. Default: nothing. */
  readonly prefix: string
  /** Copies of each partition. From 3 on, 2 of them must have a record before it counts (`min.insync.replicas`). */
  readonly replicationFactor: number
  readonly interactive: TopicSettings
  readonly bulk: TopicSettings
  readonly sessions: TopicSettings
  /** Word of dead letters, for those who listen. */
  readonly deadLetters: TopicSettings
  /** What became of deliveries, and notifications, for those who listen. */
  readonly outcomes: TopicSettings
}

const DAY_MS = 86_400_000

/**
 * Made for a cluster of three brokers. Lanes keep a week, so that a delivery service that is down over a long weekend
 * loses nothing; dead letters keep a month, for a person must come by.
 */
export const DEFAULT_TOPICS: TopicsSettings = {
  prefix: '',
  replicationFactor: 3,
  interactive: { partitions: 12, retentionMs: 7 * DAY_MS },
  bulk: { partitions: 12, retentionMs: 7 * DAY_MS },
  sessions: { partitions: 12, retentionMs: 7 * DAY_MS },
  deadLetters: { partitions: 3, retentionMs: 30 * DAY_MS },
  outcomes: { partitions: 12, retentionMs: 7 * DAY_MS },
}

/** From this many copies on, a write needs two of them: one broker may then be away and nothing is lost. */
const REPLICAS_FOR_TWO_IN_SYNC = 3
/** More than the broker's default of 1 MiB, for a record of an event that itself may have 1 MiB. */
const RECORD_BYTES_MAX = 2 * 1_048_576

export type TopicKind = LogLane | 'deadLetters' | 'outcomes'

/** The topic of a lane, of dead letters, or of outcomes. */
export function topicName(kind: TopicKind, { prefix }: Pick<TopicsSettings, 'prefix'>): string {
  const names = {
    interactive: 'logout.events',
    bulk: 'logout.events.bulk',
    sessions: 'logout.sessions',
    deadLetters: 'logout.dead-letters',
    outcomes: 'logout.outcomes',
  }
  return prefix + names[kind]
}

const KINDS: readonly TopicKind[] = ['interactive', 'bulk', 'sessions', 'deadLetters', 'outcomes']

/**
 * Creates the topics that are missing and looks at the others. One that is not as it must be is reported at level
 * `warn` and used as it is: to refuse logouts over a setting would be worse, and to add partitions by ourselves would move
 * keys between them while they are being read.
 *
 * @throws whatever kafkajs throws when the cluster does not answer or refuses.
 */
export async function ensureTopics(
  admin: Admin,
  settings: TopicsSettings,
  log: KafkaLog | undefined,
): Promise<void> {
  const existing = new Set(await admin.listTopics())
  const missing = KINDS.filter((kind) => !existing.has(topicName(kind, settings)))
  if (missing.length > 0) {
    try {
      await admin.createTopics({
        waitForLeaders: true,
        topics: missing.map((kind) => ({
          topic: topicName(kind, settings),
          numPartitions: settings[kind].partitions,
          replicationFactor: settings.replicationFactor,
          configEntries: Object.entries(topicConfig(settings[kind], settings.replicationFactor)).map(
            ([name, value]) => ({ name, value }),
          ),
        })),
      })
    } catch (error) {
      // Another process created them in the meantime.
      if (!isAlreadyThere(error)) throw error
    }
  }
  await reportDifferences(admin, settings, log)
}

function topicConfig({ retentionMs }: TopicSettings, replicationFactor: number): Record<string, string> {
  return {
    'cleanup.policy': 'delete',
    'retention.ms': String(retentionMs),
    'max.message.bytes': String(RECORD_BYTES_MAX),
    // Never a copy that missed records as the leader.
    'unclean.leader.election.enable': 'false',
    'min.insync.replicas': replicationFactor >= REPLICAS_FOR_TWO_IN_SYNC ? '2' : '1',
  }
}

async function reportDifferences(
  admin: Admin,
  settings: TopicsSettings,
  log: KafkaLog | undefined,
): Promise<void> {
  const { topics } = await admin.fetchTopicMetadata({
    topics: KINDS.map((kind) => topicName(kind, settings)),
  })
  const { resources } = await admin.describeConfigs({
    includeSynonyms: false,
    resources: KINDS.map((kind) => ({
      type: kafkajs.ConfigResourceTypes.TOPIC,
      name: topicName(kind, settings),
      configNames: ['retention.ms', 'min.insync.replicas'],
    })),
  })
  for (const kind of KINDS) {
    const topic = topicName(kind, settings)
    const partitions = topics.find(({ name }) => name === topic)?.partitions ?? []
    const entries = resources.find(({ resourceName }) => resourceName === topic)?.configEntries ?? []
    const configured = (name: string) =>
      Number(entries.find(({ configName }) => configName === name)?.configValue)
    const report = (setting: string, actual: number, wanted: number) => {
      log?.('warn', `topic ${topic} has ${setting} ${actual}, less than ${wanted}`, {
        topic,
        setting,
        actual,
        wanted,
      })
    }
    if (partitions.length < settings[kind].partitions) {
      report('partitions', partitions.length, settings[kind].partitions)
    }
    const retentionMs = configured('retention.ms')
    // -1 is for ever.
    if (retentionMs >= 0 && retentionMs < settings[kind].retentionMs) {
      report('retention.ms', retentionMs, settings[kind].retentionMs)
    }
    const replicas = Math.min(...partitions.map((partition) => partition.replicas.length))
    if (partitions.length > 0 && replicas < settings.replicationFactor) {
      report('replicas', replicas, settings.replicationFactor)
    }
    if (replicas >= REPLICAS_FOR_TWO_IN_SYNC && configured('min.insync.replicas') < 2) {
      report('min.insync.replicas', configured('min.insync.replicas'), 2)
    }
  }
}

function isAlreadyThere(error: unknown): boolean {
  if (typeof error !== 'object' || error === null) return false
  const { type, errors } = error as { readonly type?: unknown; readonly errors?: unknown }
  if (type === 'TOPIC_ALREADY_EXISTS') return true
  return Array.isArray(errors) && errors.length > 0 && errors.every(isAlreadyThere)
}
