import { expect, onTestFinished, test } from 'vitest'
import { addressOf } from './connection.ts'
import { openFakeCluster } from './fake-cluster.fixture.ts'
import { createRollCall } from './roll-call.ts'

// Goal: one late answer does not make a broker gone, and a broker that hangs is gone soon. Method: brokers in this process that
// stop answering.

const ALL = new Set([1, 2, 3])

async function open() {
  const cluster = await openFakeCluster(3, { t: [1] })
  const calls = createRollCall({ brokers: cluster.brokers, clientId: 'test' }, 't', 200)
  onTestFinished(async () => {
    calls.close()
    await cluster.close()
  })
  const nodes = new Map(cluster.brokers.map((broker, index) => [index + 1, addressOf(broker)]))
  return { cluster, present: () => calls.present(nodes) }
}

test('a broker that misses one roll call is present, and a broker that misses two is gone', async () => {
  const { cluster, present } = await open()
  cluster.suspend(1)
  cluster.suspend(2)
  expect(await Promise.all([present(), present()])).toEqual([ALL, ALL])
  expect(await present()).toEqual(new Set([3]))
  cluster.wake(1)
  await expect.poll(present, { timeout: 10_000, interval: 10 }).toEqual(new Set([1, 3]))
})

test('a broker whose answers are late is present', async () => {
  const { cluster, present } = await open()
  await present()
  for (let round = 0; round < 4; round++) {
    cluster.suspend(1)
    expect(await present()).toEqual(ALL)
    cluster.wake(1)
    // The answer to a later request over the same connection follows the late one.
    expect(await present()).toEqual(ALL)
  }
})

test('after a roll call without any answer no broker counts as gone', async () => {
  const { cluster, present } = await open()
  await present()
  for (const node of ALL) cluster.suspend(node)
  for (let round = 0; round < 3; round++) expect(await present()).toEqual(ALL)
})
