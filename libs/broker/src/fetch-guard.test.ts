import type { Broker, Cluster } from 'kafkajs'
import { expect, onTestFinished, test, vi } from 'vitest'
import { guardFetches } from './fetch-guard.ts'

// Goal: a fetch that fails for one partition neither moves its commit nor stops the others. Method: a broker with scripted
// answers.

const typed = (type: string, more: object = {}) => Object.assign(new Error(type), { type, ...more })

type Answered = Record<number, { readonly lastStableOffset: string; readonly messages: readonly unknown[] }>

/**
 * @param failures the error of each fetch that includes the partition.
 * @param answers the answers of the fetches, by partition.
 */
function rig(failures: ReadonlyMap<number, Error>, answers: readonly Answered[] = []) {
  const events: unknown[] = []
  const asked: number[][] = []
  const broker = {
    async fetch({ topics }: Parameters<Broker['fetch']>[0]) {
      const partitions = topics.flatMap((topic) => topic.partitions.map(({ partition }) => partition))
      asked.push(partitions)
      for (const partition of partitions) {
        const failure = failures.get(partition)
        if (failure !== undefined) throw failure
      }
      const answered = Object.entries(answers[asked.length - 1] ?? {})
      return {
        responses: [
          { partitions: answered.map(([partition, each]) => ({ partition: +partition, ...each })) },
        ],
      }
    },
  } as unknown as Broker
  const cluster = { findBroker: async () => broker } as unknown as Cluster
  guardFetches(cluster, {
    outOfRange: (partition) => events.push(['out of range', partition]),
    unreadable: (partition, error) => events.push(['unreadable', partition, error.message]),
    read: (partitions) => events.push(['read', ...partitions]),
    atEnd: (partition, offset) => events.push(['at end', partition, offset]),
  })
  const fetch = async (...partitions: number[]) => {
    const { fetch } = await cluster.findBroker({ nodeId: '1' })
    const wanted = partitions.map((partition) => ({ partition, fetchOffset: '0', maxBytes: 1 }))
    return fetch({ topics: [{ topic: 't', partitions: wanted }] })
  }
  return { fetch, events, asked }
}

test('kafkajs gets the answer of a fetch that succeeds', async () => {
  const answer = {
    0: { lastStableOffset: '1', messages: ['a record'] },
    1: { lastStableOffset: '0', messages: [] },
  }
  const { fetch, events, asked } = rig(new Map(), [answer])
  const [first, second] = [
    { partition: 0, ...answer[0] },
    { partition: 1, ...answer[1] },
  ]
  expect(await fetch(0, 1)).toEqual({ responses: [{ partitions: [first, second] }] })
  expect(events).toEqual([
    ['read', 0, 1],
    ['at end', 1, 0n],
  ])
  expect(asked).toEqual([[0, 1]])
})

const none = { lastStableOffset: '1', messages: [] }
const one = { lastStableOffset: '1', messages: ['a record'] }

test('a partition whose records the broker does not return is reported as unreadable', async () => {
  const { fetch, events, asked } = rig(new Map(), [{ 1: none, 2: none }, { 1: none }, { 2: one }])
  await fetch(1, 2)
  expect(asked).toEqual([[1, 2], [1], [2]])
  expect(events).toEqual([['read'], ['unreadable', 1, expect.stringMatching(/damaged/)]])
})

test('a partition that others crowd out of the answers is suspected after two seconds only', async () => {
  const clock = vi.spyOn(performance, 'now').mockReturnValue(0)
  onTestFinished(() => void clock.mockRestore())
  const full = { 0: one, 1: none, 2: none }
  const { fetch, events, asked } = rig(new Map(), [full, { ...full, 2: one }, full, { 1: none }])
  for (const ms of [0, 2_000, 2_001]) {
    clock.mockReturnValue(ms)
    await fetch(0, 1, 2)
  }
  expect(asked).toEqual([[0, 1, 2], [0, 1, 2], [0, 1, 2], [1]])
  expect(events).toEqual([
    ['read', 0],
    ['read', 0, 2],
    ['read', 0],
    ['unreadable', 1, expect.stringMatching(/damaged/)],
  ])
})

test('an offset out of range reaches the listener, and not kafkajs, which would commit another', async () => {
  const { fetch, events } = rig(new Map([[1, typed('OFFSET_OUT_OF_RANGE', { topic: 't', partition: 1 })]]))
  expect(await fetch(0, 1)).toEqual({ responses: [] })
  expect(events).toEqual([['out of range', 1]])
})

test.each([
  ['a batch that cannot be decompressed', new Error('incorrect header check')],
  ['a batch that cannot be decoded', new RangeError('beyond buffer length')],
  ['a batch that the broker found corrupt', typed('CORRUPT_MESSAGE')],
  ['a topic that we may not read', typed('TOPIC_AUTHORIZATION_FAILED')],
  ['a partition whose disk fails', typed('KAFKA_STORAGE_ERROR')],
  ['a partition that the broker has a fault with', typed('UNKNOWN')],
])('%s makes one partition unreadable', async (_, failure) => {
  const { fetch, events, asked } = rig(new Map([[1, failure]]))
  expect(await fetch(0, 1, 2)).toEqual({ responses: [] })
  expect(events).toEqual([['unreadable', 1, failure.message]])
  expect(asked).toEqual([[0, 1, 2], [0], [1], [2]])
})

test.each([
  ['a lost connection', Object.assign(new Error('closed'), { name: 'KafkaJSConnectionClosedError' })],
  ['another leader', typed('NOT_LEADER_FOR_PARTITION')],
  ['a topic that does not exist', typed('UNKNOWN_TOPIC_OR_PARTITION')],
])('kafkajs itself recovers from %s', async (_, failure) => {
  const { fetch, events } = rig(new Map([[0, failure]]))
  await expect(fetch(0)).rejects.toBe(failure)
  expect(events).toEqual([])
})
