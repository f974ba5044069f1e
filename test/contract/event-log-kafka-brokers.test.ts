import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { createKafkaEventLog, createKafkaMonitor, topicName } from '@curfew/broker'
import { type EventLog, EventLogDegradedError, EventLogUnavailableError } from '@curfew/domain'
import kafkajs from 'kafkajs'
import { afterEach, describe, expect, it } from 'vitest'
import { numberedRecord as record, smallTopics, uniquePrefix } from '../support/kafka.ts'
import { useOwnKafka } from '../support/own-kafka.ts'

// Goal: every confirmed record is in the log when any of three brokers restarts or hangs, and a broker that hangs blocks only its
// own partitions. Method: real brokers, appends without a pause, and a count in the topic.

const kafka = useOwnKafka(() => ({ brokers: 3 }))
const patiently = { timeout: 60_000, interval: 20 }
const PARTITIONS = 6

const closers: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close()
})

function openLog(prefix: string, replicationFactor: number): EventLog {
  const log = createKafkaEventLog({
    brokers: kafka().brokers,
    clientId: 'test',
    groupId: `${prefix}delivery`,
    topics: smallTopics(prefix, { partitions: PARTITIONS, replicationFactor }),
    quarantine: async () => undefined,
  })
  closers.push(() => log.close())
  return log
}

/** Appends without a pause, in order for every key, until `stop`. */
function startLoad(log: EventLog, keys: readonly string[]) {
  const confirmed: string[] = []
  let stopped = false
  const workers = keys.map(async (key) => {
    for (let number = 0; !stopped; number++) {
      try {
        await log.append([record(key, number)])
        confirmed.push(`${key}-${number}`)
      } catch (error) {
        expect(error).toBeInstanceOf(EventLogUnavailableError)
      }
      // Limits the load to what the test can count at the end.
      await sleep(2)
    }
  })
  return {
    confirmed,
    /** Resolves when every key has `count` more confirmed records. */
    async progress(count: number): Promise<void> {
      const wanted = new Map(keys.map((key) => [key, confirmedOf(key) + count]))
      const behind = () => keys.filter((key) => confirmedOf(key) < (wanted.get(key) ?? 0))
      await expect.poll(behind, patiently).toEqual([])
    },
    async stop(): Promise<void> {
      stopped = true
      await Promise.all(workers)
    },
  }
  function confirmedOf(key: string): number {
    return confirmed.filter((id) => id.startsWith(`${key}-`)).length
  }
}

async function asked<Answer>(
  question: (admin: kafkajs.Admin) => Promise<Answer>,
  socketFactory?: kafkajs.ISocketFactory,
): Promise<Answer> {
  const admin = openClient(socketFactory).admin()
  await admin.connect()
  try {
    return await question(admin)
  } finally {
    await admin.disconnect()
  }
}

const openClient = (socketFactory?: kafkajs.ISocketFactory) =>
  new kafkajs.Kafka({
    ...{ brokers: [...kafka().brokers], logLevel: kafkajs.logLevel.NOTHING },
    ...(socketFactory !== undefined && { socketFactory }),
  })

/**
 * Resolves when every broker reports every replica of the interactive lane as in sync. A broker that was suspended
 * reports an old state at first, so every one is asked.
 */
async function untilInSync(prefix: string): Promise<void> {
  const lagging = async (broker: string) =>
    asked(async (admin) => {
      const { topics } = await admin.fetchTopicMetadata({ topics: [topicName('interactive', { prefix })] })
      return topics.flatMap(({ partitions }) =>
        partitions.filter(({ isr, replicas }) => isr.length < replicas.length),
      )
    }, onlyTo(broker)).catch(String)
  for (const broker of kafka().brokers) await expect.poll(() => lagging(broker), patiently).toEqual([])
}

/** Sends every request to one broker, whichever kafkajs chooses. */
function onlyTo(broker: string): kafkajs.ISocketFactory {
  const [host = '', port = ''] = broker.split(':')
  return ({ onConnect }) => connect({ host, port: Number(port) }, onConnect)
}

/** The ids in the interactive lane, in order within every partition. */
async function readIds(prefix: string): Promise<string[]> {
  const topic = topicName('interactive', { prefix })
  const offsets = await asked((admin) => admin.fetchTopicOffsets(topic))
  const count = offsets.reduce((sum, { offset }) => sum + Number(offset), 0)
  const ids: string[] = []
  const consumer = openClient().consumer({ groupId: `${prefix}auditor` })
  await consumer.connect()
  await consumer.subscribe({ topics: [topic], fromBeginning: true })
  await consumer.run({
    eachMessage: async ({ message }) => void ids.push(String(message.headers?.ce_id)),
  })
  await expect.poll(() => ids.length, patiently).toBeGreaterThanOrEqual(count)
  await consumer.disconnect()
  return ids
}

