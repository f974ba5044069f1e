import { mkdirSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { createBookkeeper } from '@curfew/bookkeeper'
import {
  createKafkaEventLog,
  createKafkaLog,
  createKafkaMonitor,
  createKafkaPublisher,
  identifyKafka,
} from '@curfew/broker'
import { createConsole } from '@curfew/console'
import { SCOPES } from '@curfew/contract'
import { checkClock, createDelivery, heartbeatOptions, logDeliveryFaults } from '@curfew/delivery'
import { openEmbeddedPostgres } from '@curfew/embedded'
import { createIngest } from '@curfew/ingest'
import {
  createDatabase,
  createDeliveryLedger,
  createLedgerCheck,
  createPostgresEventLog,
  createPostgresMonitor,
  createQuarantine,
  guardEventLog,
  migrate,
  openCredentialStore,
  openDatabase,
  openIssuerNetworks,
  openKeyStore,
  POSTGRES_LOG,
  readClock,
  reclaimLeases,
} from '@curfew/ledger'
import {
  createGuardedClient,
  createIssuerPost,
  createOwnAddresses,
  createTargetCheck,
  fetchJson,
} from '@curfew/outbound'
import {
  aborted,
  adminKey,
  createCredentials,
  createHttpServer,
  createLog,
  createMetrics,
  hashApiKey,
  httpService,
  type Log,
  metricsServices,
  openLogFile,
  runProcess,
  type Service,
} from '@curfew/runtime'
import {
  createAccessTokenVerifier,
  createClientKeySealer,
  createCursorSealer,
  createKeyMaker,
  createKeyring,
  createLogKeeper,
  createWebhookSecretSealer,
} from '@curfew/tokens'
import type { StandaloneConfig } from './config.ts'
import { createDemo, type DemoDeps } from './demo.ts'
import { rewrapSecrets } from './rewrap.ts'
import { newApiKey, openSecrets } from './secrets.ts'
import { greeting, howToPost } from './welcome.ts'

export { readStandaloneConfig } from './config.ts'
export { type RewrapProgress, rewrapSecrets } from './rewrap.ts'

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
  const failures: string[] = []
  const status = await runProcess(
    async (scope) => {
      const metrics = createMetrics()
      const databaseUrl = config.databaseUrl ?? (await embedded())
      // Not before the database is ours, and with it the folder.
      const secrets = await openSecrets(config)
      const db = await openDatabase(databaseUrl, {
        applicationName: 'curfew',
        poolMax: 20,
        signal: scope.stopping,
      })
      scope.defer('postgres', () => db.end())
      const { beats, changes, reads, books } = openPools(databaseUrl, config)
      for (const pool of [beats, changes, reads, books]) scope.defer('postgres', () => pool.end())
      const applied = await migrate(db)
      if (applied.length > 0) log.info({ event: 'ledger.migrated', migrations: applied })
      // Nobody else can be alive in a database of our own: what a killed run left leased is free at once.
      if (config.databaseUrl === null) await reclaimLeases(db, { leaseMs: 0 })
      const kafka = config.kafka && {
        ...config.kafka,
        clientId: `curfew@${hostname()}`,
        groupId: `${config.kafka.topics.prefix}curfew`,
        log: createKafkaLog(log),
      }
      const eventLog = guardEventLog(
        kafka === null
          ? createPostgresEventLog({ db, url: databaseUrl })
          : createKafkaEventLog({ ...kafka, quarantine: createQuarantine(db) }),
        {
          db,
          user: `standalone at ${hostname()}`,
          identify: async () => (kafka === null ? POSTGRES_LOG : identifyKafka(kafka)),
          alone: config.databaseUrl === null,
          onWrong: (error) => log.error({ event: 'event-log.wrong', err: error }),
        },
      )
      scope.defer('event log', () => eventLog.close())
      const publisher = kafka && createKafkaPublisher(kafka)
      const monitor = kafka === null ? createPostgresMonitor(reads) : createKafkaMonitor(kafka)
      scope.defer('publisher', () => publisher?.close())
      const allowedNetworks = [...config.allowedNetworks, ...(demo ? LOOPBACK : [])]
      // The demo's relying parties listen wherever a port is free.
      const allowedPorts = demo ? null : config.allowedPorts
      const own = createOwnAddresses({
        databaseUrl,
        brokers: config.kafka?.brokers ?? [],
        publicUrl: config.publicUrl,
      })
      const client = createGuardedClient({ allowedNetworks, allowedPorts, own })
      scope.defer('outbound', () => client.close())
      const { masterKey } = secrets
      const { oldMasterKey } = config
      // Nobody else reads a database of our own, and nobody else can: there is no better moment.
      if (config.databaseUrl === null && oldMasterKey !== null) {
        const { seen, rewrapped, unreadable } = await rewrapSecrets(databaseUrl, {
          current: masterKey,
          old: oldMasterKey,
        })
        log.info({ event: 'secrets.rewrapped', seen, rewrapped, unreadable })
      }
      const keyMaker = createKeyMaker({
        masterKey,
        oldMasterKey,
        post: createIssuerPost(client, openIssuerNetworks(db)),
      })
      const keyring = createKeyring({ store: openKeyStore(db), maker: keyMaker, now: () => new Date() })
      const clientKeys = createClientKeySealer(masterKey, oldMasterKey)
      const webhookSecrets = createWebhookSecretSealer(masterKey, oldMasterKey)
      const logKeeper = createLogKeeper(masterKey, oldMasterKey)
      const demoKey = newApiKey()
      const credentials = createCredentials({
        fixed: [
          adminKey('admin', secrets.adminKeyHash),
          ...(demo ? [adminKey('demo', hashApiKey(demoKey))] : []),
        ],
        store: openCredentialStore(db),
        verifyAccessToken: createAccessTokenVerifier({
          servers: config.access.authorizationServers,
          fetchJwks: (uri) => fetchJson(client, uri),
          scopes: new Set(SCOPES),
          now: () => new Date(),
        }),
        log,
        now: () => new Date(),
      })
      const server = await createHttpServer({
        title: 'Curfew',
        log,
        metrics,
        metricsApart: config.metricsPort !== null,
        authenticate: credentials.authenticate,
        requestsPerSecond: config.access.requestsPerSecond,
        checks: {
          'event-log': () => eventLog.check(),
          'event-log-choice': () => eventLog.checkChoice(),
          ledger: createLedgerCheck(db),
          lanes: () => delivery.checkLanes(),
          clock: () => checkClock(() => readClock(db)),
          'master-key': () => keyring.check(),
        },
      })
      const ingest = createIngest({
        ...{ server, eventLog, db: reads, databaseUrl, log, metrics },
        backlogMax: config.kafka === null ? config.backlogMax : null,
      })
      createConsole({
        server,
        db: changes,
        reads,
        keyring: createKeyring({ store: openKeyStore(changes), maker: keyMaker, now: () => new Date() }),
        keyMaker,
        clientKeys,
        client,
        cursors: createCursorSealer(masterKey, oldMasterKey),
        webhookSecrets,
        targetFault: createTargetCheck({ allowedNetworks, allowedPorts, own }),
        allowedNetworks,
        logKeeper,
        logOrigin: config.receipts.origin,
        relyingPartiesMax: config.relyingPartiesMax,
        monitor,
        log,
        metrics,
      })
      const delivery = createDelivery({
        eventLog,
        ledger: createDeliveryLedger(db, { beats, onFault: logDeliveryFaults(log) }),
        keyring,
        clientKeys,
        client,
        log,
        metrics,
        workerName: `${hostname()}:${process.pid}`,
        leaseMs: config.leaseMs,
      })
      const bookkeeper = createBookkeeper({
        db: books,
        eventLog,
        monitor,
        publisher,
        client,
        webhookSecrets,
        retention: config.retention,
        receipts: config.receipts,
        sessionsMax: config.sessionsMax,
        logKeeper,
        generateKey: (issuer, algorithm) => keyMaker.generate(issuer, algorithm),
        log,
        metrics,
      })
      const { promise: listening, resolve: onListening } = Promise.withResolvers<string>()
      const http = httpService(server, {
        host: config.host,
        port: config.port,
        log,
        onListening,
        onBound: own.listens,
      })
      const welcome = async (url: string) => {
        print(greeting({ url, newAdminKey: secrets.newAdminKey, dataDir: config.dataDir, logPath }))
        await secrets.keepAdminKey()
      }
      const guide = demo
        ? createDemo({ listening, key: secrets.newAdminKey ?? demoKey, welcome, print })
        : createGuide({ listening, key: secrets.newAdminKey, welcome, print })
      return [
        ...ingest,
        delivery,
        bookkeeper,
        credentials.service,
        http,
        guide,
        ...metricsServices({
          metrics,
          host: config.host,
          port: config.metricsPort,
          log,
          onBound: own.listens,
        }),
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
    {
      stopDeadlineMs: config.stopDeadlineMs,
      log: noting(log, (error) => failures.push(inPlainWords(error, config))),
    },
  )
  for (const failure of failures) process.stderr.write(`${failure}\n`)
  if (failures.length > 0 && logPath !== null) process.stderr.write(`${logPath} has more.\n`)
  return status
}

/**
 * The connections of all but the way in and delivery, which have a pool of their own: other work that takes all of its own connections
 * holds up no logout.
 */
function openPools(url: string, { leaseMs, readTimeoutMs }: StandaloneConfig) {
  return {
    beats: createDatabase(url, heartbeatOptions({ leaseMs })),
    changes: createDatabase(url, { applicationName: 'curfew console' }),
    reads: createDatabase(url, { applicationName: 'curfew reads', statementTimeoutMs: readTimeoutMs }),
    books: createDatabase(url, { applicationName: 'curfew bookkeeper', poolMax: 5 }),
  }
}

/** Says how to post a logout, once there is somewhere to post it to. */
function createGuide({
  listening,
  key,
  welcome,
  print,
}: Omit<DemoDeps, 'key'> & { key: string | null }): Service {
  return {
    name: 'guide',
    async run({ stopping, ready }) {
      ready()
      const url = await Promise.race([listening, aborted(stopping)])
      if (url === undefined) return
      await welcome(url)
      const post = howToPost({
        url,
        key: key ?? '$CURFEW_ADMIN_KEY',
        iss: 'https://idp.example',
        sub: 'alice',
      })
      print(`  Post a logout:\n\n${post}\n`)
      await aborted(stopping)
    },
  }
}

/** For a person at the terminal, who may be able to do something about it. */
function inPlainWords(error: unknown, { host, port, metricsPort }: StandaloneConfig): string {
  if (!(error instanceof Error)) return String(error)
  if ('code' in error && error.code === 'EADDRINUSE') {
    const taken = 'port' in error ? error.port : port
    const setting = taken === metricsPort ? 'CURFEW_METRICS_PORT' : 'CURFEW_PORT'
    return `${host}:${taken} is in use by another process; stop that one first, or name another port by ${setting}`
  }
  return error.message
}

/** The same log, of which `onFailed` is told what ends the process. */
function noting(log: Log, onFailed: (error: unknown) => void): Log {
  return {
    isLevelEnabled: (level) => log.isLevelEnabled(level),
    debug: (line) => log.debug(line),
    info: (line) => log.info(line),
    warn: (line) => log.warn(line),
    error(line) {
      log.error(line)
      if (line.event === 'process.failed') onFailed(line.err)
    },
  }
}
