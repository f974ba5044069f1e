import { readEnvironment } from '@curfew/runtime'
import { expect, test } from 'vitest'
import { readKafkaConnection } from './environment.ts'

const read = (env: Readonly<Record<string, string>>) =>
  readEnvironment(env, (reader) => ({ kafka: readKafkaConnection(reader) })).kafka

test('without brokers there is no Kafka; a variable that names none is a mistake', () => {
  expect(read({})).toBeNull()
  expect(() => read({ KAFKA_BROKERS: ',' })).toThrow('KAFKA_BROKERS names no broker')
  expect(read({ KAFKA_BROKERS: 'kafka-1:9092, kafka-2:9092' })?.brokers).toEqual([
    'kafka-1:9092',
    'kafka-2:9092',
  ])
})

test('a prefix that no topic can have is a mistake', () => {
  const brokers = { KAFKA_BROKERS: 'kafka-1:9092' }
  expect(read({ ...brokers, KAFKA_TOPIC_PREFIX: 'staging.' })?.topics.prefix).toBe('staging.')
  expect(() => read({ ...brokers, KAFKA_TOPIC_PREFIX: 'a b' })).toThrow('KAFKA_TOPIC_PREFIX')
})
