import type { LogLane } from '@curfew/domain'
import kafkajs, { type Admin } from 'kafkajs'
import { original } from './client.ts'
import { describeTopics } from './metadata.ts'
import { type FoundTopic, SETTING_NAMES, topicConfig } from './topic-settings.ts'

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
  /** Copies of each partition. From 3 on, 2 of them must have a record before it is confirmed (`min.insync.replicas`). */
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

export const LANES: readonly LogLane[] = ['interactive', 'bulk', 'sessions']
export const PUBLISHED: readonly TopicKind[] = ['deadLetters', 'outcomes']

/** The consumer group of a lane. One for each, because kafkajs deals the leader's topics to every member, whatever they subscribed to. */
export function groupName(lane: LogLane, groupId: string): string {
  return lane === 'interactive' ? groupId : `${groupId}.${lane}`
}

/** How long new topics may take until each partition has a leader, in milliseconds. */
const LEADERS_MS_MAX = 5_000
const LEADERS_PAUSE_MS = 100

/**
 * Creates the topics that are missing. What is set otherwise in the others is left as it is: adding partitions, for one, would move
 * keys between them while they are read.
 *
 * @returns the names of those that were created.
 * @throws whatever kafkajs throws when the cluster does not answer or refuses.
 */
export async function createMissing(
  admin: Admin,
  kinds: readonly TopicKind[],
  settings: TopicsSettings,
): Promise<readonly string[]> {
  const partitions = await describeTopics(admin, namesOf(kinds, settings))
  const missing = kinds.filter((kind) => !partitions.get(topicName(kind, settings))?.length)
  if (missing.length === 0) return []
  try {
    await admin.createTopics({
      waitForLeaders: false,
      topics: missing.map((kind) => ({
        topic: topicName(kind, settings),
        numPartitions: settings[kind].partitions,
        replicationFactor: settings.replicationFactor,
        configEntries: [...topicConfig(kind, settings)],
      })),
    })
  } catch (error) {
    // Another process created them in the meantime.
    if (!isAlreadyThere(error)) throw error
  }
  const names = namesOf(missing, settings)
  await leadersOf(admin, names)
  return names
}

/** Waits until every partition has a leader. A cluster that takes longer is told so by what is asked of it next. */
async function leadersOf(admin: Admin, names: readonly string[]): Promise<void> {
  const giveUpAt = performance.now() + LEADERS_MS_MAX
  while (performance.now() < giveUpAt) {
    const found = await describeTopics(admin, names)
    if ([...found.values()].every((each) => each.length > 0 && each.every(({ led }) => led))) return
    await new Promise((resolve) => setTimeout(resolve, LEADERS_PAUSE_MS))
  }
}

/**
 * Partitions and configuration of topics, those that are missing too.
 *
 * @throws whatever kafkajs throws when the cluster does not answer.
 */
export async function findTopics(
  admin: Admin,
  kinds: readonly TopicKind[],
  settings: TopicsSettings,
): Promise<readonly FoundTopic[]> {
  const partitions = await describeTopics(admin, namesOf(kinds, settings))
  const present = [...partitions].filter(([, each]) => each.length > 0).map(([name]) => name)
  const configs = await describeConfigs(admin, present)
  return kinds.map((kind) => {
    const topic = topicName(kind, settings)
    return { topic, kind, partitions: partitions.get(topic) ?? [], config: configs?.get(topic) ?? null }
  })
}

/** The configuration of each topic; null where Kafka refuses to tell. A refusal must stop nothing else. */
export async function describeConfigs(
  admin: Admin,
  names: readonly string[],
): Promise<ReadonlyMap<string, ReadonlyMap<string, string>> | null> {
  if (names.length === 0) return new Map()
  try {
    const { resources } = await admin.describeConfigs({
      includeSynonyms: false,
      resources: names.map((name) => ({
        type: kafkajs.ConfigResourceTypes.TOPIC,
        name,
        configNames: [...SETTING_NAMES],
      })),
    })
    return new Map(
      resources.map(({ resourceName, configEntries }) => [
        resourceName,
        new Map(configEntries.map(({ configName, configValue }) => [configName, configValue])),
      ]),
    )
  } catch (error) {
    if (isAnswer(error)) return null
    throw error
  }
}

function namesOf(kinds: readonly TopicKind[], settings: TopicsSettings): readonly string[] {
  return kinds.map((kind) => topicName(kind, settings))
}

/** Whether Kafka answered, and the answer is an error code. */
function isAnswer(error: unknown): boolean {
  const cause = original(error)
  return cause instanceof Error && cause.name === 'KafkaJSProtocolError'
}

function isAlreadyThere(error: unknown): boolean {
  if (typeof error !== 'object' || error === null) return false
  const { type, errors } = error as { readonly type?: unknown; readonly errors?: unknown }
  if (type === 'TOPIC_ALREADY_EXISTS') return true
  return Array.isArray(errors) && errors.length > 0 && errors.every(isAlreadyThere)
}
