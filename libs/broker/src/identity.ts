import type { ConnectionOptions } from './client.ts'
import { createMetadataReader } from './leaders.ts'
import { DEFAULT_TOPICS, type TopicsSettings, topicName } from './topics.ts'

const TIMEOUT_MS = 2_000

/**
 * Names the event log that the settings lead to, for people and for comparison. Two names are equal only if the cluster and the
 * topics are the same, whichever brokers the settings list.
 *
 * @throws the last broker's error, if none answers.
 */
export async function identifyKafka(
  options: ConnectionOptions & { readonly topics?: TopicsSettings },
): Promise<string> {
  const { topics = DEFAULT_TOPICS } = options
  const reader = createMetadataReader(options, TIMEOUT_MS)
  try {
    const { clusterId } = await reader.read([topicName('interactive', topics)])
    return `Kafka cluster ${clusterId ?? '(without an id)'}, topics ${topics.prefix}logout.*`
  } finally {
    reader.close()
  }
}
