import type { LogLane } from '@curfew/domain'
import kafkajs, { type Admin } from 'kafkajs'
import { original } from './client.ts'
import { describeTopics } from './metadata.ts'
import { type FoundTopic, SETTING_NAMES, topicConfig } from './topic-settings.ts'

/** The required settings of one topic. */
export interface TopicSettings {
  /** At least this many. More partitions allow more consumers and more concurrent batches. They can be added, never removed. */
  readonly partitions: number
  /** Records are kept at least this long, read or not, in milliseconds. It bounds how long delivery may be unavailable. */
  readonly retentionMs: number
}

/** The settings of all our topics. */
export interface TopicsSettings {
  /** The start of every name, such as `test.1.`. Default: empty. */
  readonly prefix: string
  /** Copies of each partition. From 3 on, 2 of them must have a record before it is confirmed (`min.insync.replicas`). */
  readonly replicationFactor: number
  readonly interactive: TopicSettings
  readonly bulk: TopicSettings
  readonly sessions: TopicSettings
  /** Dead letters, for subscribers outside. */
  readonly deadLetters: TopicSettings
  /** Outcomes of deliveries and notifications, for subscribers outside. */
  readonly outcomes: TopicSettings
}

const DAY_MS = 86_400_000

/**
 * Suits a cluster of three brokers. Lanes keep a week, so that an outage of delivery over a long weekend loses nothing. Dead
 * letters keep a month, because a person must act on them.
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

/** The name of the topic of a lane, of dead letters, or of outcomes. */
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

/**
 * The consumer group of a lane. Lanes have separate groups: kafkajs assigns the leader's topics to all members, subscribed or
 * not.
 */
export function groupName(lane: LogLane, groupId: string): string {
  return lane === 'interactive' ? groupId : `${groupId}.${lane}`
}

/** How long to wait until each partition of new topics has a leader, in milliseconds. */
const LEADERS_MS_MAX = 5_000
const LEADERS_PAUSE_MS = 100

/**
 * Creates the missing topics. Existing topics keep their settings: added partitions, for example, would move keys between
 * partitions while they are read.
 *
 * @returns the names of the created topics.
 * @throws the error of kafkajs if the cluster does not answer or refuses.
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

/** Waits until every partition has a leader. Gives up without an error: the next request to the cluster reports it. */
async function leadersOf(admin: Admin, names: readonly string[]): Promise<void> {
  const giveUpAt = performance.now() + LEADERS_MS_MAX
  while (performance.now() < giveUpAt) {
    const found = await describeTopics(admin, names)
    if ([...found.values()].every((each) => each.length > 0 && each.every(({ led }) => led))) return
    await new Promise((resolve) => setTimeout(resolve, LEADERS_PAUSE_MS))
  }
}

/**
 * The partitions and configuration of topics, including missing ones.
 *
 * @throws the error of kafkajs if the cluster does not answer.
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

/** The configuration of each topic; null if Kafka refuses to describe it, which must not stop the rest. */
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

/** Whether Kafka answered with an error code. */
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
