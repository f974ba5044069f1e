import { createKafkaEventLog, createKafkaMonitor, DEFAULT_TOPICS, topicName } from '@curfew/broker'
import type { LaneState } from '@curfew/domain'
import kafkajs from 'kafkajs'
import { afterEach, expect, test } from 'vitest'
import type { OwnKafka } from '../../deploy/kafka/broker.ts'
import { uniquePrefix } from '../support/kafka.ts'
import { useOwnKafka } from '../support/own-kafka.ts'

// Goal: a service is ready while its lanes take records, and names the partitions that take none. Topics of other applications do
// not affect it. Method: three brokers, some of which are stopped.

const kafka = useOwnKafka(() => ({ brokers: 3 }))
const patiently = { timeout: 60_000, interval: 200 }

type KafkaNode = OwnKafka['nodes'][number]

const closers: (() => Promise<unknown>)[] = []
const stopped = new Set<KafkaNode>()
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close()
  for (const node of stopped) await restart(node)
})

async function end(node: KafkaNode, how: 'kill' | 'stop'): Promise<void> {
  stopped.add(node)
  await node[how]()
}

async function restart(node: KafkaNode): Promise<void> {
  await node.restart()
  stopped.delete(node)
}

function firstTwo(): readonly [KafkaNode, KafkaNode] {
  const [first, second] = kafka().nodes
  if (first === undefined || second === undefined) throw new Error('the cluster has fewer than two brokers')
  return [first, second]
}

function open(replicationFactor: number, prefix = uniquePrefix()) {
  const lane = { partitions: 6, retentionMs: 3_600_000 }
  const topics = {
    ...DEFAULT_TOPICS,
    prefix,
    replicationFactor,
    interactive: lane,
    bulk: lane,
    sessions: lane,
  }
  const options = { brokers: kafka().brokers, clientId: 'test', groupId: `${prefix}curfew`, topics }
  const messages: string[] = []
  const log = createKafkaEventLog({
    ...options,
    quarantine: async () => undefined,
    log: (_level, message) => void messages.push(message),
  })
  closers.push(() => log.close())
  return {
    log,
    messages,
    prefix,
    ready: () =>
      log.check().then(
        () => 'ready',
        (error: Error) => error.message,
      ),
    monitor: createKafkaMonitor(options),
    topic: topicName('interactive', { prefix }),
  }
}

test('one broker of three may be unavailable; without a second one records are refused, and the service is not ready', {
  timeout: 240_000,
}, async () => {
  const { ready, monitor, topic } = open(3)
  await expect.poll(ready, patiently).toBe('ready')
  const [first, second] = firstTwo()
  await end(first, 'kill')
  await expect.poll(ready, patiently).toBe('ready')
  await end(second, 'kill')
  await expect.poll(ready, patiently).not.toBe('ready')
  await restart(first)
  await restart(second)
  await expect.poll(ready, patiently).toBe('ready')
  const faults = async () => (await monitor.look()).topics.find((each) => each.topic === topic)?.faults
  await expect.poll(faults, patiently).toEqual([])
})

test('partitions without a leader are named while the others take records, and only our own lanes count', {
  timeout: 240_000,
}, async () => {
  const { ready, monitor, topic, log, messages } = open(1)
  await expect.poll(ready, patiently).toBe('ready')
  const safe = open(3)
  await expect.poll(safe.ready, patiently).toBe('ready')
  const [first] = firstTwo()
  await end(first, 'kill')
  const named = new RegExp(`^Kafka refuses records: topic ${topic} at partition \\d+ \\(no leader\\)`)
  await expect
    .poll(async () => [await ready(), messages.some((line) => named.test(line))], patiently)
    .toEqual(['ready', true])
  await expect
    .poll(async () => (await monitor.look()).topics.find((each) => each.topic === topic)?.faults, patiently)
    .toMatchObject([
      { setting: 'partitions that take no records', actual: expect.stringMatching(/^\d+ \(no leader\)/) },
    ])
  const lane = async () => (await monitor.look()).lanes[0] as LaneState
  expect((await lane()).unknown).toMatch(/^partition \d+ of .* has no leader$/)
  await expect.poll(safe.ready, patiently).toBe('ready')
  // A service that starts in this state asks about its own topics only.
  const late = open(2)
  await expect.poll(late.ready, patiently).toBe('ready')
  await restart(first)
  await expect
    .poll(async () => [await ready(), messages.at(-1)], patiently)
    .toEqual(['ready', 'all partitions take records again'])
  await log.append([{ lane: 'interactive', key: 'a', value: new Uint8Array([1]), headers: {} }])
})

test('a partition with fewer replicas in sync than required is named', { timeout: 240_000 }, async () => {
  const { ready, topic } = open(3)
  await expect.poll(ready, patiently).toBe('ready')
  const client = new kafkajs.Kafka({
    brokers: [...kafka().brokers],
    clientId: 'operator',
    logLevel: kafkajs.logLevel.NOTHING,
  })
  const admin = client.admin()
  await admin.connect()
  closers.push(() => admin.disconnect())
  await admin.alterConfigs({
    validateOnly: false,
    resources: [
      {
        type: kafkajs.ConfigResourceTypes.TOPIC,
        name: topic,
        configEntries: [{ name: 'min.insync.replicas', value: '3' }],
      },
    ],
  })
  await expect.poll(ready, patiently).toBe('ready')
  const [first] = firstTwo()
  await end(first, 'stop')
  await expect.poll(ready, patiently).toContain(`topic ${topic} at partition 0 (2 of 3 replicas in sync)`)
  await restart(first)
  await expect.poll(ready, patiently).toBe('ready')
})

test('services work around a broker that hangs, whichever broker they ask first', {
  timeout: 240_000,
}, async () => {
  const before = open(3)
  await expect.poll(before.ready, patiently).toBe('ready')
  const [first] = firstTwo()
  await first.suspend()
  closers.push(() => first.resume())
  // One service for each broker, because each new client starts with another one.
  for (const _broker of kafka().nodes)
    await expect.poll(open(3, before.prefix).ready, patiently).toBe('ready')
  await expect.poll(before.ready, patiently).toBe('ready')
  const { topics } = await before.monitor.look()
  expect(topics.flatMap(({ faults }) => faults.map(({ setting }) => setting))).not.toContain(
    'partitions that take no records',
  )
})
