import { createServer, type Server, type Socket } from 'node:net'
import { EventLogUnavailableError, type LogRecord } from '@curfew/domain'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { createKafkaEventLog } from './event-log.ts'

// Goal: nothing hangs and nothing piles up where no broker answers. Method: a port that refuses, and one that takes
// connections and never says a word. What needs a broker is in the contract tests.

const record: LogRecord = { lane: 'interactive', key: 'k', value: new Uint8Array(1_000), headers: {} }

let mute: Server
const sockets = new Set<Socket>()
let muteAddress: string
beforeEach(async () => {
  mute = createServer((socket) => {
    sockets.add(socket)
    socket.on('error', () => sockets.delete(socket))
  })
  await new Promise<void>((resolve) => mute.listen(0, '127.0.0.1', resolve))
  const address = mute.address()
  muteAddress = typeof address === 'object' && address !== null ? `127.0.0.1:${address.port}` : ''
})
afterEach(async () => {
  for (const socket of sockets) socket.destroy()
  await new Promise((resolve) => mute.close(resolve))
})

/** Nothing may listen on port 1 without being root, and nothing does. */
const REFUSING = '127.0.0.1:1'

function open(broker: string, options: { appendTimeoutMs?: number; queueBytesMax?: number } = {}) {
  return createKafkaEventLog({
    brokers: [broker],
    clientId: 'test',
    groupId: 'test',
    quarantine: async () => undefined,
    ...options,
  })
}

describe('the Kafka event log without a broker', () => {
  it.each(['refuses', 'is mute'])('rejects an append in time when the broker %s', async (how) => {
    const log = open(how === 'refuses' ? REFUSING : muteAddress, { appendTimeoutMs: 300 })
    const startedAt = performance.now()
    await expect(log.append([record])).rejects.toBeInstanceOf(EventLogUnavailableError)
    expect(performance.now() - startedAt).toBeLessThan(1_000)
    await log.close()
  })

  it('rejects at once what does not fit into its queue, and what waits when it is closed', async () => {
    const log = open(REFUSING, { queueBytesMax: 3_000 })
    const waiting = Promise.allSettled([log.append([record]), log.append([record])])
    await expect(log.append([record])).rejects.toThrow('too many appends')
    await log.close()
    expect((await waiting).map(({ status }) => status)).toEqual(['rejected', 'rejected'])
    await expect(log.append([record])).rejects.toThrow('closed')
  })

  it('resolves an append of nothing', async () => {
    const log = open(REFUSING)
    await log.append([])
    await log.close()
  })

  it('says that it is away', async () => {
    const log = open(REFUSING)
    await expect(log.check()).rejects.toBeInstanceOf(EventLogUnavailableError)
    await log.close()
  })

  it('reports what a consumer meets, goes on, and stops when asked', async () => {
    const log = open(REFUSING)
    const onError = vi.fn()
    const consumer = log.consume(
      { lane: 'interactive', batchSize: 10, batchesInFlight: 1, onError },
      async () => [],
    )
    await vi.waitFor(() => expect(onError.mock.calls.length).toBeGreaterThan(1), { timeout: 10_000 })
    const startedAt = performance.now()
    await consumer.stop()
    await consumer.stop()
    expect(performance.now() - startedAt).toBeLessThan(1_000)
    await log.close()
  })
})
