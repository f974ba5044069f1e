import { randomBytes } from 'node:crypto'
import { createKafkaEventLog, DEFAULT_TOPICS, type KafkaEventLogOptions } from '@curfew/broker'
import { createClient } from '@curfew/client'
import { EventLogUnavailableError, type LogRecord } from '@curfew/domain'
import { expect, test } from 'vitest'
import { openCluster } from '../chaos/cluster.ts'
import { ISS } from '../chaos/load.ts'
import { type Certificate, openCertificateMaker } from '../support/certificates.ts'
import { createTestDatabase } from '../support/database.ts'
import { describeWithKafka, uniquePrefix } from '../support/kafka.ts'
import { useOwnKafka } from '../support/own-kafka.ts'
import { useProcesses } from '../support/processes.ts'

// Goal: Curfew works with brokers that require TLS and a login. Errors name the wrong setting but not the password, and no
// service hangs.
// Method: a real broker with SASL_SSL, and the services as separate processes.

const processes = useProcesses()
const USERNAME = 'curfew'
const PASSWORD = `right-${randomBytes(12).toString('hex')}`
const WRONG_PASSWORD = `wrong-${randomBytes(12).toString('hex')}`
const ROLES = ['ingest', 'delivery', 'bookkeeper'] as const
const patiently = { timeout: 30_000, interval: 50 }

let ca: Certificate
let otherCa: Certificate
const kafka = useOwnKafka(async () => {
  await using certificates = await openCertificateMaker()
  ca = await certificates.selfSigned('DNS:ca.example')
  otherCa = await certificates.selfSigned('DNS:other-ca.example')
  const tls = await certificates.signedBy(ca, 'IP:127.0.0.1')
  return { brokers: 1, security: { users: { [USERNAME]: PASSWORD }, tls } }
})

const login = (password: string) => ({ KAFKA_SASL_USERNAME: USERNAME, KAFKA_SASL_PASSWORD: password })

test('a logout is delivered through Kafka over SASL_SSL with SCRAM-SHA-512', {
  timeout: 90_000,
}, async () => {
  await using database = await createTestDatabase()
  await using cluster = await openCluster(processes, {
    brokers: kafka().brokers,
    database,
    roles: [...ROLES, 'console'],
    env: { ...login(PASSWORD), KAFKA_SSL_CA: ca.cert },
  })
  const ingest = createClient({ url: cluster.ingestUrls[0] ?? '', key: cluster.key })
  const { id } = await ingest.postLogoutEvent({ iss: ISS, sub: 'alice' })
  const deliveries = () => cluster.tallies.map(({ times }) => times.get(id))
  await expect.poll(deliveries, patiently).toEqual([1, 1])
})

type Settings = Pick<KafkaEventLogOptions, 'ssl' | 'sasl' | 'appendTimeoutMs'>

function openLog(brokers: readonly string[], settings: Settings) {
  return createKafkaEventLog({
    brokers,
    clientId: 'test',
    groupId: uniquePrefix(),
    topics: { ...DEFAULT_TOPICS, replicationFactor: 1, prefix: uniquePrefix() },
    quarantine: async () => undefined,
    // New topics have no leaders for a while.
    appendTimeoutMs: 30_000,
    ...settings,
  })
}

const RECORD: LogRecord = { lane: 'interactive', key: 'k', value: new Uint8Array([1]), headers: {} }

test.each([
  { mechanism: 'plain', username: USERNAME, password: PASSWORD },
  { mechanism: 'scram-sha-256', username: USERNAME, password: PASSWORD },
] as const)('the event log appends records over SASL_SSL with $mechanism', async (sasl) => {
  // Frozen, as the services freeze their configuration.
  const log = openLog(kafka().brokers, { ssl: { ca: [ca.cert] }, sasl: Object.freeze(sasl) })
  await log.append([RECORD])
  await log.check()
  await log.close()
})

