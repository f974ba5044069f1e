import { EventLogUnavailableError, RecordTooLargeError } from '@curfew/domain'
import kafkajs from 'kafkajs'
import { afterEach, describe, expect, it, vi } from 'vitest'
import type { KafkaLog } from './client.ts'
import { type FakeCluster, NOT_LEADER, openFakeCluster } from './fake-cluster.fixture.ts'
import { createAppender, type Outgoing } from './producer.ts'

// Goal: no append resolves unless the log has its records, and one broker does not block the others.
// Method: scripted brokers, because real ones rarely fail this way, and not at a chosen moment.

const closers: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close()
  vi.restoreAllMocks()
})

async function open(
  nodes: number,
  leaders: Record<string, (number | null)[]>,
  options: Partial<Parameters<typeof createAppender>[0]> = {},
  log?: KafkaLog,
) {
  const cluster = await openFakeCluster(nodes, leaders)
  closers.push(() => cluster.close())
  const appender = createAppender({
    connection: { brokers: cluster.brokers, clientId: 'test', ...(log !== undefined && { log }) },
    ready: async () => undefined,
    timeoutMs: 20_000,
    queueBytesMax: 1_048_576,
    ...options,
  })
  closers.push(() => appender.close())
  return { cluster, append: (...messages: Outgoing[]) => appender.append(messages) }
}

const partitioner = kafkajs.Partitioners.DefaultPartitioner()

/** A message whose key belongs to `partition` of `partitions`. */
function message(topic: string, partition: number, partitions: number, value: string): Outgoing {
  const partitionMetadata = Array.from({ length: partitions }, (_, partitionId) => ({
    partitionErrorCode: 0,
    partitionId,
    leader: 1,
    replicas: [],
    isr: [],
  }))
  for (let number = 0; ; number++) {
    const made = { key: `key-${number}`, value: Buffer.from(value), headers: {} }
    if (partitioner({ topic, partitionMetadata, message: made }) === partition)
      return { topic, message: made }
  }
}

/** The values of a topic's partitions. */
const logs = (cluster: FakeCluster, topic: string) =>
  (cluster.leaders[topic] ?? []).map((_, partition) => cluster.log(topic, partition))
/** A generator of numbers from 0 to 1 that a seed reproduces (mulberry32). */
function randomNumbers(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}
const patiently = { timeout: 15_000, interval: 5 }

describe('an append over several leaders', () => {
  it('finds the leaders after the clock was set back by an hour', async () => {
    const { cluster, append } = await open(2, { t: [1] })
    await append(message('t', 0, 1, 'before'))
    const now = Date.now.bind(Date)
    vi.spyOn(Date, 'now').mockImplementation(() => now() - 3_600_000)
    cluster.leaders.t = [2]
    await append(message('t', 0, 1, 'after'))
    expect(logs(cluster, 't')).toEqual([['before', 'after']])
  })

  it('reaches the log if leadership moves to a broker that has already answered', async () => {
    const { cluster, append } = await open(2, { t: [1, 2] })
    await append(message('t', 0, 2, 'first'), message('t', 1, 2, 'second'))
    const answered = Promise.withResolvers<void>()
    let failed = false
    cluster.onProduce = async ({ node, batches }, write) => {
      if (failed) return write(batches)
      if (node === 1) {
        setTimeout(answered.resolve, 50)
        return write(batches)
      }
      // The other broker has answered for its partition. Then this broker loses its own partition to it.
      await answered.promise
      failed = true
      cluster.leaders.t = [1, 1]
      return 'close'
    }
    await append(message('t', 0, 2, 'third'), message('t', 1, 2, 'fourth'))
    expect(logs(cluster, 't')).toEqual([
      ['first', 'third'],
      ['second', 'fourth'],
    ])
  })

  it('is sent again for partitions that an answer leaves out', async () => {
    const { cluster, append } = await open(1, { t: [1, 1] })
    let once = true
    cluster.onProduce = ({ batches }, write) => {
      const left = once ? batches.filter(({ partition }) => partition === 0) : batches
      once = false
      return write(left)
    }
    await append(message('t', 0, 2, 'first'), message('t', 1, 2, 'second'))
    expect(logs(cluster, 't')).toEqual([['first'], ['second']])
  })

  it('is sent again for the one partition that failed, and is in each log once', async () => {
    const { cluster, append } = await open(1, { t: [1, 1] })
    let once = true
    cluster.onProduce = ({ batches }, write) => {
      if (!once) return write(batches)
      once = false
      const [taken, refused] = [
        batches.filter(({ partition }) => partition === 0),
        batches.filter(({ partition }) => partition === 1),
      ]
      return [
        ...write(taken),
        ...refused.map(({ topic, partition }) => ({ topic, partition, error: NOT_LEADER })),
      ]
    }
    await append(message('t', 0, 2, 'first'), message('t', 1, 2, 'second'))
    expect(logs(cluster, 't')).toEqual([['first'], ['second']])
    expect(cluster.received.at(-1)?.batches.map(({ partition }) => partition)).toEqual([1])
  })

  it('is in the log once if answers are lost', async () => {
    const { cluster, append } = await open(2, { t: [1, 2] })
    const lost = new Set<number>()
    cluster.onProduce = ({ node, batches }, write) => {
      const answers = write(batches)
      if (lost.has(node)) return answers
      lost.add(node)
      return 'close'
    }
    await append(message('t', 0, 2, 'first'), message('t', 1, 2, 'second'))
    await append(message('t', 0, 2, 'third'), message('t', 1, 2, 'fourth'))
    expect(logs(cluster, 't')).toEqual([
      ['first', 'third'],
      ['second', 'fourth'],
    ])
  })
})

