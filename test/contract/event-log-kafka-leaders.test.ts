import { setTimeout as sleep } from 'node:timers/promises'
import { createKafkaEventLog } from '@curfew/broker'
import { type EventLog, EventLogUnavailableError, type LogFault } from '@curfew/domain'
import { afterEach, expect, it } from 'vitest'
import { smallTopics, uniquePrefix } from '../support/kafka.ts'
import { untilInSync } from '../support/kafka-admin.ts'
import { useOwnKafka } from '../support/own-kafka.ts'

// Goal: consumers continue to read through every change of leaders, report none as a loss, and miss no record.
// Method: three brokers with three replicas of every partition, which end one after another under load, and two consumers that
// share the partitions.

const kafka = useOwnKafka(() => ({ brokers: 3 }))
const patiently = { timeout: 60_000, interval: 20 }

const closers: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close()
})

function openLog(prefix: string): EventLog {
  const log = createKafkaEventLog({
    ...{ brokers: kafka().brokers, clientId: 'test', groupId: `${prefix}delivery`, sessionTimeoutMs: 3_000 },
    topics: smallTopics(prefix, { partitions: 6, replicationFactor: 3 }),
    quarantine: async () => undefined,
  })
  closers.push(() => log.close())
  return log
}

/** Appends until it is stopped, and collects the confirmed ids. */
function startLoad(log: EventLog) {
  const confirmed: string[] = []
  let stopped = false
  const appending = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'].map(async (key) => {
    for (let number = 0; !stopped; number++) {
      const id = `${key}-${number}`
      try {
        await log.append([{ lane: 'interactive', key, value: Buffer.from(id), headers: { ce_id: id } }])
        confirmed.push(id)
      } catch (error) {
        expect(error).toBeInstanceOf(EventLogUnavailableError)
      }
      // Limits the load to what the test can count at the end.
      await sleep(5)
    }
  })
  return {
    confirmed,
    async stop(): Promise<void> {
      stopped = true
      await Promise.all(appending)
    },
  }
}

it('every confirmed record arrives, and none is reported as lost, when brokers stop or are killed one after another', async () => {
  const prefix = uniquePrefix()
  const seen = new Set<string>()
  const faults: LogFault[] = []
  const lane = { lane: 'interactive', batchSize: 50, batchesInFlight: 2 } as const
  const consumers = [openLog(prefix), openLog(prefix)].map((log) =>
    log.consume(
      { ...lane, onError: () => undefined, onFault: async (fault) => void faults.push(fault) },
      async (batch) => {
        for (const { headers } of batch) seen.add(headers.ce_id ?? '?')
        return []
      },
    ),
  )
  for (const consumer of consumers) closers.push(() => consumer.stop())
  const load = startLoad(openLog(prefix))
  const unseen = () => load.confirmed.filter((id) => !seen.has(id)).length
  const progress = async () => {
    const wanted = load.confirmed.length + 200
    await expect.poll(() => load.confirmed.length, patiently).toBeGreaterThan(wanted)
    await expect.poll(() => seen.size, patiently).toBeGreaterThan(wanted)
  }
  await progress()
  for (const [index, node] of kafka().nodes.entries()) {
    if (index === 0) await node.stop()
    else await node.kill()
    await progress()
    await node.restart()
    await untilInSync(kafka().brokers)
    await progress()
  }
  await load.stop()
  await expect.poll(unseen, patiently).toBe(0)
  expect(faults).toEqual([])
}, 300_000)
