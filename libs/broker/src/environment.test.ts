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
  const { cert: ca, key } = await certificates.selfSigned('IP:127.0.0.1')
  expect(read({ ...brokers, KAFKA_SSL_CA: ca })?.ssl).toMatchObject({ ca: [ca] })
  expect(
    read({ ...brokers, KAFKA_SSL_CA: `\uFEFF# ours\r\n${ca.replaceAll('\n', '\r\n')}${ca}` })?.ssl,
  ).toMatchObject({
    ca: [ca, ca],
  })
  const broken = ca.replace(/MII/, 'AAA')
  for (const wrong of ['/etc/kafka/ca.pem', 'x', broken, `${ca}\n${broken}`, `${ca}${key}`])
    expect(() => read({ ...brokers, KAFKA_SSL_CA: wrong })).toThrow(
      /^KAFKA_SSL_CA must be (one or more )?certificates in PEM[\w ,():-]*\. It takes the content of a file, not its name$/,
    )
})
