import { createRequire } from 'node:module'
import { createKafkaEventLog } from '@curfew/broker'
import kafkajs from 'kafkajs'
import { afterEach, expect, it, vi } from 'vitest'
import { describeWithKafka, numberedRecord, smallTopics, uniquePrefix } from '../support/kafka.ts'

// Goal: a consumer continues to read after a failed join. Method: a real broker, and calls of kafkajs that fail once, as while the
// coordinator of the group moves to another broker. A test cannot make a broker fail them at a chosen time.

type Call = 'heartbeat' | 'joinGroup' | 'syncGroup' | 'findGroupCoordinator'
type Broker = Record<Call, (request: object) => Promise<unknown>>

const { prototype } = createRequire(import.meta.url)('kafkajs/src/broker/index.js') as {
  readonly prototype: Broker
}
const patiently = { timeout: 12_000, interval: 20 }

const closers: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close()
})

/** Makes the next `times` calls fail. */
function fail(call: Call, error: Error, times = 1): void {
  const original = prototype[call]
  const restore = () => {
    prototype[call] = original
  }
  let left = times
  prototype[call] = async () => {
    left -= 1
    if (left === 0) restore()
    throw error
  }
  closers.push(async () => restore())
}

const answer = (type: string) =>
  new kafkajs.KafkaJSProtocolError(Object.assign(new Error(type), { type, code: 0, retriable: true }))
const LOADING = answer('GROUP_LOAD_IN_PROGRESS')
const CLOSED = new kafkajs.KafkaJSConnectionError('Closed connection')

await describeWithKafka('a consumer whose join fails', (brokers) => {
  async function consume() {
    const prefix = uniquePrefix()
    const log = createKafkaEventLog({
      ...{ brokers, clientId: 'test', groupId: `${prefix}delivery`, sessionTimeoutMs: 6_000 },
      topics: smallTopics(prefix),
      quarantine: async () => undefined,
    })
    closers.push(() => log.close())
    const seen: string[] = []
    const errors: unknown[] = []
    const consumer = log.consume(
      { lane: 'interactive', batchSize: 50, batchesInFlight: 2, onError: (error) => errors.push(error) },
      async (batch) => {
        seen.push(...batch.map(({ headers }) => headers.ce_id ?? '?'))
        return []
      },
    )
    closers.push(() => consumer.stop())
    await log.append([numberedRecord('a', 1)])
    await expect.poll(() => seen, patiently).toEqual(['a-1'])
    return { log, seen, errors, consumer }
  }

  it.each([
    ['joinGroup', 'the coordinator loads its groups', LOADING],
    ['joinGroup', 'the connection is closed', CLOSED],
    ['joinGroup', 'an error that is not from Kafka', new Error('odd')],
    ['syncGroup', 'the coordinator loads its groups', LOADING],
    ['syncGroup', 'the connection is closed', CLOSED],
  ] as const)(
    'continues to read when %s fails: %s',
    async (call, _why, error) => {
      const { log, seen } = await consume()
      fail(call, error)
      fail('heartbeat', answer('NOT_COORDINATOR_FOR_GROUP'))
      await expect.poll(() => prototype[call].name, patiently).toBe(call)
      await log.append([numberedRecord('a', 2)])
      await expect.poll(() => seen, patiently).toEqual(['a-1', 'a-2'])
    },
    40_000,
  )

  it('can leave its group without an error while it joins', async () => {
    const { consumer, errors } = await consume()
    fail('joinGroup', LOADING, Number.POSITIVE_INFINITY)
    const joining = vi.spyOn(prototype, 'joinGroup')
    fail('heartbeat', answer('NOT_COORDINATOR_FOR_GROUP'))
    await expect.poll(() => joining.mock.calls.length, patiently).toBeGreaterThan(1)
    await consumer.stop()
    expect(errors.map(String)).not.toContainEqual(expect.stringContaining('leaving the group'))
  }, 40_000)
})
