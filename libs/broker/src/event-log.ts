import { type EventLog, EventLogUnavailableError, type Lane, type LogRecord } from '@curfew/domain'
import type { Admin } from 'kafkajs'
import { type Client, type ConnectionOptions, createClient, within } from './client.ts'
import { createLaneConsumer } from './consumer.ts'
import { createAppender } from './producer.ts'
import { toMessage, toQuarantineMessage } from './records.ts'
import { DEFAULT_TOPICS, ensureTopics, type TopicsSettings, topicName } from './topics.ts'

export interface KafkaEventLogOptions extends ConnectionOptions {
  /** Consumers of one group share the records. Each lane has a group of its own: `groupId` and `groupId.bulk`. */
  readonly groupId: string
  /** Default: `DEFAULT_TOPICS`. */
  readonly topics?: TopicsSettings
  /** From the call of `append` to its rejection when Kafka does not confirm, in milliseconds. Default 10 000 (10 s). */
  readonly appendTimeoutMs?: number
  /** Most bytes of records waiting to be confirmed; an append beyond is rejected at once. Default 64 MiB. */
  readonly queueBytesMax?: number
  /**
   * After how long the group takes a silent consumer for dead, in milliseconds: so long the partitions of a killed
   * process stand still, and everything after a restart of the whole cluster. Default 6 000 (6 s), the least that
   * brokers allow by default.
   */
  readonly sessionTimeoutMs?: number
}

const CHECK_TIMEOUT_MS = 5_000
const ADMIN_REQUEST_TIMEOUT_MS = 4_000
const READY_TIMEOUT_MS = 15_000

/**
 * The event log in Apache Kafka. Opens nothing until it is used, and needs no broker to be there at first: topics are
 * created and looked at (see `ensureTopics`) before the first append or fetch that reaches the cluster.
 *
 * @see {EventLog} for what its methods promise.
 */
export function createKafkaEventLog(options: KafkaEventLogOptions): EventLog {
  const { groupId, topics = DEFAULT_TOPICS, sessionTimeoutMs = 6_000, log } = options
  const admins = createAdmins(options)
  let settingUp: Promise<void> | null = null

  /** Once the topics have been seen, they are taken to stay. */
  function ready(): Promise<void> {
    settingUp ??= admins
      .use((admin) => ensureTopics(admin, topics, log), READY_TIMEOUT_MS)
      .catch((error: unknown) => {
        settingUp = null
        throw error
      })
    return settingUp
  }

  const appender = createAppender({
    connection: options,
    ready,
    timeoutMs: options.appendTimeoutMs ?? 10_000,
    queueBytesMax: options.queueBytesMax ?? 64 * 1_048_576,
  })
  const outgoing = (record: LogRecord) => ({
    topic: topicName(record.lane, topics),
    message: toMessage(record),
  })

  return {
    append: (records) => appender.append(records.map(outgoing)),
    consume: (consumeOptions, handle) =>
      createLaneConsumer(
        {
          ...consumeOptions,
          connection: options,
          topic: topicName(consumeOptions.lane, topics),
          groupId: groupOf(consumeOptions.lane, groupId),
          sessionTimeoutMs,
          ready,
          quarantine: (quarantined) =>
            appender.append(
              quarantined.map((each) => ({
                topic: topicName('quarantine', topics),
                message: toQuarantineMessage(each),
              })),
            ),
        },
        handle,
      ),
    check: async () => {
      try {
        await ready()
        // Fails while a partition has no leader, so that "it answers" means "it takes records".
        const names = (['interactive', 'bulk', 'quarantine'] as const).map((kind) => topicName(kind, topics))
        await admins.use((admin) => admin.fetchTopicMetadata({ topics: names }), CHECK_TIMEOUT_MS)
      } catch (error) {
        throw new EventLogUnavailableError('Kafka does not answer', { cause: error })
      }
    },
    close: async () => {
      await appender.close()
      await admins.close()
    },
  }
}

function groupOf(lane: Lane, groupId: string): string {
  return lane === 'interactive' ? groupId : `${groupId}.${lane}`
}

/** One administrative connection, opened when it is needed and given up at the first failure. */
function createAdmins(connection: ConnectionOptions) {
  let open: { client: Client; admin: Admin; connected: Promise<void> } | null = null

  function close(): void {
    open?.client.kill()
    open = null
  }
  return {
    async use<Result>(work: (admin: Admin) => Promise<Result>, timeoutMs: number): Promise<Result> {
      if (open === null) {
        const client = createClient(connection, ADMIN_REQUEST_TIMEOUT_MS)
        const admin = client.kafka.admin()
        open = { client, admin, connected: admin.connect() }
      }
      const { admin, connected } = open
      try {
        return await within(
          connected.then(() => work(admin)),
          timeoutMs,
          'asking Kafka',
        )
      } catch (error) {
        if (open?.admin === admin) close()
        throw error
      }
    },
    async close(): Promise<void> {
      const admin = open?.admin
      // A gentle end first, so that the broker logs none; `close` makes sure of it.
      if (admin !== undefined) await within(admin.disconnect(), 1_000, 'disconnecting').catch(() => undefined)
      close()
    },
  }
}
