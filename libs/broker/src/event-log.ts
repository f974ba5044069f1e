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
  /** Consumers of one group share the records. Each lane has a group of its own: `groupId`, `groupId.bulk`, `groupId.sessions`. */
  readonly groupId: string
  /** Where records go that a consumer refuses. Their offset is not committed before it resolves. */
  readonly quarantine: Quarantine
  /**
   * The ledger that consumers plan for, which their commits name. A partition whose last commit names another ledger is not read.
   * Default: commits name none.
   */
  readonly ledger?: () => Promise<OwnLedger | null>
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

/**
 * The event log in Apache Kafka. Opens nothing until it is used, and needs no broker to be there at first: topics are
 * created and looked at (see `Cluster.ready`) before the first append or fetch that reaches the cluster.
 *
 * @see {EventLog} for what its methods promise.
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

/** The error itself, or one that names the setting to look at. */
function explained(error: unknown): unknown {
  const refusal = refusalOf(error)
  return refusal === null ? error : new EventLogUnavailableError(refusal, { cause: error })
}
