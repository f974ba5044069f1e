import { readEnvironment } from '@curfew/runtime'
import { expect, test } from 'vitest'
import { openCertificateMaker } from '../../../test/support/certificates.ts'
import { readKafkaConnection } from './environment.ts'

const read = (env: Readonly<Record<string, string>>) =>
  readEnvironment(env, (reader) => ({ kafka: readKafkaConnection(reader) })).kafka

test('without brokers there is no Kafka; a variable that names no broker is an error', () => {
  expect(read({})).toBeNull()
  expect(() => read({ KAFKA_BROKERS: ',' })).toThrow('KAFKA_BROKERS names no broker')
  expect(read({ KAFKA_BROKERS: 'kafka-1:9092, kafka-2:9092' })?.brokers).toEqual([
    'kafka-1:9092',
    'kafka-2:9092',
  ])
})

test('a prefix with a character that Kafka refuses is an error', () => {
  const brokers = { KAFKA_BROKERS: 'kafka-1:9092' }
  expect(read({ ...brokers, KAFKA_TOPIC_PREFIX: 'staging.' })?.topics.prefix).toBe('staging.')
  expect(() => read({ ...brokers, KAFKA_TOPIC_PREFIX: 'a b' })).toThrow('KAFKA_TOPIC_PREFIX')
})

test('a CA that is not a PEM certificate is an error that names the setting and hides the value', async () => {
  const brokers = { KAFKA_BROKERS: 'kafka-1:9092' }
  await using certificates = await openCertificateMaker()
  const { cert: ca } = await certificates.selfSigned('IP:127.0.0.1')
  expect(read({ ...brokers, KAFKA_SSL_CA: ca })?.ssl).toEqual({ ca: [ca.trim()] })
  expect(read({ ...brokers, KAFKA_SSL_CA: `${ca}\n${ca}` })?.ssl).toBeDefined()
  const broken = ca.replace(/MII/, 'AAA')
  for (const wrong of ['/etc/kafka/ca.pem', 'x', broken, `${ca}\n${broken}`])
    expect(() => read({ ...brokers, KAFKA_SSL_CA: wrong })).toThrow(
      /^KAFKA_SSL_CA must contain CA certificates in PEM, not the name of a file$/,
    )
})
