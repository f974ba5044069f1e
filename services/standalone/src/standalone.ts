import { mkdirSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { createBookkeeper } from '@curfew/bookkeeper'
import { createConsole } from '@curfew/console'
import { createDelivery, heartbeatOptions, logDeliveryFaults } from '@curfew/delivery'
import { openEmbeddedPostgres } from '@curfew/embedded'
import { checkSpool, createIngest } from '@curfew/ingest'
import { createDeliveryLedger, createLedgerCheck, migrate, openDatabase, reclaimLeases } from '@curfew/ledger'
import { createTargetCheck } from '@curfew/outbound'
import {
  aborted,
  adminKey,
  createLog,
  hashApiKey,
  openLogFile,
  readOrExit,
  readTelemetry,
  runProcess,
  type Service,
  startTelemetry,
} from '@curfew/runtime'
import {
  createAuditSecretSealer,
  createClientKeySealer,
  createCursorSealer,
  createLogKeeper,
  createMessageSealer,
  createWebhookSecretSealer,
} from '@curfew/tokens'
import {
  createBacklogCheck,
  createOpening,
  describeProcess,
  eventLogChecks,
  messagingOf,
  type Opening,
} from '@curfew/wiring'
import type { StandaloneConfig } from './config.ts'
import { createDemo, type DemoDeps } from './demo.ts'
import { rewrapSecrets } from './rewrap.ts'
import { newApiKey, openSecrets } from './secrets.ts'
import { greeting, howToPost } from './welcome.ts'

export { readStandaloneConfig } from './config.ts'
export { type RewrapProgress, rewrapSecrets } from './rewrap.ts'

const LOOPBACK = ['127.0.0.0/8', '::1/128']

/**
 * Runs all services in one process and on one port. The database is an embedded PostgreSQL, or that of `DATABASE_URL`. The event
 * log is PostgreSQL, or Kafka if `KAFKA_BROKERS` is set. The services share their connections and keys.
 *
 * @returns the exit status.
 */
export async function runStandalone(config: StandaloneConfig, { demo }: { demo: boolean }): Promise<0 | 1> {
  mkdirSync(config.dataDir, { recursive: true })
  const print = (text: string) => void process.stdout.write(text)
  // Without a terminal, a service manager or a container keeps the output. The greeting, and above all the key, are not for it.
  const greets = demo || process.stdout.isTTY
  // The demo uses the terminal for its own output, so its log goes to a file.
  const logPath = demo ? join(config.dataDir, 'curfew.log') : null
  const log = createLog({
    service: 'standalone',
    level: config.logLevel,
    ...(logPath !== null && { destination: openLogFile(logPath) }),
  })
  const failures: string[] = []
  const telemetry = readOrExit(readTelemetry)
  const status = await runProcess(
    async (scope) => {
      const messaging = messagingOf(config)
      await startTelemetry({ ...telemetry, service: 'standalone', messaging, scope, log })
      const databaseUrl = config.databaseUrl ?? (await embedded())
      // The secrets are opened only after the database: it locks the data folder.
      const secrets = await openSecrets(config)
      const db = await openDatabase(databaseUrl, {
        applicationName: 'curfew',
        poolMax: 20,
        signal: scope.stopping,
      })
      scope.defer('postgres', () => db.end())
      const applied = await migrate(db)
      if (applied.length > 0) log.info({ event: 'ledger.migrated', migrations: applied })
      // No other process uses an embedded database, so leases of a killed run are free at once.
      if (config.databaseUrl === null) await reclaimLeases(db, { leaseMs: 0 })
      // The demo's relying parties listen on loopback, on any free port.
      const allowedNetworks = [...config.allowedNetworks, ...(demo ? LOOPBACK : [])]
      const allowedPorts = demo ? null : config.allowedPorts
      const open = createOpening({
        name: 'standalone',
        config: { ...config, databaseUrl, allowedNetworks, allowedPorts },
        scope,
        log,
      })
      const { metrics, client, own, relayedTokens } = open
      const { beats, changes, reads, books } = openPools(open, config)
      const eventLog = open.eventLog(db, { alone: config.databaseUrl === null })
      const publisher = open.publisher()
      const monitor = open.monitor(reads)
      const alive = open.alive(reads)
      const { masterKey } = secrets
      const { oldMasterKey } = config
      // No other process uses an embedded database, so its secrets can be rewrapped at the start.
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
      const sessionTokens = open.sessionTokens({ masterKey, oldMasterKey })
      const webhookSecrets = createWebhookSecretSealer(masterKey, oldMasterKey)
      const auditSecrets = createAuditSecretSealer(masterKey, oldMasterKey)
      const logKeeper = createLogKeeper(masterKey, oldMasterKey)
      const demoKey = newApiKey()
      const credentials = open.credentials(db, {
        fixed: [
          adminKey('admin', secrets.adminKeyHash),
          ...(demo ? [adminKey('demo', hashApiKey(demoKey))] : []),
        ],
        access: config.access,
      })
      const spool = await open.spool(config.spool)
      const server = await open.server({
        title: 'Curfew',
        hasApi: true,
        authenticate: credentials.authenticate,
        requestsPerSecond: config.access.requestsPerSecond,
        checks: {
          ...eventLogChecks(eventLog),
          ledger: createLedgerCheck(db),
          lanes: () => delivery.checkLanes(),
          clock: alive.clock,
          'master-key': () => keyring.check(),
          spool: () => checkSpool(spool),
          ...alive.checks,
          backlog: createBacklogCheck(monitor),
        },
      })
      const ingest = createIngest({
        ...{ server, eventLog, db: reads, databaseUrl, log, metrics },
        tokens: relayedTokens,
        sealTokens: sessionTokens.seal,
        alive,
        spool,
        backlogMax: config.kafka === null ? config.backlogMax : null,
      })
      const background = createConsole({
        server,
        db: changes,
        reads,
        keyring: open.keyring(changes, keyMaker),
        keyMaker,
        clientKeys,
        client,
        cursors: createCursorSealer(masterKey, oldMasterKey),
        webhookSecrets,
        auditSecrets,
        targetFault: createTargetCheck({ allowedNetworks, allowedPorts, own }),
        allowedNetworks,
        publicUrl: config.publicUrl,
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
        messages: createMessageSealer(masterKey, oldMasterKey),
        sessionTokens,
        relayedTokens,
        client,
        log,
        metrics,
        workerName: `${hostname()}:${process.pid}`,
        leaseMs: config.leaseMs,
      })
      const bookkeeper = createBookkeeper({
        db: books,
        beats: open.database({ applicationName: 'curfew heartbeat', poolMax: 1, statementTimeoutMs: 5_000 }),
        name: `${hostname()}:${process.pid}`,
        eventLog,
        monitor,
        publisher,
        client,
        relayedTokens,
        webhookSecrets,
        clientKeys,
        auditSecrets,
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
        if (greets)
          print(greeting({ url, newAdminKey: secrets.newAdminKey, dataDir: config.dataDir, logPath }))
        const path = greets ? null : await secrets.handOverAdminKey()
        if (path !== null) {
          const msg = 'the file has the admin key: keep the key in a safe place, and delete the file'
          log.warn({ event: 'admin-key.generated', path, msg })
        }
        await secrets.keepAdminKey()
      }
      const guide = demo
        ? createDemo({ listening, key: secrets.newAdminKey ?? demoKey, welcome, print })
        : createGuide({ listening, key: secrets.newAdminKey, welcome, print: greets ? print : null })
      return [
        ...ingest,
        delivery,
        bookkeeper,
        alive.service,
        credentials.service,
        ...background,
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
      about: { ...describeProcess(config), database: config.databaseUrl === null ? 'embedded' : 'given' },
      explain(error) {
        const explanation = explainFailure(error, config)
        failures.push(explanation)
        return explanation
      },
      log,
    },
  )
  // A person reads the end of the terminal. Programs read the log, whose lines include the explanations.
  if (!demo && !process.stderr.isTTY) return status
  for (const failure of failures) process.stderr.write(`${failure}\n`)
  if (failures.length > 0 && logPath !== null) process.stderr.write(`See ${logPath} for details.\n`)
  return status
}

/**
 * Opens the connections of all services except ingest and delivery, which have their own pool. Other work that uses all of its
 * connections therefore delays no logout.
 */
function openPools(open: Pick<Opening, 'database'>, { leaseMs, readTimeoutMs }: StandaloneConfig) {
  return {
    beats: open.database(heartbeatOptions({ leaseMs })),
    changes: open.database({ applicationName: 'curfew console' }),
    reads: open.database({ applicationName: 'curfew reads', statementTimeoutMs: readTimeoutMs }),
    books: open.database({ applicationName: 'curfew bookkeeper', poolMax: 5 }),
  }
}

/** Creates the service that prints how to post a logout, once the server listens. Without a terminal it only welcomes. */
function createGuide({
  listening,
  key,
  welcome,
  print,
}: Omit<DemoDeps, 'key' | 'print'> & {
  key: string | null
  print: DemoDeps['print'] | null
}): Service {
  return {
    name: 'guide',
    async run({ stopping, ready }) {
      const url = await Promise.race([listening, aborted(stopping)])
      if (url === undefined) return
      await welcome(url)
      // The process is ready when its key can be read.
      ready()
      const post = howToPost({
        url,
        key: key ?? '$CURFEW_ADMIN_KEY',
        iss: 'https://idp.example',
        sub: 'alice',
      })
      print?.(`  Post a logout:\n\n${post}\n`)
      await aborted(stopping)
    },
  }
}

/** Describes an error for a person at the terminal, with the way to correct it if there is one. */
function explainFailure(error: unknown, { host, port, metricsPort }: StandaloneConfig): string {
  if (!(error instanceof Error)) return String(error)
  if ('code' in error && error.code === 'EADDRINUSE') {
    const taken = 'port' in error ? error.port : port
    const setting = taken === metricsPort ? 'CURFEW_METRICS_PORT' : 'CURFEW_PORT'
    return `${host}:${taken} is in use by another process; stop that process, or set another port with ${setting}`
  }
  return error.message
}
