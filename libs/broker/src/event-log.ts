import {
  type EventLog,
  EventLogUnavailableError,
  type LogRecord,
  type OwnLedger,
  type Quarantine,
} from '@curfew/domain'
import type { ConnectionOptions } from './client.ts'
import { createCluster } from './cluster.ts'
import { createLaneConsumer } from './consumer.ts'
import { createAppender } from './producer.ts'
import { toMessage } from './records.ts'
import { refusalOf } from './refusal.ts'
import { DEFAULT_TOPICS, groupName, LANES, type TopicsSettings, topicName } from './topics.ts'

export interface KafkaEventLogOptions extends ConnectionOptions {
  /** Consumers of one group share the records. Each lane has its own group: `groupId`, `groupId.bulk`, `groupId.sessions`. */
  readonly groupId: string
  /** Stores the records that a consumer rejects. Their offset is committed after it resolves. */
  readonly quarantine: Quarantine
  /**
   * The ledger that the consumers plan for, named in their commits. A partition whose last commit names another ledger is not
   * read. Default: commits name no ledger.
   */
  readonly ledger?: () => Promise<OwnLedger | null>
  /** Default: `DEFAULT_TOPICS`. */
  readonly topics?: TopicsSettings
  /** Time from the call of `append` to its rejection if Kafka does not confirm, in milliseconds. Default 10 000 (10 s). */
  readonly appendTimeoutMs?: number
  /** Most bytes of records that wait for confirmation. A larger append is rejected at once. Default 64 MiB. */
  readonly queueBytesMax?: number
  /**
   * The silence after which the group removes a consumer, in milliseconds. For that time the partitions of a killed process are
   * not consumed; after a restart of the whole cluster, none are. Default 6 000 (6 s), the shortest that brokers allow by
   * default.
   */
  readonly sessionTimeoutMs?: number
}

/**
 * The event log in Apache Kafka. It connects on first use and starts without a broker. Before the first append or fetch that
 * reaches the cluster it creates and checks the topics (see `Cluster.ready`).
 *
 * @see {EventLog} for the guarantees of its methods.
 */
export function createKafkaEventLog(options: KafkaEventLogOptions): EventLog {
  const { groupId, topics = DEFAULT_TOPICS, sessionTimeoutMs = 6_000, log } = options
  const cluster = createCluster({ connection: options, topics, kinds: LANES, vital: ['interactive'], log })
  const appender = createAppender({
    connection: options,
    ready: cluster.ready,
    lookAgain: cluster.lookAgain,
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
          onError: (error) => consumeOptions.onError(explained(error)),
          connection: options,
          topic: topicName(consumeOptions.lane, topics),
          groupId: groupName(consumeOptions.lane, groupId),
          sessionTimeoutMs,
          ready: cluster.ready,
          lookAgain: cluster.lookAgain,
          quarantine: options.quarantine,
          ledger: options.ledger,
        },
        handle,
      ),
    check: () => cluster.check(),
    close: async () => {
      await appender.close()
      await cluster.close()
    },
  }
}

/** The error itself, or one that names the setting to check. */
function explained(error: unknown): unknown {
  const refusal = refusalOf(error)
  return refusal === null ? error : new EventLogUnavailableError(refusal, { cause: error })
}
