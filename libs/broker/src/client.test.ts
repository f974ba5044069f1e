import { expect, it, onTestFinished } from 'vitest'
import { createClient } from './client.ts'
import { openFakeCluster } from './fake-cluster.fixture.ts'

it('a new client starts with another broker than the previous one, which may hang', async () => {
  const cluster = await openFakeCluster(2, { t: [2] })
  onTestFinished(() => cluster.close())
  cluster.suspend(1)
  const clients = [1, 2].map(() => createClient({ brokers: cluster.brokers, clientId: 'test' }, 1_000))
  const asking = clients.map(async ({ kafka }) => {
    const admin = kafka.admin()
    await admin.connect()
    return admin.fetchTopicMetadata({ topics: ['t'] })
  })
  const { topics } = await Promise.any(asking)
  expect(topics.map(({ name }) => name)).toEqual(['t'])
  for (const client of clients) client.kill()
  const outcomes = await Promise.allSettled(asking)
  expect(outcomes.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected'])
})
