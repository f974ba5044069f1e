import { topicName } from '@curfew/broker'
import kafkajs from 'kafkajs'
import { expect, onTestFinished, test, vi } from 'vitest'
import { eventually, ISS, openCurfew } from '../support/curfew.ts'
import { describeWithKafka, uniquePrefix } from '../support/kafka.ts'
import { openRelyingParty } from '../support/relying-party.ts'
import { openWebhookReceiver } from '../support/webhook-receiver.ts'

// Goal: over Kafka no logout waits for a worker that cannot work, and none is lost silently.
// Method: real workers over a real broker. Each has its own connection to PostgreSQL, which the test cuts or lets hang.

/** A worker gives up its partitions after 6 s of silence. */
const patiently = { timeout: 50_000, interval: 20 }

await describeWithKafka('delivery workers over Kafka', (brokers) => {
  async function openAdmin() {
    const kafka = new kafkajs.Kafka({ brokers: [...brokers], logLevel: kafkajs.logLevel.NOTHING })
    const admin = kafka.admin()
    await admin.connect()
    onTestFinished(() => admin.disconnect())
    return admin
  }
  async function members(prefix: string, count: number): Promise<void> {
    const admin = await openAdmin()
    await eventually(async () => {
      const { groups } = await admin.describeGroups([`${prefix}curfew`])
      expect(groups[0]).toMatchObject({ state: 'Stable', members: { length: count } })
    })
  }
  const people = (name: string, count = 24) =>
    Array.from({ length: count }, (_, n) => ({ iss: ISS, sub: `${name}-${n}` }))

  test.each(['shut', 'swallow'] as const)(
    'hand over their partitions while PostgreSQL is unreachable (%s), and return afterwards',
    async (how) => {
      const prefix = uniquePrefix()
      await using curfew = await openCurfew({ workers: 0, kafka: { brokers, prefix } })
      await using party = await openRelyingParty(curfew, { clientId: 'mail' })
      const [first, second] = await Promise.all([
        curfew.startWorker({ leaseMs: 1_000 }),
        curfew.startWorker({ leaseMs: 1_000 }),
      ])
      const logOutAll = async (name: string) => {
        await curfew.client.postLogoutEvents(people(name))
        await vi.waitFor(() => {
          const received = new Set(party.received.map(({ claims }) => claims.sub))
          expect(people(name).filter(({ sub }) => !received.has(sub))).toEqual([])
        }, patiently)
      }
      await logOutAll('both')
      await first.gate[how]()
      await logOutAll('second')
      await first.gate.open()
      await members(prefix, 2)
      await second.gate[how]()
      await logOutAll('first')
      await second.gate.open()
    },
    150_000,
  )

  test('hand over their partitions while their clock is wrong, and return afterwards', async () => {
    const prefix = uniquePrefix()
    await using curfew = await openCurfew({ workers: 0, kafka: { brokers, prefix } })
    let aheadMs = 0
    await curfew.startWorker({ leaseMs: 1_000, wallMs: () => Date.now() + aheadMs })
    await curfew.startWorker({ leaseMs: 1_000 })
    await members(prefix, 2)
    aheadMs = 120_000
    await members(prefix, 1)
    aheadMs = 0
    await members(prefix, 2)
  }, 60_000)

  test('quarantine records that cannot be stored, and continue with the others', async () => {
    const prefix = uniquePrefix()
    await using curfew = await openCurfew({ kafka: { brokers, prefix } })
    await using party = await openRelyingParty(curfew, { clientId: 'mail' })
    const kafka = new kafkajs.Kafka({ brokers: [...brokers], logLevel: kafkajs.logLevel.NOTHING })
    const foreign = kafka.producer()
    await foreign.connect()
    onTestFinished(() => foreign.disconnect())
    await curfew.client.postLogoutEvents(people('before'))
    await party.told(24)
    const good = people('beside', 3)
    const [event] = party.received
    expect(event).toBeDefined()
    const oddities = [
      { key: 'large', value: Buffer.alloc(2_097_000, 'x') },
      { key: Buffer.from([0, 0xff, 0xfe]), value: Buffer.from([0, 0xff, 0xed, 0xa0, 0x80]) },
      { key: 'headers', value: '{}', headers: { ce_id: 'a\0b', 'a\0b': 'x', long: 'y'.repeat(90_000) } },
      { key: null, value: null },
    ]
    for (const [at, message] of oddities.entries())
      await foreign.send({
        topic: topicName('interactive', { prefix }),
        messages: [{ ...message, partition: at }],
      })
    await curfew.client.postLogoutEvents([...good, ...people('after')])
    await party.told(24 + 3 + 24)
    const { items } = await eventually(async () => {
      const page = await curfew.client.listQuarantined()
      expect(page.items).toHaveLength(oddities.length)
      return page
    })
    expect(items.map(({ kind }) => kind)).toEqual(oddities.map(() => 'unreadable'))
    expect(items.filter(({ cut_short }) => cut_short)).toHaveLength(2)
  }, 60_000)

  test('report an unreadable partition, and continue with the others', async () => {
    const prefix = uniquePrefix()
    const topic = topicName('interactive', { prefix })
    await using curfew = await openCurfew({ workers: 0, kafka: { brokers, prefix } })
    await using party = await openRelyingParty(curfew, { clientId: 'mail' })
    await curfew.eventLog.check()
    const kafka = new kafkajs.Kafka({ brokers: [...brokers], logLevel: kafkajs.logLevel.NOTHING })
    const foreign = kafka.producer()
    await foreign.connect()
    onTestFinished(() => foreign.disconnect())
    // A record far larger than a batch may be, in few compressed bytes.
    const value = Buffer.alloc(70_000_000)
    const compression = kafkajs.CompressionTypes.GZIP
    await foreign.send({ topic, compression, messages: [{ partition: 0, key: 'a', value }] })
    const worker = await curfew.startWorker()
    await curfew.client.postLogoutEvents(people('any'))
    await eventually(() => expect(worker.checkLanes()).rejects.toThrow('the event log cannot be read'))
    await eventually(() => expect(party.received.length).toBeGreaterThan(0))
    const failures = () => curfew.lines.filter((line) => line.includes('ERR_BUFFER_TOO_LARGE'))
    expect(failures()).toHaveLength(1)

    const admin = await openAdmin()
    await admin.fetchTopicOffsets(topic)
    await admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: '1' }] })
    await party.told(24)
    await worker.checkLanes()
    expect(failures()).toHaveLength(1)
  }, 60_000)

  test('notify operators of logouts that retention removed before a worker read them', async () => {
    const prefix = uniquePrefix()
    await using curfew = await openCurfew({ workers: 0, kafka: { brokers, prefix } })
    await using hook = await openWebhookReceiver()
    await curfew.call('PUT', '/v1/webhooks/on-call', { url: hook.url, types: ['record.removed'] })
    const worker = await curfew.startWorker()
    await curfew.client.postLogoutEvents(people('handled'))
    const admin = await openAdmin()
    const topic = topicName('interactive', { prefix })
    const committed = async () => {
      const [answer] = await admin.fetchOffsets({ groupId: `${prefix}curfew`, topics: [topic] })
      return (answer?.partitions ?? []).map(({ offset }) => Number(offset))
    }
    await eventually(async () => {
      const all = await committed()
      expect(all.reduce((sum, offset) => sum + offset, 0)).toBe(24)
    })
    await worker.stop()
    await curfew.client.postLogoutEvents(people('removed'))
    const before = await committed()
    const ends = await admin.fetchTopicOffsets(topic)
    await admin.deleteTopicRecords({
      topic,
      partitions: ends.map(({ partition, high }) => ({ partition, offset: high })),
    })
    await curfew.startWorker()
    const unread = ends.filter(({ partition, high }) => Number(high) > (before[partition] ?? 0))
    await eventually(async () => {
      const { rows } = await curfew.db.query<{ records: number }>(
        `select sum((data ->> 'records')::int) as records from notifications where type = 'record.removed'`,
      )
      expect(Number(rows[0]?.records)).toBe(24)
    })
    await curfew.db.query("update notifications set ready_at = now() where type = 'record.removed'")
    const bookkeeper = await curfew.startBookkeeper()
    onTestFinished(() => bookkeeper.stop())
    const notified = await hook.told(unread.length)
    expect(notified[0]).toMatchObject({
      type: 'record.removed',
      data: {
        lane: 'interactive',
        partition: expect.stringContaining(`${topic}/`),
        records: expect.any(Number),
      },
    })
    expect(curfew.lines.filter((line) => line.includes('event-log.records-removed'))).toHaveLength(
      unread.length,
    )
  }, 60_000)
})
