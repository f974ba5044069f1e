import { randomUUID } from 'node:crypto'
import { createKafkaDeadLetterPublisher, DEFAULT_TOPICS, topicName } from '@curfew/broker'
import { createReplay, takeReplayBatch } from '@curfew/ledger'
import kafkajs from 'kafkajs'
import { expect, onTestFinished, test } from 'vitest'
import { pileUp, registerQuietly } from '../integration/dead-letters-support.ts'
import { eventually, openCurfew } from '../support/curfew.ts'
import { describeWithKafka, uniquePrefix } from '../support/kafka.ts'

// Goal: who listens to the topic hears of each dead letter, in words, whatever fails in between; and hears of it again only
// when it died again. Method: a real broker, real bookkeepers, a reader that is none of ours.

interface Heard {
  readonly key: string
  readonly headers: Readonly<Record<string, string>>
  readonly value: Readonly<Record<string, unknown>>
}

await describeWithKafka('dead letters', (brokers) => {
  function publisherFor(prefix: string) {
    const lane = { partitions: 1, retentionMs: 3_600_000 }
    return createKafkaDeadLetterPublisher({
      brokers,
      clientId: 'dead-letters',
      topics: {
        ...DEFAULT_TOPICS,
        prefix,
        replicationFactor: 1,
        interactive: lane,
        bulk: lane,
        quarantine: lane,
        deadLetters: lane,
      },
    })
  }

  async function listen(prefix: string): Promise<readonly Heard[]> {
    const kafka = new kafkajs.Kafka({
      brokers: [...brokers],
      clientId: 'listener',
      logLevel: kafkajs.logLevel.NOTHING,
    })
    const consumer = kafka.consumer({ groupId: `${prefix}listener` })
    onTestFinished(() => consumer.disconnect())
    const heard: Heard[] = []
    await consumer.connect()
    await consumer.subscribe({ topics: [topicName('deadLetters', { prefix })], fromBeginning: true })
    await consumer.run({
      eachMessage: async ({ message }) => {
        heard.push({
          key: String(message.key),
          headers: Object.fromEntries(
            Object.entries(message.headers ?? {}).map(([name, value]) => [name, String(value)]),
          ),
          value: JSON.parse(String(message.value)) as Heard['value'],
        })
      },
    })
    return heard
  }

  test('are published once each, with why, by however many bookkeepers, and again when they die again', async () => {
    const prefix = uniquePrefix()
    const publisher = publisherFor(prefix)
    onTestFinished(() => publisher.close())
    await using curfew = await openCurfew({ workers: 0, bookkeepers: 2, publisher })
    await registerQuietly(curfew.call, ['shop'])
    const ids = await pileUp(curfew.db, {
      clientId: 'shop',
      count: 450,
      reason: 'refused',
      attempt: { status: 400, errorClass: 'http_400', error: 'invalid_request' },
    })
    const unannounced = () => curfew.db.query('select from deliveries where announced_at is null')
    await eventually(async () => expect((await unannounced()).rows).toEqual([]))
    const heard = await listen(prefix)
    await eventually(() => expect(heard.length).toBeGreaterThanOrEqual(450))
    expect(heard.map(({ key }) => key).toSorted()).toEqual(ids)
    const [id = ''] = ids
    const first = heard.find(({ key }) => key === id)
    expect(first).toEqual({
      key: id,
      headers: {
        ce_specversion: '1.0',
        ce_id: `${id}.0`,
        ce_source: '/v1/issuers/main/relying-parties/shop',
        ce_type: 'curfew.dead-letter.v1',
        ce_time: expect.stringMatching(/Z$/),
        'content-type': 'application/json',
      },
      value: {
        delivery_id: id,
        event_id: expect.any(String),
        issuer: 'main',
        client_id: 'shop',
        reason: 'refused',
        what: expect.stringContaining('it answered 400 (invalid_request)'),
        fix: expect.stringMatching(/keys/),
        error: 'invalid_request',
        error_description: null,
        dead_lettered_at: first?.headers.ce_time,
        generation: 0,
      },
    })

    const job = await createReplay(curfew.db, {
      id: randomUUID(),
      filter: { issuer: null, clientIds: null, reason: null, from: null, to: null, ids: [id] },
      includeLapsed: false,
      requestedBy: 'test',
    })
    // A bookkeeper may have been faster.
    await eventually(async () => {
      await takeReplayBatch(curfew.db, { job, limit: 10, pauseMs: 0 })
      expect((await unannounced()).rows).toHaveLength(1)
    })
    await curfew.db.query(
      `update deliveries set state = 'dead_lettered', due_at = null, settled_at = now(), dead_letter_reason = 'refused'
        where id = $1`,
      [id],
    )
    await eventually(() => expect(heard.map(({ headers }) => headers.ce_id)).toContain(`${id}.1`))
    expect(heard).toHaveLength(451)
  })
})
