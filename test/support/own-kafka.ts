import { afterAll, beforeAll, beforeEach } from 'vitest'
import { type OwnKafka, type OwnKafkaOptions, openKafka } from '../../deploy/kafka/broker.ts'
import { missingKafka } from './kafka.ts'

/**
 * Brokers of a file's own, or of a suite's, for tests that end them or need other settings. Where none can be had, the
 * tests are skipped.
 *
 * @param prepare called once, before the brokers start.
 * @returns the cluster, to be asked for by tests and hooks.
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
    if (kafka === null) throw new Error('the brokers have not been started yet')
    return kafka
  }
}
