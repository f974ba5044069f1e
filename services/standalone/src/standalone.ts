import { mkdirSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { createKafkaEventLog } from '@curfew/broker'
import { createConsole } from '@curfew/console'
import { createDelivery } from '@curfew/delivery'
import { createIngest } from '@curfew/ingest'
import { createPostgresEventLog, migrate, openDatabase, openKeyStore, reclaimLeases } from '@curfew/ledger'
import { openEmbeddedPostgres } from '@curfew/ledger/embedded'
import { createGuardedClient, targetFault } from '@curfew/outbound'
import {
  createApiKeyAuthenticator,
  createHttpServer,
  createLog,
  createMetrics,
  hashApiKey,
  httpService,
  openLogFile,
  runProcess,
} from '@curfew/runtime'
import { createKeyring } from '@curfew/tokens'
import type { StandaloneConfig } from './config.ts'
import { createDemo } from './demo.ts'
import { newApiKey, openSecrets } from './secrets.ts'
import { greeting, howToPost } from './welcome.ts'

export { readStandaloneConfig } from './config.ts'

const LOOPBACK = ['127.0.0.0/8', '::1/128']

/**
 * Runs all services in one process and port: over an embedded PostgreSQL, or the one of `DATABASE_URL`; with the
 * PostgreSQL event log, or Kafka where `KAFKA_BROKERS` names one. What is needed is opened once and wired thrice.
 *
 * @returns the exit status.
 */
export async function runStandalone(
  config: StandaloneConfig,
  { demo, print }: { demo: boolean; print: (text: string) => void },
): Promise<0 | 1> {
  mkdirSync(config.dataDir, { recursive: true })
  // The demo's terminal belongs to its reader.
  const logPath = demo ? join(config.dataDir, 'curfew.log') : null
  const log = createLog({
    service: 'standalone',
    level: config.logLevel,
    ...(logPath !== null && { destination: openLogFile(logPath) }),
  })
  const status = await runProcess(
    async (scope) => {
      const secrets = await openSecrets(config)
      const metrics = createMetrics()
      const databaseUrl = config.databaseUrl ?? (await embedded())
      const db = await openDatabase(databaseUrl, {
        applicationName: 'curfew',
        poolMax: 20,
        signal: scope.stopping,
      })
      scope.defer('postgres', () => db.end())
      const applied = await migrate(db)
      if (applied.length > 0) log.info({ event: 'ledger.migrated', migrations: applied })
      // Nobody else can be alive in a database of our own: what a killed run left leased is free at once.
      if (config.databaseUrl === null) await reclaimLeases(db, { leaseMs: 0 })
      const eventLog =
        config.kafka === null
          ? createPostgresEventLog({ db, url: databaseUrl })
          : createKafkaEventLog({ ...config.kafka, clientId: `curfew@${hostname()}`, groupId: 'curfew' })
      scope.defer('event log', () => eventLog.close())
      const allowedNetworks = [...config.allowedNetworks, ...(demo ? LOOPBACK : [])]
      const client = createGuardedClient({ allowedNetworks })
      scope.defer('outbound', () => client.close())
      const keyring = createKeyring({
        store: openKeyStore(db),
        masterKey: secrets.masterKey,
        now: () => new Date(),
      })
      const demoKey = newApiKey()
      const server = await createHttpServer({
        title: 'Curfew',
        log,
        metrics,
        authenticate: createApiKeyAuthenticator([
          { name: 'admin', hash: secrets.adminKeyHash, scopes: new Set(['admin']) },
          ...(demo ? [{ name: 'demo', hash: hashApiKey(demoKey), scopes: new Set(['admin']) }] : []),
        ]),
        checks: {
          'event-log': () => eventLog.check(),
          ledger: async () => void (await db.query('select 1')),
        },
      })
      const ingest = createIngest({ server, eventLog, db, log })
      createConsole({
        server,
        db,
        keyring,
        targetFault: (uri, networks) => targetFault(uri, [...allowedNetworks, ...networks]),
      })
      const delivery = createDelivery({
        eventLog,
        db,
        keyring,
        client,
        log,
        metrics,
        workerName: `${hostname()}:${process.pid}`,
        leaseMs: config.leaseMs,
      })
      const { promise: listening, resolve: onListening } = Promise.withResolvers<string>()
      const http = httpService(server, { host: config.host, port: config.port, log, onListening })
      const welcome = (url: string) =>
        print(greeting({ url, newAdminKey: secrets.newAdminKey, dataDir: config.dataDir, logPath }))
      if (!demo) {
        void listening.then((url) => {
          welcome(url)
          const key = secrets.newAdminKey ?? '$CURFEW_ADMIN_KEY'
          print(`  Post a logout:\n\n${howToPost({ url, key, iss: 'https://idp.example', sub: 'alice' })}\n`)
        })
      }
      return [
        ...ingest,
        delivery,
        http,
        ...(demo ? [createDemo({ listening, key: secrets.newAdminKey ?? demoKey, welcome, print })] : []),
      ]

      async function embedded(): Promise<string> {
        const postgres = await openEmbeddedPostgres({
          dataDir: join(config.dataDir, 'postgres'),
          log: (line) => log.info({ event: 'postgres.noted', line }),
        })
        scope.defer('embedded postgres', () => postgres.stop())
        return postgres.url
      }
    },
    { stopDeadlineMs: config.stopDeadlineMs, log },
  )
  if (status !== 0 && logPath !== null) print(`Curfew ended with an error; ${logPath} says which.\n`)
  return status
}
