import kafkajs from 'kafkajs'
import { original } from './client.ts'

/** Codes of a certificate that Node does not trust. */
const UNTRUSTED = /CERT|UNABLE_TO_(?:GET|VERIFY)/

/**
 * Why brokers that run do not serve us, where a setting of ours may be the reason. Names the setting, and no secret.
 * Null where the reason is another one.
 */
export function refusalOf(error: unknown): string | null {
  const outer = original(error)
  // Where several topics are asked for at once, kafkajs throws one error for each, in another.
  const cause: unknown = outer instanceof kafkajs.KafkaJSAggregateError ? outer.errors[0] : outer
  if (!(cause instanceof Error)) return null
  const code = 'code' in cause && typeof cause.code === 'string' ? cause.code : ''
  const type = 'type' in cause && typeof cause.type === 'string' ? cause.type : ''
  if (cause.name === 'KafkaJSSASLAuthenticationError' || type.includes('SASL')) {
    return `Kafka refuses the login (KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD, KAFKA_SASL_MECHANISM): ${cause.message}`
  }
  if (type.endsWith('AUTHORIZATION_FAILED')) {
    return `Kafka refuses the user of KAFKA_SASL_USERNAME, who lacks a right that docs/operate/kafka.md names: ${cause.message}`
  }
  if (cause.name === 'KafkaJSConnectionError' && UNTRUSTED.test(code)) {
    return `the certificate of Kafka is not trusted (KAFKA_SSL_CA): ${cause.message}`
  }
  if (cause.name === 'KafkaJSConnectionClosedError' || code === 'ECONNRESET') {
    return 'Kafka closes the connection: it stops, or KAFKA_SSL or KAFKA_SASL_USERNAME are not as the broker wants them'
  }
  return null
}
