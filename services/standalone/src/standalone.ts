import { mkdirSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { createBookkeeper } from '@curfew/bookkeeper'
import { createConsole } from '@curfew/console'
import { checkClock, createDelivery, heartbeatOptions, logDeliveryFaults } from '@curfew/delivery'
import { openEmbeddedPostgres } from '@curfew/embedded'
import { createIngest } from '@curfew/ingest'
import {
  createDeliveryLedger,
  createLedgerCheck,
  migrate,
  openDatabase,
  readClock,
  reclaimLeases,
} from '@curfew/ledger'
import { createTargetCheck } from '@curfew/outbound'
import {
  aborted,
  adminKey,
  createLog,
  hashApiKey,
  type Log,
  openLogFile,
  runProcess,
  type Service,
} from '@curfew/runtime'
import {
  createClientKeySealer,
  createCursorSealer,
  createLogKeeper,
  createWebhookSecretSealer,
} from '@curfew/tokens'
import { createOpening, eventLogChecks, type Opening } from '@curfew/wiring'
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
      const databaseUrl = config.databaseUrl ?? (await embedded())
      // Not before the database is ours, and with it the folder.
      const secrets = await openSecrets(config)
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
      // The demo's relying parties listen at loopback, wherever a port is free.
      const allowedNetworks = [...config.allowedNetworks, ...(demo ? LOOPBACK : [])]
      const allowedPorts = demo ? null : config.allowedPorts
      const open = createOpening({
        name: 'standalone',
        config: { ...config, databaseUrl, allowedNetworks, allowedPorts },
        scope,
        log,
      })
      const { metrics, client, own } = open
      const { beats, changes, reads, books } = openPools(open, config)
      const eventLog = open.eventLog(db, { alone: config.databaseUrl === null })
      const publisher = open.publisher()
      const monitor = open.monitor(reads)
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
      const keyMaker = open.keyMaker(db, { masterKey, oldMasterKey })
      const keyring = open.keyring(db, keyMaker)
      const clientKeys = createClientKeySealer(masterKey, oldMasterKey)
      const webhookSecrets = createWebhookSecretSealer(masterKey, oldMasterKey)
      const logKeeper = createLogKeeper(masterKey, oldMasterKey)
      const demoKey = newApiKey()
      const credentials = open.credentials(db, {
        fixed: [
          adminKey('admin', secrets.adminKeyHash),
          ...(demo ? [adminKey('demo', hashApiKey(demoKey))] : []),
        ],
        access: config.access,
      })
      const server = await open.server({
        title: 'Curfew',
        authenticate: credentials.authenticate,
        requestsPerSecond: config.access.requestsPerSecond,
        checks: {
          ...eventLogChecks(eventLog),
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
        keyring: open.keyring(changes, keyMaker),
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
        guide,
        ...open.listeners(server, { onListening }),
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
function openPools(open: Pick<Opening, 'database'>, { leaseMs, readTimeoutMs }: StandaloneConfig) {
  return {
    beats: open.database(heartbeatOptions({ leaseMs })),
    changes: open.database({ applicationName: 'curfew console' }),
    reads: open.database({ applicationName: 'curfew reads', statementTimeoutMs: readTimeoutMs }),
    books: open.database({ applicationName: 'curfew bookkeeper', poolMax: 5 }),
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
