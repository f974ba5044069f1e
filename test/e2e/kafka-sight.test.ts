import { randomBytes } from 'node:crypto'
import { createClient } from '@curfew/client'
import kafkajs from 'kafkajs'
import { expect, test } from 'vitest'
import { openCluster } from '../chaos/cluster.ts'
import { ISS } from '../chaos/load.ts'
import { createTestDatabase } from '../support/database.ts'
import { describeWithKafka } from '../support/kafka.ts'
import { runCurfew, useProcesses } from '../support/processes.ts'
import { promtoolComplaints } from '../support/promtool.ts'

// Goal: metrics and doctor show an operator the quarantined records, the backlog and the unassigned partitions. Deleted topics
// are created again without a restart.
// Method: the services as separate processes over a real broker; the operator uses Kafka's own tools.

const processes = useProcesses()
const patiently = { timeout: 60_000, interval: 200 }

await describeWithKafka('services over Kafka', (brokers) => {
  test('report the lag and the age of every lane before any worker has run, and nothing once one has caught up', {
    timeout: 400_000,
  }, async () => {
    await using database = await createTestDatabase()
    const env = { CURFEW_MASTER_KEY: randomBytes(32).toString('base64url') }
    const roles = ['ingest', 'bookkeeper', 'console'] as const
    await using cluster = await openCluster(processes, { brokers, database, roles, env })
    const [ingest, bookkeeper, console] = cluster.members
    if (ingest === undefined || bookkeeper === undefined || console === undefined)
      throw new Error('a service is missing')
    const metricsOf = async ({ url }: { readonly url: string }) => (await fetch(`${url}/metrics`)).text()
    const shown = async (name: string): Promise<Readonly<Record<string, number>>> => {
      const lines = (await metricsOf(bookkeeper)).matchAll(
        new RegExp(`^curfew_${name}\\{lane="(\\w+)"\\} (\\S+)$`, 'gm'),
      )
      return Object.fromEntries([...lines].map(([, lane, value]) => [lane, Number(value)]))
    }
    const client = createClient({ url: ingest.url, key: cluster.key })
    const postedMs = Date.now()
    for (const sub of ['alice', 'bob']) await client.postLogoutEvent({ iss: ISS, sub })
    for (const sub of ['carol', 'dave', 'erin']) await client.postLogoutEvent({ iss: ISS, sub, lane: 'bulk' })
    await client.postSession({ iss: ISS, sub: 'frank', sid: 's-1', client_id: 'mail', expires_at: null })

    await expect
      .poll(() => shown('event_log_lag_records'), patiently)
      .toEqual({ interactive: 2, bulk: 3, sessions: 1 })
    const young = await shown('event_log_oldest_seconds')
    expect(Object.keys(young).sort()).toEqual(['bulk', 'interactive', 'sessions'])
    for (const age of Object.values(young)) expect(age).toBeGreaterThanOrEqual(1)
    // The age grows with time, and is accurate to about a tenth.
    const ages = async (): Promise<readonly number[]> =>
      Object.values<number>(await shown('event_log_oldest_seconds'))
    await expect.poll(async () => Math.min(...(await ages())), patiently).toBeGreaterThan(5)
    const ageMaxSeconds = (1.1 * (Date.now() - postedMs)) / 1_000
    for (const age of await ages()) expect(age).toBeLessThanOrEqual(ageMaxSeconds)
    expect(await metricsOf(console)).toMatch(/^curfew_workers_alive 0$/m)
    expect(await metricsOf(console)).toMatch(/^curfew_bookkeepers_alive 1$/m)
    const ready = async () => (await fetch(`${console.url}/readyz`)).json()
    await expect
      .poll(ready, patiently)
      .toMatchObject({ status: 'ready', degraded: expect.arrayContaining(['workers']) })

    const { topicPrefix } = cluster
    await using working = await openCluster(processes, {
      ...{ brokers, database, topicPrefix, env },
      roles: ['delivery', 'console'],
    })
    const none = { interactive: 0, bulk: 0, sessions: 0 }
    await expect.poll(() => shown('event_log_lag_records'), patiently).toEqual(none)
    expect(await shown('event_log_oldest_seconds')).toEqual(none)
    await expect.poll(() => metricsOf(bookkeeper), patiently).toMatch(/^curfew_workers_alive 1$/m)
    await expect.poll(ready, patiently).toMatchObject({ degraded: [] })
    for (const member of [...cluster.members, ...working.members])
      expect(await promtoolComplaints(await metricsOf(member)), member.name).toBe('')
  })

  test('report quarantined records and the backlog, and work again after their topics were deleted', {
    timeout: 400_000,
  }, async () => {
    await using database = await createTestDatabase()
    const roles = ['ingest', 'delivery', 'bookkeeper', 'console'] as const
    await using cluster = await openCluster(processes, { brokers, database, roles })
    const [ingest, delivery, bookkeeper, console] = cluster.members
    if (ingest === undefined || delivery === undefined || bookkeeper === undefined || console === undefined)
      throw new Error('a service is missing')
    const kafka = new kafkajs.Kafka({
      brokers: [...brokers],
      clientId: 'operator',
      logLevel: kafkajs.logLevel.NOTHING,
    })
    const topics = (await cluster.client.getEventLog()).topics.map(({ topic }) => topic)
    const interactive = topics.find((topic) => topic.endsWith('logout.events')) ?? ''

    const metric = async (name: string, lane: string) => {
      const body = await (await fetch(`${bookkeeper.url}/metrics`)).text()
      return Number(new RegExp(`^curfew_${name}\\{lane="${lane}"\\} (\\S+)$`, 'm').exec(body)?.[1])
    }
    const doctor = () =>
      runCurfew(processes, ['doctor'], { CURFEW_URL: console.url, CURFEW_KEY: cluster.key })

    const producer = kafka.producer({ createPartitioner: kafkajs.Partitioners.DefaultPartitioner })
    await producer.connect()
    await producer.send({ topic: interactive, messages: [{ key: 'poison', value: 'no logout event' }] })
    await producer.disconnect()
    await expect.poll(() => metric('quarantined_records', 'interactive'), patiently).toBe(1)
    await expect.poll(() => metric('event_log_unassigned_partitions', 'interactive'), patiently).toBe(0)
    expect(await metric('event_log_lag_records', 'interactive')).toBe(0)
    expect((await doctor()).stdout).toMatch(/^WRONG +quarantine +1 record waits for a person$/m)
    expect((await doctor()).stdout).toMatch(/^ok +lane interactive +no record waits$/m)

    await delivery.kill()
    const client = createClient({ url: ingest.url, key: cluster.key })
    await client.postLogoutEvent({ iss: ISS, sub: 'alice' })
    await expect.poll(() => metric('event_log_lag_records', 'interactive'), patiently).toBe(1)
    await expect.poll(() => metric('event_log_unassigned_partitions', 'interactive'), patiently).toBe(12)
    await expect.poll(() => metric('event_log_oldest_seconds', 'interactive'), patiently).toBeGreaterThan(1)
    expect((await doctor()).stdout).toMatch(
      /^WRONG +lane interactive +partitions 0, 1, .* without a worker; 1 record waits, the oldest for \d+ s$/m,
    )
    delivery.start()
    await delivery.ready()
    await expect.poll(() => metric('event_log_lag_records', 'interactive'), patiently).toBe(0)

    const admin = kafka.admin()
    await admin.connect()
    await admin.deleteTopics({ topics })
    await admin.disconnect()
    const createdAgain = async () => {
      await fetch(`${ingest.url}/readyz`)
      return ingest.process.stderr
    }
    await expect.poll(createdAgain, patiently).toContain(`${interactive} had vanished with its records`)
    const post = () =>
      client.postLogoutEvent({ iss: ISS, sub: 'bob' }).then(
        (accepted) => accepted.id,
        () => null,
      )
    await expect.poll(post, patiently).not.toBeNull()
    const id = (await post()) ?? ''
    await expect
      .poll(() => client.getLogoutEvent(id).then(({ status }) => status, String), patiently)
      .toBe('settled')
  })
})
