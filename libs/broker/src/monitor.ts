import {
  type EventLogMonitor,
  type EventLogState,
  EventLogUnavailableError,
  type LaneState,
  type LogLane,
  type OwnLedger,
} from '@curfew/domain'
import kafkajs, { type Admin } from 'kafkajs'
import { createAdmins } from './admins.ts'
import { type ConnectionOptions, original, within } from './client.ts'
import { isSecured } from './cluster.ts'
import { identifyKafka } from './identity.ts'
import { foreignText, otherLedger } from './mark.ts'
import { type Offsets, oldestAgeMs } from './oldest.ts'
import { refusalOf } from './refusal.ts'
import { type FoundTopic, faultsOf } from './topic-settings.ts'
import {
  DEFAULT_TOPICS,
  findTopics,
  groupName,
  LANES,
  PUBLISHED,
  type TopicsSettings,
  topicName,
} from './topics.ts'

export interface KafkaMonitorOptions extends ConnectionOptions {
  /** The group id of the event log. */
  readonly groupId: string
  /** The ledger that the records are for, as in the event log. Default: accepts commits of all ledgers. */
  readonly ledger?: () => Promise<OwnLedger | null>
  /** Default: `DEFAULT_TOPICS`. */
  readonly topics?: TopicsSettings
}

const LOOK_TIMEOUT_MS = 20_000
const LANE_TIMEOUT_MS = 10_000
const TRIES = 5
/** An answer that lacks partitions. It must not pass for an answer that no record waits. */
class IncompleteAnswerError extends Error {
  readonly type = 'INCOMPLETE_ANSWER'
  readonly retriable = true
}
const TRY_PAUSE_MS = 300

/**
 * Observes topics and consumer groups. It creates and consumes nothing. Each look opens its own connection, because a kafkajs
 * connection keeps asking about a topic that vanished.
 */
export function createKafkaMonitor(options: KafkaMonitorOptions): EventLogMonitor {
  const { topics: settings = DEFAULT_TOPICS, groupId } = options
  const tooling = { brokers: options.brokers, secured: isSecured(options) }
  let looking: ReturnType<EventLogMonitor['look']> | null = null

  async function lookOnce(ledger: OwnLedger | null): Promise<EventLogState> {
    const admins = createAdmins(options)
    try {
      return await admins.use(async (admin) => {
        const found = await findTopics(admin, [...LANES, ...PUBLISHED], settings)
        const lanes: LaneState[] = []
        // One after the other: kafkajs forgets a topic while it asks about another.
        for (const lane of LANES) {
          const topic = foundOf(found, topicName(lane, settings))
          lanes.push(
            await stateOrWhyNot(admin, { lane, group: groupName(lane, groupId), found: topic, ledger }),
          )
        }
        const topics = found.map((each) => ({
          topic: each.topic,
          faults: faultsOf(each, settings, tooling),
        }))
        const offline = found.flatMap(({ partitions }) => partitions.flatMap((each) => each.offline))
        const brokersUnavailable = [...new Set(offline)].sort((one, other) => one - other)
        return { name: await identifyKafka(options), brokersUnavailable, lanes, topics }
      }, LOOK_TIMEOUT_MS)
    } finally {
      await admins.close()
    }
  }

  async function look(): Promise<EventLogState> {
    const ledger = (await options.ledger?.()) ?? null
    try {
      // The second connection starts with another broker, in case the first one hangs.
      return await lookOnce(ledger).catch(() => lookOnce(ledger))
    } catch (error) {
      throw new EventLogUnavailableError(refusalOf(error) ?? 'Kafka does not answer', { cause: error })
    }
  }

  return {
    store: 'kafka',
    look() {
      looking ??= look().finally(() => {
        looking = null
      })
      return looking
    },
  }
}

function foundOf(found: readonly FoundTopic[], topic: string): FoundTopic {
  const one = found.find((each) => each.topic === topic)
  if (one === undefined) throw new Error(`the state of topic ${topic} was not read`)
  return one
}

interface Lane {
  readonly lane: LogLane
  readonly group: string
  readonly found: FoundTopic
  readonly ledger: OwnLedger | null
}

/**
 * The state of a lane, or the reason it is unknown, so that one lane does not hide the others. Retries if leaders or coordinators
 * move.
 */
