import type { Publisher } from '@curfew/domain'
import type { ConnectionOptions } from './client.ts'
import { createCluster } from './cluster.ts'
import { createAppender } from './producer.ts'
import { toMessage } from './records.ts'
import { DEFAULT_TOPICS, PUBLISHED, type TopicsSettings, topicName } from './topics.ts'

export interface KafkaPublisherOptions extends ConnectionOptions {
  /** Default: `DEFAULT_TOPICS`. */
  readonly topics?: TopicsSettings
  /** Time from the call of `publish` to its rejection if Kafka does not confirm, in milliseconds. Default 10 000 (10 s). */
  readonly publishTimeoutMs?: number
}

/** Most bytes of records that wait for confirmation. */
const QUEUE_BYTES_MAX = 16 * 1_048_576

/**
 * Publishes to the topics `logout.dead-letters` and `logout.outcomes`. It connects on first use and starts without a broker.
 *
 * @see {Publisher} for the guarantees of its methods.
 */
export function createKafkaPublisher(options: KafkaPublisherOptions): Publisher {
  const { topics = DEFAULT_TOPICS, publishTimeoutMs = 10_000, log } = options
  const cluster = createCluster({ connection: options, topics, kinds: PUBLISHED, vital: PUBLISHED, log })
  const appender = createAppender({
    connection: options,
    ready: cluster.ready,
    lookAgain: cluster.lookAgain,
    timeoutMs: publishTimeoutMs,
    queueBytesMax: QUEUE_BYTES_MAX,
  })
  return {
    publish(kind, records) {
      const topic = topicName(kind, topics)
      return appender.append(records.map((record) => ({ topic, message: toMessage(record) })))
    },
    check: () => cluster.check(),
    async close() {
      await appender.close()
      await cluster.close()
    },
  }
}
