import { readEnvironment } from '@curfew/runtime'
import { expect, test } from 'vitest'
import { openCertificateMaker } from '../../../test/support/certificates.ts'
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

test('an authority that is no certificate in PEM is a mistake that names the setting and shows no value', async () => {
  const brokers = { KAFKA_BROKERS: 'kafka-1:9092' }
  await using certificates = await openCertificateMaker()
  const { cert: ca } = await certificates.selfSigned('IP:127.0.0.1')
  expect(read({ ...brokers, KAFKA_SSL_CA: ca })?.ssl).toEqual({ ca: [ca.trim()] })
  expect(read({ ...brokers, KAFKA_SSL_CA: `${ca}\n${ca}` })?.ssl).toBeDefined()
  const broken = ca.replace(/MII/, 'AAA')
  for (const wrong of ['/etc/kafka/ca.pem', 'x', broken, `${ca}\n${broken}`])
    expect(() => read({ ...brokers, KAFKA_SSL_CA: wrong })).toThrow(
      /^KAFKA_SSL_CA must be the certificates of authorities in PEM, not the name of a file$/,
    )
})
