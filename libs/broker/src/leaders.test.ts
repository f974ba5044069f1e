import { once } from 'node:events'
import { type AddressInfo, connect, createServer } from 'node:net'
import { setTimeout as later } from 'node:timers'
import { expect, onTestFinished, test } from 'vitest'
import { openFakeCluster } from './fake-cluster.fixture.ts'
import { createMetadataReader } from './leaders.ts'

// Goal: a cluster with slow answers can be read. Method: a broker in this process, behind a slow proxy.

test('a connection that opens more slowly than an answer may take is kept for the next request', async () => {
  const cluster = await openFakeCluster(1, { t: [1] })
  const { port, close } = await openSlowProxy(cluster.brokers[0] ?? '', 60)
  const reader = createMetadataReader({ brokers: [`127.0.0.1:${port}`], clientId: 'test' }, 100)
  onTestFinished(async () => {
    reader.close()
    close()
    await cluster.close()
  })
  // Opening takes a request and an answer, which exceeds the limit.
  await expect(reader.read(['t'])).rejects.toThrow('timed out')
  await expect
    .poll(
      () =>
        reader.read(['t']).then(
          ({ topics }) => topics.get('t'),
          () => null,
        ),
      { timeout: 10_000, interval: 10 },
    )
    .toEqual([1])
})

/** A proxy to a broker that delays each request by `delayMs`. */
async function openSlowProxy(broker: string, delayMs: number) {
  const [host = '', port = ''] = broker.split(':')
  const server = createServer((near) => {
    const far = connect(Number(port), host)
    near.on('data', (chunk) => later(() => far.write(chunk), delayMs))
    far.pipe(near)
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const) {
      one.on('error', () => other.destroy())
      one.on('close', () => other.destroy())
    }
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return { port: (server.address() as AddressInfo).port, close: () => server.close() }
}
