import { EventLogDegradedError, EventLogUnavailableError, topicFaultText } from '@curfew/domain'
import type { Admin } from 'kafkajs'
import { createAdmins } from './admins.ts'
import { type ConnectionOptions, type KafkaLog, within } from './client.ts'
import { isLeaders, type ProtocolError } from './connection.ts'
import { createMetadataReader } from './leaders.ts'
import { refusalOf } from './refusal.ts'
import { createRollCall } from './roll-call.ts'
import { type FoundTopic, faultsOf, inShort, unavailablePartitions } from './topic-settings.ts'
import {
  createMissing,
  describeConfigs,
  findTopics,
  type TopicKind,
  type TopicsSettings,
  topicName,
} from './topics.ts'

const CONFIGS_TIMEOUT_MS = 5_000
const READY_TIMEOUT_MS = 15_000
/** A broker that takes longer may hang, and the next is asked. A probe waits for two seconds. */
const SOON_MS = 800

/** The topics that one process uses, in their cluster. */
export interface Cluster {
  /** Creates topics that are missing and looks at the settings of all. Once that was done it resolves at once. */
  ready(): Promise<void>
  /** The next `ready` looks at the topics again: to be called when Kafka says that it does not know one. */
  lookAgain(): void
  /**
   * Resolves when each topic takes records. Where only some of its partitions do, the log names the others: a service that did not count
   * as ready would take no logouts at all. Creates topics that vanished.
   *
   * @throws {EventLogUnavailableError} where a vital topic takes none, or no broker answers.
   * @throws {EventLogDegradedError} where another topic takes none.
   */
  check(): Promise<void>
  close(): Promise<void>
}

/** A topic that takes no records. */
interface Refusing {
  readonly vital: boolean
  readonly vanished: boolean
  /** In words. */
  readonly what: string
}

/** Opens nothing until it is asked. */
export function createCluster({
  connection,
  topics,
  kinds,
  vital,
  log,
}: {
  connection: ConnectionOptions
  topics: TopicsSettings
  kinds: readonly TopicKind[]
  /** Of `kinds`: those without which the service is of no use. */
  vital: readonly TopicKind[]
  log: KafkaLog | undefined
}): Cluster {
  const admins = createAdmins(connection)
  const reader = createMetadataReader(connection, SOON_MS)
  const rollCall = createRollCall(connection, topicName(kinds[0] ?? 'interactive', topics), SOON_MS)
  let configs: Awaited<ReturnType<typeof describeConfigs>> = null
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
      const message = `topic ${line.topic}: ${topicFaultText({ severe, ...line })}`
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

  /** What keeps topics from taking records. */
  async function look(): Promise<readonly Refusing[]> {
    const names = kinds.map((kind) => topicName(kind, topics))
    const { topics: answers, partitions, nodes } = await reader.read(names)
    const refused = [...answers.values()].find((answer) => !isLeaders(answer) && !isMissing(answer))
    if (refused !== undefined) throw refused
    const existing = names.filter((name) => partitions.get(name)?.length)
    // Operators may change what a partition needs at any time. One broker alone answers this, and it may hang: then its answer counts
    // at the next look.
    const asking = admins
      .use((admin) => describeConfigs(admin, existing), CONFIGS_TIMEOUT_MS)
      .then((answer) => {
        configs = answer
      })
    const [present] = await Promise.all([
      rollCall.present(nodes),
      within(asking, SOON_MS, 'asking for settings').catch(() => undefined),
    ])
    const found = kinds.map((kind) => {
      const topic = topicName(kind, topics)
      // A broker that lost the others tells of them as they were. Where enough of them are present, one of these will lead.
      const all = (partitions.get(topic) ?? []).map(({ partition, led, isr }) => ({
        ...{ partition, led },
        inSync: isr.filter((id) => present.has(id)).length,
      }))
      const unavailable = unavailablePartitions({ partitions: all, config: configs?.get(topic) ?? null })
      return { kind, topic, missing: all.length === 0, all, unavailable }
    })
    const inWords = ({ topic, unavailable }: (typeof found)[number]) =>
      `topic ${topic} at partition ${inShort(unavailable)}`
    reportRefusing(found.filter(({ unavailable }) => unavailable.length > 0).map(inWords))
    return found
      .filter(({ all, unavailable }) => unavailable.length === all.length)
      .map((each) => ({
        vanished: each.missing,
        vital: vital.includes(each.kind),
        what: each.missing ? `topic ${each.topic} is missing` : inWords(each),
      }))
  }

  async function lookForFaults(): Promise<readonly Refusing[]> {
    await ready()
    const faults = await look()
    if (!faults.some(({ vanished }) => vanished)) return faults
    lookAgain()
    await ready()
    return look()
  }

  return {
    ready,
    lookAgain,
    async check() {
      const faults = await lookForFaults().catch((error: unknown) => {
        throw new EventLogUnavailableError(refusalOf(error) ?? 'Kafka does not answer', { cause: error })
      })
      if (faults.length === 0) return
      const message = `Kafka refuses records: ${faults.map(({ what }) => what).join('; ')}`
      if (faults.some((fault) => fault.vital)) throw new EventLogUnavailableError(message)
      throw new EventLogDegradedError(message)
    },
    async close() {
      reader.close()
      rollCall.close()
      await admins.close()
    },
  }
}

/** Whether a topic is not there, or has no leaders yet. */
function isMissing({ type }: ProtocolError): boolean {
  return type === 'UNKNOWN_TOPIC_OR_PARTITION' || type === 'LEADER_NOT_AVAILABLE'
}

/** Whether commands of Kafka's own tools need credentials or certificates too. */
export function isSecured({ ssl, sasl }: ConnectionOptions): boolean {
  return (ssl !== undefined && ssl !== false) || sasl !== undefined
}