/** Throws unless the log has all `confirmed` records, and the first occurrences of every key are in the order of the appends. */
async function expectKept(prefix: string, confirmed: readonly string[]): Promise<void> {
  const ids = await readIds(prefix)
  const logged = new Set(ids)
  expect(confirmed.filter((id) => !logged.has(id))).toEqual([])
  const wanted = new Set(confirmed)
  const last = new Map<string, number>()
  for (const id of new Set(ids)) {
    if (!wanted.has(id)) continue
    const [key = '', number = ''] = id.split('-')
    expect(Number(number), `${id} came after ${last.get(key)}`).toBeGreaterThan(last.get(key) ?? -1)
    last.set(key, Number(number))
  }
}

const KEYS = Array.from({ length: 24 }, (_, index) => `k${index}`)

describe('over three brokers', { timeout: 240_000 }, () => {
  it('every confirmed record is in the log after a restart of every broker', async () => {
    const prefix = uniquePrefix()
    const log = openLog(prefix, 3)
    const load = startLoad(log, KEYS)
    await load.progress(20)
    for (const node of kafka().nodes) {
      await untilInSync(prefix)
      await node.stop()
      await load.progress(20)
      await node.restart()
      await load.progress(20)
    }
    await load.stop()
    await expectKept(prefix, load.confirmed)
  })

  it('appends continue when a hanging broker is fenced, and nothing is lost when it resumes', async () => {
    const prefix = uniquePrefix()
    const log = openLog(prefix, 3)
    const load = startLoad(log, KEYS)
    await load.progress(20)
    const [hung] = kafka().nodes
    await untilInSync(prefix)
    await hung?.suspend()
    try {
      await load.progress(20)
    } finally {
      await hung?.resume()
    }
    await load.progress(20)
    await load.stop()
    await untilInSync(prefix)
    await expectKept(prefix, load.confirmed)
  })

  it('a broker that hangs blocks no append to partitions of other brokers', async () => {
    const prefix = uniquePrefix()
    // One replica: the partitions of other brokers do not depend on the hanging one.
    const log = openLog(prefix, 1)
    await log.append(KEYS.map((key) => record(key, 0)))
    const leaders = await leadersOf(prefix)
    const hung = kafka().nodes.find(({ id }) => id === leaders.get('k0'))
    const held = KEYS.filter((key) => leaders.get(key) === hung?.id)
    const others = KEYS.filter((key) => leaders.get(key) !== hung?.id)
    await hung?.suspend()
    try {
      const holding = Promise.allSettled(held.map((key) => log.append([record(key, 1)])))
      for (let number = 1; number < 20; number++) {
        await log.append(others.map((key) => record(key, number)))
      }
      await hung?.resume()
      await holding
    } finally {
      await hung?.resume()
    }
  })

  it('the monitor names an unavailable broker', async () => {
    const prefix = uniquePrefix()
    const log = openLog(prefix, 3)
    await log.check()
    const monitor = createKafkaMonitor({
      brokers: kafka().brokers,
      clientId: 'test',
      groupId: `${prefix}delivery`,
      topics: smallTopics(prefix, { partitions: PARTITIONS, replicationFactor: 3 }),
    })
    const unavailable = () => monitor.look().then(({ brokersUnavailable }) => brokersUnavailable, String)
    await expect.poll(unavailable, patiently).toEqual([])
    const [node] = kafka().nodes
    await node?.stop()
    try {
      await expect.poll(unavailable, patiently).toEqual([node?.id])
    } finally {
      await node?.restart()
    }
    await expect.poll(unavailable, patiently).toEqual([])
  })

  it('the check answers within two seconds while any broker hangs', async () => {
    const prefix = uniquePrefix()
    const log = openLog(prefix, 3)
    await log.append(KEYS.map((key) => record(key, 0)))
    for (const hung of kafka().nodes) {
      await untilInSync(prefix)
      await expect.poll(() => log.check().then(() => 'ready', String), patiently).toBe('ready')
      await hung.suspend()
      try {
        const until = performance.now() + 6_000
        while (performance.now() < until) {
          const askedMs = performance.now()
          await log.check().catch((error) => {
            // `untilInSync` waits only for the interactive lane: another lane may still be degraded.
            expect(error).toBeInstanceOf(EventLogDegradedError)
          })
          expect(performance.now() - askedMs).toBeLessThan(2_000)
        }
      } finally {
        await hung.resume()
      }
    }
  })
})

/** The broker that leads the partition of every key. */
async function leadersOf(prefix: string): Promise<Map<string, number | undefined>> {
  const topic = topicName('interactive', { prefix })
  const { topics } = await asked((admin) => admin.fetchTopicMetadata({ topics: [topic] }))
  const partitionMetadata = topics[0]?.partitions ?? []
  const partitioner = kafkajs.Partitioners.DefaultPartitioner()
  return new Map(
    KEYS.map((key) => {
      const partition = partitioner({ topic, partitionMetadata, message: { key, value: null } })
      return [key, partitionMetadata.find(({ partitionId }) => partitionId === partition)?.leader]
    }),
  )
}