async function stateOrWhyNot(admin: Admin, lane: Lane): Promise<LaneState> {
  for (let tries = 1; ; tries++) {
    try {
      return await within(laneState(admin, lane), LANE_TIMEOUT_MS, `looking at ${lane.found.topic}`)
    } catch (error) {
      const cause = original(error)
      if (tries === TRIES || !isRetriable(cause))
        return { lane: lane.lane, unknown: cause instanceof Error ? cause.message : String(cause) }
    }
    await new Promise((resolve) => setTimeout(resolve, TRY_PAUSE_MS))
  }
}

/** Whether a protocol error is transient. Connection errors are not: kafkajs has retried them itself. */
function isRetriable(cause: unknown): boolean {
  return cause instanceof Error && 'type' in cause && 'retriable' in cause && cause.retriable === true
}

async function laneState(admin: Admin, { lane, group, found, ledger }: Lane): Promise<LaneState> {
  const { topic, partitions } = found
  if (partitions.length === 0) return { lane, unknown: `topic ${topic} is missing` }
  const leaderless = partitions.find(({ led }) => !led)
  if (leaderless !== undefined)
    return { lane, unknown: `partition ${leaderless.partition} of ${topic} has no leader` }

  // Commits are read first. Otherwise a record appended and committed between the two requests would look overtaken.
  const [commits, assigned] = await Promise.all([
    commitsOf(admin, group, found),
    assignedOf(admin, group, topic),
  ])
  for (const { partition, metadata } of commits) {
    const other = ledger && otherLedger(metadata, ledger)
    if (other !== null) return { lane, unknown: foreignText(`${topic}/${partition}`, other) }
  }
  const committed: Offsets = new Map(commits.map(({ partition, offset }) => [partition, BigInt(offset)]))
  const ends = complete(await admin.fetchTopicOffsets(topic), found)
  const unread = new Map<number, bigint>()
  let waiting = 0n
  let removed = 0n
  for (const { partition, low, high } of ends) {
    const [first, end] = [BigInt(low), BigInt(high)]
    const commit = committed.get(partition)
    if (commit !== undefined && commit < first) removed += first - commit
    const next = commit === undefined || commit < first ? first : commit
    if (next >= end) continue
    unread.set(partition, next)
    waiting += end - next
  }
  const nowMs = Date.now()
  const oldestMs = unread.size === 0 ? 0 : await oldestAgeMs(unread, firstSince(admin, found), nowMs)
  return {
    lane,
    unknown: null,
    waiting: Number(waiting),
    oldestSeconds: oldestMs / 1_000,
    unassigned: partitions.map(({ partition }) => partition).filter((partition) => !assigned.has(partition)),
    removed: Number(removed),
  }
}

/** @throws {IncompleteAnswerError} if an answer lacks partitions of the topic. */
function complete<Item extends { readonly partition: number }>(
  answered: readonly Item[],
  { topic, partitions }: FoundTopic,
): readonly Item[] {
  const known = new Set(answered.map(({ partition }) => partition))
  if (partitions.every(({ partition }) => known.has(partition))) return answered
  throw new IncompleteAnswerError(`the answer of kafkajs lacks partitions of ${topic}`)
}

/** The commits of a group. Leaves out partitions without a commit. */
async function commitsOf(admin: Admin, groupId: string, found: FoundTopic) {
  const [fetched] = await admin.fetchOffsets({ groupId, topics: [found.topic] })
  return complete(fetched?.partitions ?? [], found).filter(({ offset }) => BigInt(offset) >= 0n)
}

/** The partitions assigned to the members of a group. */
async function assignedOf(admin: Admin, groupId: string, topic: string): Promise<ReadonlySet<number>> {
  const { groups } = await admin.describeGroups([groupId])
  return new Set(
    groups.flatMap(({ members }) =>
      members.flatMap(
        ({ memberAssignment }) =>
          kafkajs.AssignerProtocol.MemberAssignment.decode(memberAssignment)?.assignment[topic] ?? [],
      ),
    ),
  )
}

function firstSince(admin: Admin, found: FoundTopic): (timeMs: number) => Promise<Offsets> {
  return async (timeMs) => {
    const since = complete(await admin.fetchTopicOffsetsByTimestamp(found.topic, Math.floor(timeMs)), found)
    return new Map(since.map(({ partition, offset }) => [partition, BigInt(offset)] as const))
  }
}
