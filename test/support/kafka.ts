import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { TopicsSettings } from '@curfew/broker'
import type { LogRecord } from '@curfew/domain'
import { type NoKafka, openKafka, type RunningKafka } from '../../deploy/kafka/broker.ts'

/** Test workers inherit this variable: the address of the server that starts the broker of this run. */
const ADDRESS = 'CURFEW_TEST_KAFKA'

/**
 * Vitest's global setup: one broker for the whole run. It starts when the first test asks for it, so that runs without a Kafka
 * test do not wait for it.
 *
 * @returns the teardown.
 */
export async function setup(): Promise<() => Promise<void>> {
  let opening: Promise<RunningKafka | NoKafka> | null = null
  const server = createServer(async (_request, response) => {
    opening ??= openKafka({ log: (line) => process.stderr.write(`kafka: ${line}\n`) })
    try {
      response.end(JSON.stringify(await opening))
    } catch (error) {
      response.statusCode = 500
      response.end(error instanceof Error ? error.message : String(error))
    }
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  process.env[ADDRESS] = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return async () => {
    server.close()
    server.closeAllConnections()
    const kafka = await opening
    if (kafka !== null && kafka.how !== 'none') await kafka.stop()
  }
}

/**
 * The brokers of this run, or the reason that there are none.
 *
 * @throws {Error} if there are none and `CI` is `true`: in CI no test may be skipped.
 */
export async function sharedKafka(): Promise<
  { readonly brokers: readonly string[] } | { readonly missing: string }
> {
  const address = process.env[ADDRESS]
  if (address === undefined) throw new Error('test/support/kafka.ts is not among the global setups of Vitest')
  const response = await fetch(address)
  if (!response.ok) throw new Error(await response.text())
  const kafka = (await response.json()) as
    | { readonly how: 'none'; readonly lookedFor: readonly string[] }
    | { readonly how: 'environment' | 'docker' | 'maven'; readonly brokers: readonly string[] }
  if (kafka.how !== 'none') return { brokers: kafka.brokers }
  return { missing: missingKafka(kafka.lookedFor) }
}

/**
 * The reason that there is no broker, in one line. It is also written to standard error.
 *
 * @throws {Error} if `CI` is `true`.
 */
export function missingKafka(lookedFor: readonly string[]): string {
  const missing = `no Kafka broker: ${lookedFor.join(' ')}`
  if (process.env.CI === 'true') throw new Error(missing)
  process.stderr.write(`\nSKIPPED, ${missing}\n\n`)
  return missing
}

/** Defines a suite that needs a broker. Without one the suite is skipped, with the reason in its title and on standard error. */
export async function describeWithKafka(
  title: string,
  define: (brokers: readonly string[]) => void,
): Promise<void> {
  const { describe, it } = await import('vitest')
  const kafka = await sharedKafka()
  if ('brokers' in kafka) {
    describe(title, () => define(kafka.brokers))
    return
  }
  describe.skip(`${title} (${kafka.missing})`, () => it('needs a broker', () => undefined))
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