test('with a wrong password appends reject in time, and consumers report the cause and stop on request', async () => {
  const sasl = { mechanism: 'scram-sha-512', username: USERNAME, password: WRONG_PASSWORD } as const
  const log = openLog(kafka().brokers, { ssl: { ca: [ca.cert] }, sasl, appendTimeoutMs: 2_000 })
  const errors: string[] = []
  const consumer = log.consume(
    {
      lane: 'interactive',
      batchSize: 10,
      batchesInFlight: 1,
      onError: (error) => errors.push(String(error)),
    },
    async () => [],
  )
  await expect(log.append([RECORD])).rejects.toThrow(EventLogUnavailableError)
  await expect.poll(() => errors, patiently).toContainEqual(expect.stringContaining('KAFKA_SASL_PASSWORD'))
  await consumer.stop()
  await log.close()
})

await describeWithKafka('with brokers without TLS and login', (brokers) => {
  test.each([
    { setting: 'KAFKA_SSL', settings: { ssl: true } },
    {
      setting: 'KAFKA_SASL_USERNAME',
      settings: { sasl: { mechanism: 'plain', username: USERNAME, password: PASSWORD } },
    },
  ] as const)('the error names $setting, which the brokers do not support', async ({ setting, settings }) => {
    const log = openLog(brokers, settings)
    await expect(log.check()).rejects.toThrow(setting)
    await log.close()
  })
})

test.each([
  {
    fault: 'a wrong password',
    env: () => ({ ...login(WRONG_PASSWORD), KAFKA_SSL_CA: ca.cert }),
    says: /Kafka refuses the login \(KAFKA_SASL_USERNAME, .*invalid credentials/,
  },
  {
    fault: 'a user that Kafka does not know',
    env: () => ({ ...login(PASSWORD), KAFKA_SASL_USERNAME: 'unknown', KAFKA_SSL_CA: ca.cert }),
    says: /Kafka refuses the login \(KAFKA_SASL_USERNAME, .*invalid credentials/,
  },
  {
    fault: 'the wrong CA',
    env: () => ({ ...login(PASSWORD), KAFKA_SSL_CA: otherCa.cert }),
    says: /the certificate of Kafka is not trusted .*KAFKA_SSL_CA/,
  },
  {
    fault: 'no login',
    env: () => ({ KAFKA_SSL_CA: ca.cert }),
    says: /Kafka closes the connection: .*KAFKA_SASL_USERNAME/,
  },
  {
    fault: 'no TLS',
    env: () => login(PASSWORD),
    says: /Kafka closes the connection: .*KAFKA_SSL/,
  },
])(
  'with $fault every service logs the cause, is not ready, and stops on request',
  { timeout: 90_000 },
  async ({ env, says }) => {
    await using database = await createTestDatabase()
    const services = ROLES.map((role) =>
      processes.start({
        name: role,
        file: `services/${role}/src/main.ts`,
        env: {
          HOST: '127.0.0.1',
          PORT: '0',
          DATABASE_URL: database.url,
          KAFKA_BROKERS: kafka().brokers.join(','),
          KAFKA_REPLICATION_FACTOR: '1',
          CURFEW_ADMIN_KEY: `cfw_${randomBytes(32).toString('base64url')}`,
          CURFEW_MASTER_KEY: randomBytes(32).toString('base64url'),
          ...env(),
        },
      }),
    )
    await Promise.all(
      services.map(async (service) => {
        const [, url] = await service.says(/"url":"(\S+?)"/, 60_000)
        const { status, body } = await readiness(`${url}/readyz`)
        expect(status).toBe(503)
        expect(body.unavailable).toContain('event-log')
        await service.says(says, 60_000)
        service.signal('SIGTERM')
        expect(await service.exit(60_000)).toEqual({ code: 0, signal: null })
        for (const password of [PASSWORD, WRONG_PASSWORD]) {
          expect(service.stdout + service.stderr).not.toContain(password)
        }
      }),
    )
  },
)

async function readiness(url: string) {
  const response = await fetch(url)
  return {
    status: response.status,
    body: (await response.json()) as { readonly unavailable: readonly string[] },
  }
}
