import { hostname } from 'node:os'
import { createKafkaEventLog, createKafkaLog, identifyKafka } from '@curfew/broker'
import {
  createDatabase,
  createDeliveryLedger,
  createLedgerCheck,
  createPostgresEventLog,
  createQuarantine,
  guardEventLog,
  openIssuerNetworks,
  openKeyStore,
  POSTGRES_LOG,
  readClock,
} from '@curfew/ledger'
import { createGuardedClient, createIssuerPost, createOwnAddresses } from '@curfew/outbound'
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
import { createClientKeySealer, createKeyMaker, createKeyring } from '@curfew/tokens'
import {
  checkClock,
  createDelivery,
  heartbeatOptions,
  logDeliveryFaults,
  readDeliveryConfig,
} from './service.ts'

// The delivery process: configuration, connections, and nothing else. Its HTTP server is for health and metrics.

const config = readOrExit(readDeliveryConfig)
const log = createLog({ service: 'delivery', level: config.logLevel })

process.exitCode = await runProcess(
  async (scope) => {
    const metrics = createMetrics()
    const db = createDatabase(config.databaseUrl, { applicationName: 'curfew delivery' })
    scope.defer('postgres', () => db.end())
    const beats = createDatabase(config.databaseUrl, heartbeatOptions(config))
    scope.defer('postgres of heartbeats', () => beats.end())
    const kafka = config.kafka && {
      ...config.kafka,
      clientId: `curfew-delivery@${hostname()}`,
      log: createKafkaLog(log),
    }
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
        user: `delivery at ${hostname()}`,
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
    const { masterKey, oldMasterKey } = config
    const keyring = createKeyring({
      store: openKeyStore(db),
      maker: createKeyMaker({
        masterKey,
        oldMasterKey,
        post: createIssuerPost(client, openIssuerNetworks(db)),
      }),
      now: () => new Date(),
    })
    const server = await createHttpServer({
      title: 'Curfew delivery',
      log,
      metrics,
      metricsApart: config.metricsPort !== null,
      authenticate: createApiKeyAuthenticator([]),
      checks: {
        'event-log': () => eventLog.check(),
        'event-log-choice': () => eventLog.checkChoice(),
        ledger: createLedgerCheck(db),
        lanes: () => delivery.checkLanes(),
        clock: () => checkClock(() => readClock(db)),
        'master-key': () => keyring.check(),
      },
    })
    const delivery = createDelivery({
      eventLog,
      ledger: createDeliveryLedger(db, { beats, onFault: logDeliveryFaults(log) }),
      keyring,
      clientKeys: createClientKeySealer(masterKey, oldMasterKey),
      client,
      log,
      metrics,
      workerName: `${hostname()}:${process.pid}`,
      leaseMs: config.leaseMs,
    })
    return [
      delivery,
      httpService(server, { host: config.host, port: config.port, log, onBound: own.listens }),
      ...metricsServices({ metrics, host: config.host, port: config.metricsPort, log, onBound: own.listens }),
    ]
  },
  { stopDeadlineMs: config.stopDeadlineMs, log },
)