describe('an append that fails repeatedly', () => {
  it('is logged once', async () => {
    const said: string[] = []
    const { cluster, append } = await open(1, { t: [1] }, {}, (_level, message) => void said.push(message))
    let failures = 5
    cluster.onProduce = ({ batches }, write) => {
      if (failures === 0) return write(batches)
      failures--
      return batches.map(({ topic, partition }) => ({ topic, partition, error: NOT_LEADER }))
    }
    await append(message('t', 0, 1, 'first'))
    expect(said).toEqual([
      `Kafka broker ${cluster.brokers[0]} did not confirm records, which are sent again: This server is not the leader for that topic-partition`,
    ])
  })
})

describe('a broker that hangs', () => {
  it('does not block appends to partitions that others lead', async () => {
    const { cluster, append } = await open(3, { t: [1, 2, 3] })
    await Promise.all([0, 1, 2].map((partition) => append(message('t', partition, 3, 'before'))))
    cluster.suspend(2)
    const held = append(message('t', 1, 3, 'held'))
    let settled = false
    void held.finally(() => {
      settled = true
    })
    for (let number = 0; number < 20; number++) {
      await append(message('t', 0, 3, `a${number}`), message('t', 2, 3, `c${number}`))
    }
    expect(settled).toBe(false)
    expect(cluster.log('t', 0)).toHaveLength(21)
    // The controller assigns its partitions to other brokers.
    cluster.fence(2)
    cluster.leaders.t = [1, 3, 3]
    await held
    expect(cluster.log('t', 1)).toEqual(['before', 'held'])
  })

  it('keeps the order within its partitions and repeats nothing when it wakes', async () => {
    const { cluster, append } = await open(2, { t: [1, 2] })
    await append(message('t', 1, 2, '0'))
    cluster.suspend(2)
    const appends = ['1', '2', '3'].map((value) => append(message('t', 1, 2, value)))
    await append(message('t', 0, 2, 'other'))
    cluster.wake(2)
    await Promise.all(appends)
    expect(cluster.log('t', 1)).toEqual(['0', '1', '2', '3'])
  })

  it('does not block a first append, even if it is the broker asked for the leaders', async () => {
    vi.spyOn(Math, 'random').mockReturnValue(0)
    const { cluster, append } = await open(3, { t: [1, 2, 3] })
    cluster.suspend(1)
    await append(message('t', 1, 3, 'first'), message('t', 2, 3, 'second'))
    expect(logs(cluster, 't')).toEqual([[], ['first'], ['second']])
  })
})

