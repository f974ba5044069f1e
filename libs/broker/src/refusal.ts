import kafkajs from 'kafkajs'
import { original } from './client.ts'

/** Error codes for a certificate that Node does not trust. */
const UNTRUSTED = /CERT|UNABLE_TO_(?:GET|VERIFY)/

/**
 * The reason that running brokers refuse us, if a setting of ours may cause it; null otherwise. Names the setting, and no secret.
 */
export function refusalOf(error: unknown): string | null {
  const outer = original(error)
  // If several topics were requested, kafkajs throws one error for each, inside another.
  const cause: unknown = outer instanceof kafkajs.KafkaJSAggregateError ? outer.errors[0] : outer
  if (!(cause instanceof Error)) return null
  const code = 'code' in cause && typeof cause.code === 'string' ? cause.code : ''
  const type = 'type' in cause && typeof cause.type === 'string' ? cause.type : ''
  if (cause.name === 'KafkaJSSASLAuthenticationError' || type.includes('SASL')) {
    return `Kafka refuses the login (KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD, KAFKA_SASL_MECHANISM): ${cause.message}`
  }
  if (type.endsWith('AUTHORIZATION_FAILED')) {
    return `Kafka refuses the user of KAFKA_SASL_USERNAME, which lacks a right listed in docs/operate/kafka.md: ${cause.message}`
  }
  if (cause.name === 'KafkaJSConnectionError' && UNTRUSTED.test(code)) {
    return `the certificate of Kafka is not trusted (${code}): set KAFKA_SSL_CA to the CA that issued it, and check its host name and dates`
  }
  if (cause.name === 'KafkaJSConnectionClosedError' || code === 'ECONNRESET') {
    return 'Kafka closes the connection: the broker is stopping, or KAFKA_SSL or KAFKA_SASL_USERNAME do not match its settings'
  }
  return null
}
