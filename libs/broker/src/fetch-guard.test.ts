import type { Broker, Cluster } from 'kafkajs'
import { expect, onTestFinished, test, vi } from 'vitest'
import { guardFetches } from './fetch-guard.ts'

// Goal: a fetch that fails for one partition neither moves its commit nor stops the others. Method: a broker that answers as a script says.

const typed = (type: string, more: object = {}) => Object.assign(new Error(type), { type, ...more })

type Answered = Record<number, { readonly lastStableOffset: string; readonly messages: readonly unknown[] }>

/**
 * @param failures what a fetch that has this partition fails with.
 * @param answers what each fetch is answered for partitions.
 */
function rig(failures: ReadonlyMap<number, Error>, answers: readonly Answered[] = []) {
  const told: unknown[] = []
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
    outOfRange: (partition) => told.push(['out of range', partition]),
    unreadable: (partition, error) => told.push(['unreadable', partition, error.message]),
    read: (partitions) => told.push(['read', ...partitions]),
    atEnd: (partition, offset) => told.push(['at end', partition, offset]),
  })
  const fetch = async (...partitions: number[]) => {
    const { fetch } = await cluster.findBroker({ nodeId: '1' })
    const wanted = partitions.map((partition) => ({ partition, fetchOffset: '0', maxBytes: 1 }))
    return fetch({ topics: [{ topic: 't', partitions: wanted }] })
  }
  return { fetch, told, asked }
}

test('a fetch that succeeds is what kafkajs gets', async () => {
  const answer = {
    0: { lastStableOffset: '1', messages: ['a record'] },
    1: { lastStableOffset: '0', messages: [] },
  }
  const { fetch, told, asked } = rig(new Map(), [answer])
  const [first, second] = [
    { partition: 0, ...answer[0] },
    { partition: 1, ...answer[1] },
  ]
  expect(await fetch(0, 1)).toEqual({ responses: [{ partitions: [first, second] }] })
  expect(told).toEqual([
    ['read', 0, 1],
    ['at end', 1, 0n],
  ])
  expect(asked).toEqual([[0, 1]])
})

const none = { lastStableOffset: '1', messages: [] }
const one = { lastStableOffset: '1', messages: ['a record'] }

test('a partition that has records and hands out none is left out', async () => {
  const { fetch, told, asked } = rig(new Map(), [{ 1: none, 2: none }, { 1: none }, { 2: one }])
  await fetch(1, 2)
  expect(asked).toEqual([[1, 2], [1], [2]])
  expect(told).toEqual([['read'], ['unreadable', 1, expect.stringMatching(/damaged/)]])
})

test('a partition that others crowd out of the answers is not suspected before some seconds', async () => {
  const clock = vi.spyOn(performance, 'now').mockReturnValue(0)
  onTestFinished(() => void clock.mockRestore())
  const full = { 0: one, 1: none, 2: none }
  const { fetch, told, asked } = rig(new Map(), [full, { ...full, 2: one }, full, { 1: none }])
  for (const ms of [0, 2_000, 2_001]) {
    clock.mockReturnValue(ms)
    await fetch(0, 1, 2)
  }
  expect(asked).toEqual([[0, 1, 2], [0, 1, 2], [0, 1, 2], [1]])
  expect(told).toEqual([
    ['read', 0],
    ['read', 0, 2],
    ['read', 0],
    ['unreadable', 1, expect.stringMatching(/damaged/)],
  ])
})

test('an offset out of range comes to us and not to kafkajs, which would commit another', async () => {
  const { fetch, told } = rig(new Map([[1, typed('OFFSET_OUT_OF_RANGE', { topic: 't', partition: 1 })]]))
  expect(await fetch(0, 1)).toEqual({ responses: [] })
  expect(told).toEqual([['out of range', 1]])
})

test.each([
  ['a batch that cannot be decompressed', new Error('incorrect header check')],
  ['a batch that cannot be decoded', new RangeError('beyond buffer length')],
  ['a batch that the broker found corrupt', typed('CORRUPT_MESSAGE')],
  ['a topic that we may not read', typed('TOPIC_AUTHORIZATION_FAILED')],
  ['a partition whose disk fails', typed('KAFKA_STORAGE_ERROR')],
  ['a partition that the broker has a fault with', typed('UNKNOWN')],
])('%s is left out by itself', async (_, failure) => {
  const { fetch, told, asked } = rig(new Map([[1, failure]]))
  expect(await fetch(0, 1, 2)).toEqual({ responses: [] })
  expect(told).toEqual([['unreadable', 1, failure.message]])
  expect(asked).toEqual([[0, 1, 2], [0], [1], [2]])
})

test.each([
  ['a lost connection', Object.assign(new Error('closed'), { name: 'KafkaJSConnectionClosedError' })],
  ['another leader', typed('NOT_LEADER_FOR_PARTITION')],
  ['a topic that is not there', typed('UNKNOWN_TOPIC_OR_PARTITION')],
])('%s is for kafkajs to recover from', async (_, failure) => {
  const { fetch, told } = rig(new Map([[0, failure]]))
  await expect(fetch(0)).rejects.toBe(failure)
  expect(told).toEqual([])
})