describe('a partition without a leader', () => {
  it('does not block appends to other partitions, and takes its own records once it has a leader', async () => {
    const { cluster, append } = await open(2, { t: [1, null] })
    const waiting = append(message('t', 1, 2, 'waiting'))
    await append(message('t', 0, 2, 'other'))
    expect(cluster.log('t', 1)).toEqual([])
    cluster.leaders.t = [1, 2]
    await waiting
    expect(cluster.log('t', 1)).toEqual(['waiting'])
  })
})

describe('a partition whose leader left the cluster', () => {
  it('takes its records through the next leader', async () => {
    const { cluster, append } = await open(2, { t: [1, 2] })
    cluster.fence(2)
    const waiting = append(message('t', 1, 2, 'waiting'))
    await append(message('t', 0, 2, 'other'))
    cluster.leaders.t = [1, 1]
    await waiting
    expect(cluster.log('t', 1)).toEqual(['waiting'])
  })
})

describe('a broker that is cut off from the controllers', () => {
  it.each([
    ['an old leader', [1]],
    ['no leader', [null]],
  ])(
    'is replaced by the next broker, although it answers with %s',
    async (_, before) => {
      const { cluster } = await open(3, { t: before })
      cluster.cutOff(1)
      cluster.leaders.t = [3]
      const appender = createAppender({
        // This broker names the other two.
        connection: { brokers: cluster.brokers.slice(0, 1), clientId: 'test' },
        ready: async () => undefined,
        ...{ timeoutMs: 10_000, queueBytesMax: 1_048_576 },
      })
      closers.push(() => appender.close())
      await appender.append([message('t', 0, 1, 'x')])
      expect(cluster.log('t', 0)).toEqual(['x'])
    },
    15_000,
  )
})

describe('an append that timed out', () => {
  it('loses no later record if it arrives after all', async () => {
    const { cluster, append } = await open(1, { t: [1] }, { timeoutMs: 400 })
    await append(message('t', 0, 1, '0'))
    cluster.suspend(1)
    await expect(append(message('t', 0, 1, '1'))).rejects.toBeInstanceOf(EventLogUnavailableError)
    cluster.wake(1)
    // A later batch of the same size would have the same sequence numbers under the same producer id.
    await vi.waitFor(() => append(message('t', 0, 1, '2')), patiently)
    expect(cluster.log('t', 0)).toContain('2')
  })
})

describe('a topic that was deleted', () => {
  it('is created again, and takes the waiting records', async () => {
    let seen = true
    const { cluster, append } = await open(
      1,
      { t: [1, 1] },
      {
        lookAgain: () => {
          seen = false
        },
        ready: async () => {
          if (!seen) cluster.leaders.t ??= [1, 1]
          seen = true
        },
      },
    )
    await append(message('t', 0, 2, 'first'))
    delete cluster.leaders.t
    cluster.empty('t')
    await append(message('t', 0, 2, 'second'), message('t', 1, 2, 'third'))
    expect(logs(cluster, 't')).toEqual([['second'], ['third']])
  })

  it('may return with fewer partitions, which take the records of the removed ones', async () => {
    const { cluster, append } = await open(1, { t: [1, 1] })
    await append(message('t', 0, 2, 'first'), message('t', 1, 2, 'second'))
    cluster.empty('t')
    cluster.leaders.t = [1]
    await append(message('t', 1, 2, 'third'), message('t', 0, 2, 'fourth'))
    expect([...cluster.log('t', 0)].sort()).toEqual(['fourth', 'third'])
  })
})

describe('partitions that an operator adds', () => {
  it('are used for new records, while waiting records keep their partitions', async () => {
    const { cluster, append } = await open(1, { t: [1, null] })
    const waiting = append(message('t', 1, 2, 'waiting'))
    await append(message('t', 0, 2, 'other'))
    cluster.leaders.t = [1, null, 1]
    // The next read of the leaders, which is due, finds the third partition.
    await vi.waitFor(async () => {
      await append(message('t', 2, 3, 'new'))
      expect(cluster.log('t', 2)).toContain('new')
    }, patiently)
    cluster.leaders.t = [1, 1, 1]
    await waiting
    expect(cluster.log('t', 1)).toEqual(['waiting'])
  })
})

