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
/** A broker that takes longer may hang, so the next one is asked. A readiness probe waits for two seconds. */
const SOON_MS = 800

/** The topics of one process in their Kafka cluster. */
export interface Cluster {
  /** Creates missing topics and checks the settings of all. Resolves at once after the first success. */
  ready(): Promise<void>
  /** Makes the next `ready` check the topics again. Call it when Kafka does not know a topic. */
  lookAgain(): void
  /**
   * Resolves if every topic takes records. Creates topics that vanished. If only some partitions of a topic take records, it logs
   * the others and resolves: a service that is not ready takes no logouts at all.
   *
   * @throws {EventLogUnavailableError} if a vital topic takes none, or no broker answers.
   * @throws {EventLogDegradedError} if another topic takes none.
   */
  check(): Promise<void>
  close(): Promise<void>
}

/** A topic that takes no records. */
interface Refusing {
  readonly vital: boolean
  readonly vanished: boolean
  /** The fault, in words. */
  readonly what: string
}

/** Opens no connection until its first use. */
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
  /** The kinds that the service cannot work without. */
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

  /** Logs the faults of the topics, once until they change. */
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

  /** The topics that take no records. */
  async function look(): Promise<readonly Refusing[]> {
    const names = kinds.map((kind) => topicName(kind, topics))
    const { topics: answers, partitions, nodes } = await reader.read(names)
    const refused = [...answers.values()].find((answer) => !isLeaders(answer) && !isMissing(answer))
    if (refused !== undefined) throw refused
    const existing = names.filter((name) => partitions.get(name)?.length)
    // Operators may change `min.insync.replicas` at any time. A single broker answers this, and it may hang: its answer then
    // counts at the next look.
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
      // A broker cut off from the others still names their old state. If enough of them are present, one of these becomes the
      // leader.
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

/** Whether a topic does not exist, or has no leaders yet. */
function isMissing({ type }: ProtocolError): boolean {
  return type === 'UNKNOWN_TOPIC_OR_PARTITION' || type === 'LEADER_NOT_AVAILABLE'
}

/** Whether commands of Kafka's own tools need credentials or certificates too. */
export function isSecured({ ssl, sasl }: ConnectionOptions): boolean {
  return (ssl !== undefined && ssl !== false) || sasl !== undefined
}
