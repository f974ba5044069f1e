import { randomUUID } from 'node:crypto'
import type { TopicsSettings } from '@curfew/broker'
import type { LogRecord } from '@curfew/domain'
import { openKafka } from '../../deploy/kafka/broker.ts'
import { describeUnless, shareServer, skipWithout } from './shared-server.ts'

const shared = shareServer({
  variable: 'CURFEW_TEST_KAFKA',
  open: () => openKafka({ log: (line) => process.stderr.write(`kafka: ${line}\n`) }),
})

/** Vitest's global setup: one broker for the whole run. */
export const setup: () => Promise<() => Promise<void>> = shared.setup

/**
 * The brokers of this run, or the reason that there are none.
 *
 * @throws {Error} if there are none and `CI` is `true`: in CI no test may be skipped.
 */
export async function sharedKafka(): Promise<
  { readonly brokers: readonly string[] } | { readonly missing: string }
> {
  const kafka = await shared.ask()
  if (kafka.how !== 'none') return { brokers: kafka.brokers }
  return { missing: missingKafka(kafka.lookedFor) }
}

/**
 * The reason that there is no broker, in one line. It is also written to standard error.
 *
 * @throws {Error} if `CI` is `true`.
 */
export function missingKafka(lookedFor: readonly string[]): string {
  return skipWithout('Kafka broker', { how: 'none', lookedFor })
}

/** Defines a suite that needs a broker. Without one the suite is skipped, with the reason in its title and on standard error. */
export async function describeWithKafka(
  title: string,
  define: (brokers: readonly string[]) => void,
): Promise<void> {
  const kafka = await sharedKafka()
  if ('brokers' in kafka) return describeUnless(null, title, () => define(kafka.brokers))
  return describeUnless(kafka.missing, title, () => undefined)
}

/** A prefix for topics and groups that no other test uses. */
export function uniquePrefix(): string {
  return `test.${randomUUID().slice(0, 8)}.`
}

/** The topics of one test, all small and alike. */
export function smallTopics(
  prefix: string,
  { partitions = 4, replicationFactor = 1 }: { partitions?: number; replicationFactor?: number } = {},
): TopicsSettings {
  const each = { partitions, retentionMs: 3_600_000 }
  const lanes = { interactive: each, bulk: each, sessions: each }
  return { prefix, replicationFactor, ...lanes, deadLetters: each, outcomes: each }
}

/** A logout record in which only key, number and `ce_id` matter. */
export function numberedRecord(key: string, number: number): LogRecord {
  return {
    lane: 'interactive',
    key,
    value: Buffer.from(String(number)),
    headers: { ce_id: `${key}-${number}` },
  }
}
