import { createKafkaEventLog, createKafkaMonitor } from '@curfew/broker'
import { chooseEventLog, noteEventLog, readOwnLedger } from '@curfew/ledger'
import { afterEach, expect, it } from 'vitest'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { describeWithKafka, numberedRecord, smallTopics, uniquePrefix } from '../support/kafka.ts'

// Goal: no ledger handles records that belong to another ledger. Method: ledgers in two databases over the same topics of a real
// broker.

const patiently = { timeout: 25_000, interval: 20 }
const NAME = 'Kafka cluster one, topics logout.*'
const KEYS = Array.from({ length: 24 }, (_, index) => `k${index}`)

const closers: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close()
})

await describeWithKafka('two ledgers over one set of topics', (brokers) => {
  async function openDatabase(): Promise<TestDatabase> {
    const database = await createTestDatabase()
    closers.push(() => database.drop())
    await noteEventLog(database.db, { user: 'test', name: NAME })
    return database
  }

  function serve({ db }: TestDatabase, prefix: string) {
    const options = {
      ...{
        brokers,
        clientId: 'test',
        groupId: `${prefix}curfew`,
        topics: smallTopics(prefix, { partitions: 4 }),
      },
      ledger: () => readOwnLedger(db, false),
    }
    const log = createKafkaEventLog({
      ...options,
      sessionTimeoutMs: 3_000,
      quarantine: async () => undefined,
    })
    closers.push(() => log.close())
    let handled = 0
    const consume = () => {
      const consumer = log.consume(
        { lane: 'interactive', batchSize: 10, batchesInFlight: 4, onError: () => undefined },
        async (batch) => {
          handled += batch.length
          return []
        },
      )
      closers.push(() => consumer.stop())
      return consumer
    }
    return {
      consume,
      handled: () => handled,
      append: (round: number) => log.append(KEYS.map((key) => numberedRecord(key, round))),
      lane: async () => {
        const { lanes } = await createKafkaMonitor(options).look()
        return lanes[0]?.unknown
      },
      takeTopics: () =>
        chooseEventLog(db, { user: 'operator', name: NAME, takesTopics: true }, async () => true),
    }
  }

  it.for([
    ['another ledger', false],
    ['a copy of the ledger', true],
  ] as const)(
    '%s reads no partition that the first has read, until it takes over the topics',
    { timeout: 90_000 },
    async ([, isCopy]) => {
      const [one, two] = [await openDatabase(), await openDatabase()]
      const { rows } = await one.db.query<{ ledger: string }>('select ledger from event_logs')
      const id = rows[0]?.ledger
      if (isCopy) await two.db.query('update event_logs set ledger = $1', [id])
      const prefix = uniquePrefix()
      const first = serve(one, prefix)
      await first.append(0)
      const before = first.consume()
      await expect.poll(first.handled, patiently).toBe(KEYS.length)
      await before.stop()

      const second = serve(two, prefix)
      const consumer = second.consume()
      await expect.poll(() => consumer.status().state, patiently).toBe('unreadable')
      expect(consumer.status()).toMatchObject({ error: { message: expect.stringContaining(`ledger ${id}`) } })
      expect(await second.lane()).toContain('npx curfew event-log use')
      await second.append(1)
      expect(await first.lane()).toBeNull()

      expect(await second.takeTopics()).toBe(true)
      await expect.poll(second.handled, patiently).toBe(KEYS.length)
      await expect.poll(() => consumer.status(), patiently).toEqual({ state: 'consuming' })
      expect(await second.lane()).toBeNull()
      await consumer.stop()

      await second.append(2)
      const after = first.consume()
      await expect.poll(() => after.status().state, patiently).toBe('unreadable')
      expect(first.handled()).toBe(KEYS.length)
    },
  )

  it('a ledger continues after its own commits', { timeout: 60_000 }, async () => {
    const prefix = uniquePrefix()
    const only = serve(await openDatabase(), prefix)
    for (let round = 0; round < 2; round++) {
      await only.append(round)
      const consumer = only.consume()
      await expect.poll(only.handled, patiently).toBe(KEYS.length * (round + 1))
      await consumer.stop()
    }
    expect(await only.lane()).toBeNull()
  })
})
