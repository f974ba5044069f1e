import { setTimeout as sleep } from 'node:timers/promises'
import { createKafkaEventLog } from '@curfew/broker'
import type { ConsumedRecord, EventLog, LogFault } from '@curfew/domain'
import { expect, it } from 'vitest'
import { describeWithKafka, smallTopics, uniquePrefix } from '../support/kafka.ts'

// Goal: consumers that join and leave often lose no record, keep the order, and report no rebalance as a loss.
// Method: more consumers than partitions; all join and leave repeatedly at different intervals, under load.

const SLOTS = 7
const JOINS = 5
const patiently = { timeout: 60_000, interval: 20 }

await describeWithKafka('consumers that join and leave', (brokers) => {
  it('lose no record and keep the order within every key', async () => {
    const prefix = uniquePrefix()
    const open = () =>
      createKafkaEventLog({
        ...{ brokers, clientId: 'test', groupId: `${prefix}delivery`, sessionTimeoutMs: 6_000 },
        topics: smallTopics(prefix),
        quarantine: async () => undefined,
      })
    /** The first occurrence of every record, in order. */
    const seen = new Map<string, { readonly key: string; readonly number: number }>()
    const faults: LogFault[] = []
    const consume = (log: EventLog) =>
      log.consume(
        {
          ...{ lane: 'interactive', batchSize: 20, batchesInFlight: 2, onError: () => undefined },
          onFault: async (fault) => void faults.push(fault),
        },
        async (batch: readonly ConsumedRecord[]) => {
          await sleep(10)
          for (const { key, value, headers } of batch) {
            const id = headers.ce_id ?? '?'
            if (!seen.has(id)) seen.set(id, { key, number: Number(Buffer.from(value).toString()) })
          }
          return []
        },
      )

    const writer = open()
    const sent: string[] = []
    let over = false
    const writing = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'].map(async (key) => {
      for (let number = 0; !over; number++) {
        const id = `${key}-${number}`
        const value = Buffer.from(String(number))
        await writer.append([{ lane: 'interactive', key, value, headers: { ce_id: id } }])
        sent.push(id)
        await sleep(5)
      }
    })
    const logs = Array.from({ length: SLOTS }, open)
    const slots = logs.map(async (log, slot) => {
      for (let join = 0; join < JOINS; join++) {
        await sleep((slot * 331 + join * 577) % 1_000)
        const consumer = consume(log)
        await expect.poll(() => consumer.status().state, patiently).toBe('consuming')
        await sleep((slot * 733 + join * 419) % 1_500)
        await consumer.stop()
      }
    })
    await Promise.all(slots)
    over = true
    await Promise.all(writing)
    const [log] = logs
    const last = log === undefined ? undefined : consume(log)
    await expect.poll(() => seen.size, patiently).toBe(sent.length)
    await last?.stop()
    expect(faults).toEqual([])
    expect([...seen.keys()].toSorted()).toEqual(sent.toSorted())
    for (const [key, ofKey] of Map.groupBy(seen.values(), (record) => record.key)) {
      const numbers = ofKey.map(({ number }) => number)
      expect(numbers, key).toEqual(numbers.toSorted((a, b) => a - b))
    }
    for (const opened of [...logs, writer]) await opened.close()
  }, 180_000)
})
