import { createServer, type Server, type Socket } from 'node:net'
import { EventLogUnavailableError, type LogRecord } from '@curfew/domain'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { createKafkaEventLog } from './event-log.ts'

// Goal: without a broker that answers, no call hangs and no memory piles up. Method: a port that refuses connections, and one
// that accepts them and never answers. The contract tests cover a real broker.

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

/** A port on which only root may listen, and on which no process listens. */
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

  it('rejects an append beyond its queue at once, and waiting appends on close', async () => {
    const log = open(REFUSING, { queueBytesMax: 3_000 })
    const waiting = Promise.allSettled([log.append([record]), log.append([record])])
    await expect(log.append([record])).rejects.toThrow('too many appends')
    await log.close()
    expect((await waiting).map(({ status }) => status)).toEqual(['rejected', 'rejected'])
    await expect(log.append([record])).rejects.toThrow('closed')
  })

  it('resolves an append without records', async () => {
    const log = open(REFUSING)
    await log.append([])
    await log.close()
  })

  it('reports that it is unavailable', async () => {
    const log = open(REFUSING)
    await expect(log.check()).rejects.toBeInstanceOf(EventLogUnavailableError)
    await log.close()
  })

  it('reports the errors of a consumer, continues, and stops on request', async () => {
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
