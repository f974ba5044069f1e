import { createClient } from '@curfew/client'
import { expect, test } from 'vitest'
import { freePort } from '../../deploy/server/ports.ts'
import { openCluster } from '../chaos/cluster.ts'
import { ISS } from '../chaos/load.ts'
import { createTestDatabase } from '../support/database.ts'
import { describeWithKafka, uniquePrefix } from '../support/kafka.ts'
import { runCurfew, useProcesses } from '../support/processes.ts'

// Goal: an ingest with another event log than the workers accepts no logouts, operators see the fault, and the event log of a
// deployment can be changed on purpose.
// Method: the services as separate processes over a real broker, and ingests with other settings.

const processes = useProcesses()
const patiently = { timeout: 60_000, interval: 200 }

await describeWithKafka('an ingest with another event log than the other services', (brokers) => {
  test('accepts no logouts until the deployment is changed to its event log', {
    timeout: 240_000,
  }, async () => {
    await using database = await createTestDatabase()
    const roles = ['delivery', 'console'] as const
    await using cluster = await openCluster(processes, { brokers, database, roles })
    const [delivery, console] = cluster.members
    if (delivery === undefined || console === undefined) throw new Error('a service is missing')

    const settings = { DATABASE_URL: database.url, KAFKA_BROKERS: '', KAFKA_TOPIC_PREFIX: '' }
    async function openIngest(kafka: Readonly<Record<string, string>>) {
      const url = `http://127.0.0.1:${await freePort()}`
      const process = processes.start({
        name: 'ingest',
        file: 'services/ingest/src/main.ts',
        env: {
          ...{ LOG_LEVEL: 'warn', HOST: '127.0.0.1', PORT: new URL(url).port, CURFEW_ADMIN_KEY: cluster.key },
          ...{ ...settings, ...kafka },
        },
      })
      const ready = async () => (await fetch(`${url}/readyz`)).json()
      await expect
        .poll(
          () =>
            ready().then(
              () => true,
              () => false,
            ),
          patiently,
        )
        .toBe(true)
      return { process, ready, client: createClient({ url, key: cluster.key }) }
    }
    const post = async ({ client }: Awaited<ReturnType<typeof openIngest>>) =>
      client.postLogoutEvent({ iss: ISS, sub: 'alice' }).then(
        ({ status }) => status,
        (error: Error) => error.message,
      )

    const inPostgres = await openIngest({})
    const otherTopics = await openIngest({
      KAFKA_BROKERS: brokers.join(','),
      KAFKA_REPLICATION_FACTOR: '1',
      KAFKA_TOPIC_PREFIX: uniquePrefix(),
    })
    for (const ingest of [inPostgres, otherTopics]) {
      expect(await post(ingest)).toContain('uses another event log')
      expect(await ingest.ready()).toMatchObject({ status: 'not ready', unavailable: ['event-log-choice'] })
      await ingest.process.says(/event-log\.wrong.*topics test\.\S+\.logout\.\*/)
    }
    expect((await database.db.query('select from log_records')).rowCount).toBe(0)

    const doctor = await runCurfew(processes, ['doctor'], {
      CURFEW_URL: console.url,
      CURFEW_KEY: cluster.key,
    })
    expect(doctor.stdout).toMatch(
      /^WRONG +choice of event log +is Kafka cluster \S+, topics test\.\S+, but ingest at \S+ uses .*PostgreSQL and accepts no logouts/m,
    )

    // The operator changes the event log of the deployment to that of the first ingest.
    const use = (...args: string[]) => runCurfew(processes, ['event-log', 'use', ...args], settings)
    expect(await use()).toMatchObject({ code: 2, stderr: expect.stringContaining('--yes') })
    expect(await use('--yes')).toMatchObject({
      code: 0,
      stdout: 'The event log is PostgreSQL from now on.\n',
      stderr: expect.stringMatching(/^The event log is Kafka cluster/),
    })
    await expect.poll(() => post(inPostgres), patiently).toBe('accepted')
    const notReady = async () => (await fetch(`${delivery.url}/readyz`)).json()
    await expect.poll(notReady, patiently).toMatchObject({ unavailable: ['event-log-choice'] })
  })
})
