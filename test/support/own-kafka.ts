import { afterAll, beforeAll, beforeEach } from 'vitest'
import { type OwnKafka, type OwnKafkaOptions, openKafka } from '../../deploy/kafka/broker.ts'
import { missingKafka } from './kafka.ts'

/**
 * Separate brokers for a file or a suite whose tests stop brokers or need other settings. Without a broker the tests are skipped.
 *
 * @param prepare called once, before the brokers start.
 * @returns a function that returns the cluster, for tests and hooks.
 */
export function useOwnKafka(
  prepare: () => Omit<OwnKafkaOptions, 'log'> | Promise<Omit<OwnKafkaOptions, 'log'>>,
): () => OwnKafka {
  let kafka: OwnKafka | null = null
  let missing: string | null = null
  beforeAll(async () => {
    const opened = await openKafka({ ...(await prepare()), log: () => undefined })
    if (opened.how !== 'none') kafka = opened
    else missing = missingKafka(opened.lookedFor)
  })
  beforeEach((context) => {
    if (missing !== null) context.skip(missing)
  })
  afterAll(() => kafka?.stop())
  return () => {
    if (kafka === null) throw new Error('the brokers have not started yet: ask for them in a test or a hook')
    return kafka
  }
}