describe('brokers that fail at random', () => {
  const NODES = 3
  const PARTITIONS = 5

  it.each([1, 2, 3, 4])('keep every confirmed record in its log once and in order (%i)', async (seed) => {
    const random = randomNumbers(seed)
    const { cluster, append } = await open(
      NODES,
      { t: Array.from({ length: PARTITIONS }, (_, partition) => (partition % NODES) + 1) },
      { timeoutMs: 1_500 },
    )
    let faults = 60
    cluster.onProduce = ({ batches }, write) => {
      if (faults === 0 || random() < 0.5) return write(batches)
      faults--
      const partition = Math.floor(random() * PARTITIONS)
      const some = batches.filter((batch) => batch.partition !== partition)
      const wasWritten = random() < 0.5
      if (random() < 0.4) cluster.leaders.t?.splice(partition, 1, Math.ceil(random() * NODES))
      const answers = wasWritten ? write(batches) : write(some)
      if (random() < 0.3) return 'close'
      if (random() < 0.1) return 'silence'
      return random() < 0.5
        ? answers.filter((answer) => answer.partition !== partition)
        : answers.map((answer) =>
            answer.partition === partition ? { ...answer, error: NOT_LEADER } : answer,
          )
    }
    const confirmed: string[][] = Array.from({ length: PARTITIONS }, () => [])
    await Promise.all(
      confirmed.map(async (values, partition) => {
        for (let number = 0; number < 200; number++) {
          const value = `${partition}-${number}`
          await append(message('t', partition, PARTITIONS, value)).then(
            () => values.push(value),
            (error) => expect(error).toBeInstanceOf(EventLogUnavailableError),
          )
        }
      }),
    )
    const kept = logs(cluster, 't').map((log, partition) =>
      log.filter((value) => confirmed[partition]?.includes(value)),
    )
    expect(kept).toEqual(confirmed)
    expect(confirmed.flat().length).toBeGreaterThan(500)
    expect(faults).toBe(0)
  })
})

describe('a record that is too large', () => {
  const MESSAGE_TOO_LARGE = 10
  const refuseLarge: FakeCluster['onProduce'] = ({ batches }, write) =>
    batches.flatMap((batch) =>
      batch.values.some((value) => value.startsWith('large'))
        ? [{ topic: batch.topic, partition: batch.partition, error: MESSAGE_TOO_LARGE }]
        : write([batch]),
    )

  it('is rejected alone, without the other records of its batch', async () => {
    const { cluster, append } = await open(1, { t: [1] })
    cluster.onProduce = refuseLarge
    const outcomes = await Promise.allSettled(
      ['0', '1', 'large', '3', '4'].map((value) => append(message('t', 0, 1, value))),
    )
    expect(outcomes.map(({ status }) => status)).toEqual([
      'fulfilled',
      'fulfilled',
      'rejected',
      'fulfilled',
      'fulfilled',
    ])
    expect(cluster.log('t', 0)).toEqual(['0', '1', '3', '4'])
  })

  it('is rejected with the topic and the setting, which are logged once until the topic takes records', async () => {
    const lines: string[] = []
    const { cluster, append } = await open(
      1,
      { t: [1] },
      {},
      (level, line) => void lines.push(`${level} ${line}`),
    )
    cluster.onProduce = refuseLarge
    const refusal = append(message('t', 0, 1, 'large'))
    await expect(refusal).rejects.toBeInstanceOf(RecordTooLargeError)
    await expect(refusal).rejects.toThrow(
      /^Kafka topic t takes no record of \d+ bytes: raise its max\.message\.bytes$/,
    )
    await expect(append(message('t', 0, 1, 'large'))).rejects.toBeInstanceOf(RecordTooLargeError)
    expect(lines).toEqual([expect.stringMatching(/^error Kafka topic t takes no record of \d+ bytes/)])
    await append(message('t', 0, 1, 'small'))
    await expect(append(message('t', 0, 1, 'large'))).rejects.toBeInstanceOf(RecordTooLargeError)
    expect(lines).toHaveLength(2)
  })
})
