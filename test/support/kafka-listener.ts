import { createKafkaPublisher, topicName } from '@curfew/broker'
import type { OutgoingTopic, Publisher } from '@curfew/domain'
import kafkajs from 'kafkajs'
import { onTestFinished } from 'vitest'
import { smallTopics } from './kafka.ts'

/** One received record. */
export interface Heard {
  readonly key: string
  readonly headers: Readonly<Record<string, string>>
  readonly value: Readonly<Record<string, unknown>>
}

/** Our publisher, with small topics of its own. It closes with the test. */
export function openPublisher(brokers: readonly string[], prefix: string): Publisher {
  const publisher = createKafkaPublisher({
    brokers,
    clientId: 'publisher',
    topics: smallTopics(prefix, { partitions: 1 }),
  })
  onTestFinished(() => publisher.close())
  return publisher
}

/** Reads a topic from its beginning until the test ends, as a subscriber outside Curfew does. */
export async function listen(
  brokers: readonly string[],
  topic: OutgoingTopic,
  prefix: string,
): Promise<readonly Heard[]> {
  const kafka = new kafkajs.Kafka({
    brokers: [...brokers],
    clientId: 'listener',
    logLevel: kafkajs.logLevel.NOTHING,
  })
  const consumer = kafka.consumer({ groupId: `${prefix}listener` })
  onTestFinished(() => consumer.disconnect())
  const heard: Heard[] = []
  await consumer.connect()
  await consumer.subscribe({ topics: [topicName(topic, { prefix })], fromBeginning: true })
  await consumer.run({
    eachMessage: async ({ message }) => {
      heard.push({
        key: String(message.key),
        headers: Object.fromEntries(
          Object.entries(message.headers ?? {}).map(([name, value]) => [name, String(value)]),
        ),
        value: JSON.parse(String(message.value)) as Heard['value'],
      })
    },
  })
  return heard
}
