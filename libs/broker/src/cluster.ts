import { EventLogUnavailableError } from '@curfew/domain'
import type { Admin } from 'kafkajs'
import { createAdmins } from './admins.ts'
import type { ConnectionOptions, KafkaLog } from './client.ts'
import { describeTopics } from './metadata.ts'
import { refusalOf } from './refusal.ts'
import { type FoundTopic, faultsOf, inShort, unavailablePartitions } from './topic-settings.ts'
import {
  createMissing,
  describeConfigs,
  findTopics,
  type TopicKind,
  type TopicsSettings,
  topicName,
} from './topics.ts'

const CHECK_TIMEOUT_MS = 5_000
const READY_TIMEOUT_MS = 15_000

/** The topics that one process uses, in their cluster. */
export interface Cluster {
  /** Creates topics that are missing and looks at the settings of all. Once that was done it resolves at once. */
  ready(): Promise<void>
  /** The next `ready` looks at the topics again: to be called when Kafka says that it does not know one. */
  lookAgain(): void
  /**
   * Resolves when each topic takes records. Where only some of its partitions do, the log names the others: a service that did not count
   * as ready would take no logouts at all. Creates topics that vanished. @throws {EventLogUnavailableError}
   */
  check(): Promise<void>
  close(): Promise<void>
}

/** Opens nothing until it is asked. */
export function createCluster({
  connection,
  topics,
  kinds,
  log,
}: {
  connection: ConnectionOptions
  topics: TopicsSettings
  kinds: readonly TopicKind[]
  log: KafkaLog | undefined
}): Cluster {
  const admins = createAdmins(connection)
  const tooling = { brokers: connection.brokers, secured: isSecured(connection) }
  const seen = new Set<string>()
  let reported = ''
  let refusing = ''
  let settingUp: Promise<void> | null = null

  async function setUp(admin: Admin): Promise<void> {
    for (const topic of await createMissing(admin, kinds, topics)) {
      if (seen.has(topic))
        log?.('error', `topic ${topic} had vanished with its records, and was created again`, { topic })
      else log?.('info', `topic ${topic} was created`, { topic })
    }
    const found = await findTopics(admin, kinds, topics)
    for (const { topic, partitions } of found) if (partitions.length > 0) seen.add(topic)
    report(found)
  }

  /** Says what is not as it must be, once for as long as it stays the same. */
  function report(found: readonly FoundTopic[]): void {
    const lines = found.flatMap((each) =>
      faultsOf(each, topics, tooling).map((fault) => ({ topic: each.topic, ...fault })),
    )
    const all = JSON.stringify(lines)
    if (all === reported) return
    reported = all
    for (const { severe, ...line } of lines) {
      const { topic, setting, actual, wanted, why } = line
      const message = `topic ${topic}: ${setting} is ${actual} and must be ${wanted}: ${why}`
      log?.(severe ? 'error' : 'warn', message, line)
    }
  }

  function reportRefusing(faults: readonly string[]): void {
    const all = faults.join('; ')
    if (all === refusing) return
    refusing = all
    if (all === '') log?.('info', 'all partitions take records again', {})
    else log?.('error', `Kafka refuses records: ${all}`, {})
  }

  function ready(): Promise<void> {
    if (settingUp !== null) return settingUp
    const current = admins.use(setUp, READY_TIMEOUT_MS).catch((error: unknown) => {
      if (settingUp === current) settingUp = null
      throw error
    })
    settingUp = current
    return current
  }

  function lookAgain(): void {
    settingUp = null
  }

  /** What keeps the topics from taking records, in words. */
  async function look(
    admin: Admin,
  ): Promise<{ readonly vanished: boolean; readonly faults: readonly string[] }> {
    const names = kinds.map((kind) => topicName(kind, topics))
    const partitions = await describeTopics(admin, names)
    const missing = names.filter((name) => !partitions.get(name)?.length)
    const present = names.filter((name) => !missing.includes(name))
    // Operators may change what a partition needs at any time.
    const configs = await describeConfigs(admin, present)
    const found = present.map((topic) => {
      const all = partitions.get(topic) ?? []
      const config = configs?.get(topic) ?? null
      const unavailable = unavailablePartitions({ partitions: all, config })
      return {
        some: unavailable.length > 0,
        all: unavailable.length === all.length,
        what: `topic ${topic} at partition ${inShort(unavailable)}`,
      }
    })
    reportRefusing(found.filter(({ some }) => some).map(({ what }) => what))
    const refused = found.filter(({ all }) => all).map(({ what }) => what)
    const faults = [...missing.map((topic) => `topic ${topic} is missing`), ...refused]
    return { vanished: missing.length > 0, faults }
  }

  async function lookForFaults(): Promise<readonly string[]> {
    await ready()
    const { vanished, faults } = await admins.use(look, CHECK_TIMEOUT_MS)
    if (!vanished) return faults
    lookAgain()
    await ready()
    return (await admins.use(look, CHECK_TIMEOUT_MS)).faults
  }

  return {
    ready,
    lookAgain,
    async check() {
      const faults = await lookForFaults().catch((error: unknown) => {
        throw new EventLogUnavailableError(refusalOf(error) ?? 'Kafka does not answer', { cause: error })
      })
      if (faults.length > 0) throw new EventLogUnavailableError(`Kafka refuses records: ${faults.join('; ')}`)
    },
    close: () => admins.close(),
  }
}

/** Whether commands of Kafka's own tools need credentials or certificates too. */
export function isSecured({ ssl, sasl }: ConnectionOptions): boolean {
  return (ssl !== undefined && ssl !== false) || sasl !== undefined
}
