import { hostname } from 'node:os'
import {
  createKafkaEventLog,
  createKafkaLog,
  createKafkaMonitor,
  createKafkaPublisher,
  identifyKafka,
} from '@curfew/broker'
import {
  createDatabase,
  createLedgerCheck,
  createPostgresEventLog,
  createPostgresMonitor,
  createQuarantine,
  guardEventLog,
  POSTGRES_LOG,
} from '@curfew/ledger'
import { createGuardedClient, createOwnAddresses } from '@curfew/outbound'
import {
  createApiKeyAuthenticator,
  createHttpServer,
  createLog,
  createMetrics,
  httpService,
  metricsServices,
  readOrExit,
  runProcess,
} from '@curfew/runtime'
import { createKeyMaker, createLogKeeper, createWebhookSecretSealer } from '@curfew/tokens'
import { createBookkeeper, readBookkeeperConfig } from './service.ts'

// The bookkeeper process: configuration, connections, and nothing else. Its HTTP server is for health and metrics.

const config = readOrExit(readBookkeeperConfig)
const log = createLog({ service: 'bookkeeper', level: config.logLevel })

process.exitCode = await runProcess(
  async (scope) => {
    const metrics = createMetrics()
    const db = createDatabase(config.databaseUrl, { applicationName: 'curfew bookkeeper', poolMax: 5 })
    scope.defer('postgres', () => db.end())
    const kafka = config.kafka && {
      ...config.kafka,
      clientId: `curfew-bookkeeper@${hostname()}`,
      log: createKafkaLog(log),
    }
    const publisher = kafka && createKafkaPublisher(kafka)
    scope.defer('publisher', () => publisher?.close())
    const eventLog = guardEventLog(
      kafka === null
        ? createPostgresEventLog({ db, url: config.databaseUrl })
        : createKafkaEventLog({
            ...kafka,
            groupId: `${kafka.topics.prefix}curfew`,
            quarantine: createQuarantine(db),
          }),
      {
        db,
        user: `bookkeeper at ${hostname()}`,
        identify: async () => (kafka === null ? POSTGRES_LOG : identifyKafka(kafka)),
        onWrong: (error) => log.error({ event: 'event-log.wrong', err: error }),
      },
    )
    scope.defer('event log', () => eventLog.close())
    const own = createOwnAddresses({
      databaseUrl: config.databaseUrl,
      brokers: config.kafka?.brokers ?? [],
      publicUrl: config.publicUrl,
    })
    const client = createGuardedClient({
      own,
      allowedNetworks: config.allowedNetworks,
      allowedPorts: config.allowedPorts,
    })
    scope.defer('outbound', () => client.close())
    const server = await createHttpServer({
      title: 'Curfew bookkeeper',
      log,
      metrics,
      metricsApart: config.metricsPort !== null,
      authenticate: createApiKeyAuthenticator([]),
      checks: {
        'event-log': () => eventLog.check(),
        'event-log-choice': () => eventLog.checkChoice(),
        ...(publisher !== null && { publisher: () => publisher.check() }),
        ledger: createLedgerCheck(db),
      },
    })
    const { masterKey, oldMasterKey } = config
    const keyMaker = createKeyMaker({ masterKey, oldMasterKey })
    const bookkeeper = createBookkeeper({
      db,
      eventLog,
      monitor:
        kafka === null
          ? createPostgresMonitor(db)
          : createKafkaMonitor({ ...kafka, groupId: `${kafka.topics.prefix}curfew` }),
      publisher,
      client,
      webhookSecrets: createWebhookSecretSealer(masterKey, oldMasterKey),
      retention: config.retention,
      receipts: config.receipts,
      sessionsMax: config.sessionsMax,
      logKeeper: createLogKeeper(masterKey, oldMasterKey),
      generateKey: (issuer, algorithm) => keyMaker.generate(issuer, algorithm),
      log,
      metrics,
    })
    return [
      bookkeeper,
      httpService(server, { host: config.host, port: config.port, log, onBound: own.listens }),
      ...metricsServices({ metrics, host: config.host, port: config.metricsPort, log, onBound: own.listens }),
    ]
  },
  { stopDeadlineMs: config.stopDeadlineMs, log },
)
