import { createKafkaEventLog, createKafkaMonitor, DEFAULT_TOPICS, topicName } from '@curfew/broker'
import type { LaneState } from '@curfew/domain'
import kafkajs from 'kafkajs'
import { afterEach, expect, test } from 'vitest'
import type { OwnKafka } from '../../deploy/kafka/broker.ts'
import { uniquePrefix } from '../support/kafka.ts'
import { useOwnKafka } from '../support/own-kafka.ts'

// Goal: a service is ready while its lanes take records, and says which partitions do not; what befalls the topics of others is
// nothing to it. Method: three brokers, of which some are ended.

const kafka = useOwnKafka(() => ({ brokers: 3 }))
const patiently = { timeout: 60_000, interval: 200 }

type KafkaNode = OwnKafka['nodes'][number]

const closers: (() => Promise<unknown>)[] = []
const away = new Set<KafkaNode>()
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close()
  for (const node of away) await back(node)
})

async function end(node: KafkaNode, how: 'kill' | 'stop'): Promise<void> {
  away.add(node)
  await node[how]()
}

async function back(node: KafkaNode): Promise<void> {
  await node.restart()
  away.delete(node)
}

function firstTwo(): readonly [KafkaNode, KafkaNode] {
  const [first, second] = kafka().nodes
  if (first === undefined || second === undefined) throw new Error('there are not two brokers')
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
  const said: string[] = []
  const log = createKafkaEventLog({
    ...options,
    quarantine: async () => undefined,
    log: (_level, message) => void said.push(message),
  })
  closers.push(() => log.close())
  return {
    log,
    said,
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

test('one broker of three may be away; a second one makes records refused, and that is said', {
  timeout: 240_000,
}, async () => {
  const { ready, monitor, topic } = open(3)
  await expect.poll(ready, patiently).toBe('ready')
  const [first, second] = firstTwo()
  await end(first, 'kill')
  await expect.poll(ready, patiently).toBe('ready')
  await end(second, 'kill')
  await expect.poll(ready, patiently).not.toBe('ready')
  await back(first)
  await back(second)
  await expect.poll(ready, patiently).toBe('ready')
  const faults = async () => (await monitor.look()).topics.find((each) => each.topic === topic)?.faults
  await expect.poll(faults, patiently).toEqual([])
})

test('partitions without a leader are named while the others take records, and only those of our lanes count', {
  timeout: 240_000,
}, async () => {
  const { ready, monitor, topic, log, said } = open(1)
  await expect.poll(ready, patiently).toBe('ready')
  const safe = open(3)
  await expect.poll(safe.ready, patiently).toBe('ready')
  const [first] = firstTwo()
  await end(first, 'kill')
  const named = new RegExp(`^Kafka refuses records: topic ${topic} at partition \\d+ \\(no leader\\)`)
  await expect
    .poll(async () => [await ready(), said.some((line) => named.test(line))], patiently)
    .toEqual(['ready', true])
  await expect
    .poll(async () => (await monitor.look()).topics.find((each) => each.topic === topic)?.faults, patiently)
    .toMatchObject([
      { setting: 'partitions that take no records', actual: expect.stringMatching(/^\d+ \(no leader\)/) },
    ])
  const lane = async () => (await monitor.look()).lanes[0] as LaneState
  expect((await lane()).unknown).toMatch(/^partition \d+ of .* has no leader$/)
  await expect.poll(safe.ready, patiently).toBe('ready')
  // A service that starts now asks about its own topics only.
  const late = open(2)
  await expect.poll(late.ready, patiently).toBe('ready')
  await back(first)
  await expect
    .poll(async () => [await ready(), said.at(-1)], patiently)
    .toEqual(['ready', 'all partitions take records again'])
  await log.append([{ lane: 'interactive', key: 'a', value: new Uint8Array([1]), headers: {} }])
})

test('a partition with fewer replicas in sync than it needs is named', { timeout: 240_000 }, async () => {
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
  await back(first)
  await expect.poll(ready, patiently).toBe('ready')
})

test('a broker that hangs is got around, whichever a service asks first', { timeout: 240_000 }, async () => {
  const before = open(3)
  await expect.poll(before.ready, patiently).toBe('ready')
  const [first] = firstTwo()
  await first.suspend()
  closers.push(() => first.resume())
  // As many as there are brokers, because each new client begins with another one.
  for (const _broker of kafka().nodes)
    await expect.poll(open(3, before.prefix).ready, patiently).toBe('ready')
  await expect.poll(before.ready, patiently).toBe('ready')
  const { topics } = await before.monitor.look()
  expect(topics.flatMap(({ faults }) => faults.map(({ setting }) => setting))).not.toContain(
    'partitions that take no records',
  )
})
