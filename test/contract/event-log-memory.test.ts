import type { LogLane } from '@curfew/domain'
import { createMemoryLog } from '../support/memory-event-log.ts'
import { type EventLogHarness, eventLogContract } from './event-log.contract.ts'

async function openHarness(): Promise<EventLogHarness> {
  const memory = createMemoryLog()
  return {
    open: async () => memory.open(),
    async openVictim(lane: LogLane) {
      const log = memory.open()
      const handed = Promise.withResolvers<string[]>()
      const options = { lane, batchSize: 20, batchesInFlight: 1, onError: handed.reject }
      log.consume(options, async (batch) => {
        handed.resolve(batch.map(({ value }) => Buffer.from(value).toString()))
        return new Promise(() => undefined)
      })
      return { handed: await handed.promise, kill: async () => log.kill() }
    },
    readQuarantine: async () =>
      memory.quarantined.map(({ record, reason }) => ({
        value: Buffer.from(record.value).toString(),
        reason,
      })),
    makeUnavailable: async () => memory.setAway(true),
    makeAvailable: async () => memory.setAway(false),
    close: async () => undefined,
  }
}

eventLogContract('the memory event log', openHarness, { slowBatches: false })
