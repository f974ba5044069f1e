import { hostname } from 'node:os'
import { createKafkaEventLog, createKafkaLog, identifyKafka } from '@curfew/broker'
import { SCOPES } from '@curfew/contract'
import {
  createDatabase,
  createPostgresEventLog,
  createQuarantine,
  guardEventLog,
  openCredentialStore,
  POSTGRES_LOG,
} from '@curfew/ledger'
import { createGuardedClient, createOwnAddresses, fetchJson } from '@curfew/outbound'
import {
  adminKey,
  createCredentials,
  createHttpServer,
  createLog,
  createMetrics,
  hashApiKey,
  httpService,
  metricsServices,
  readOrExit,
  runProcess,
} from '@curfew/runtime'
import { createAccessTokenVerifier } from '@curfew/tokens'
import { createIngest, readIngestConfig } from './service.ts'

// The ingest process: configuration, connections, and nothing else.

const config = readOrExit(readIngestConfig)
const log = createLog({ service: 'ingest', level: config.logLevel })

process.exitCode = await runProcess(
  async (scope) => {
    const metrics = createMetrics()
    const db = createDatabase(config.databaseUrl, { applicationName: 'curfew ingest' })
    scope.defer('postgres', () => db.end())
    // Of its own, so that reads at their limit leave appends their connections.
    const reads = createDatabase(config.databaseUrl, {
      applicationName: 'curfew ingest reads',
      statementTimeoutMs: config.readTimeoutMs,
    })
    scope.defer('postgres of reads', () => reads.end())
    const kafka = config.kafka && {
      ...config.kafka,
      clientId: `curfew-ingest@${hostname()}`,
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
        user: `ingest at ${hostname()}`,
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
    const credentials = createCredentials({
      fixed: [adminKey('admin', hashApiKey(config.adminKey))],
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
      title: 'Curfew ingest',
      log,
      metrics,
      metricsApart: config.metricsPort !== null,
      authenticate: credentials.authenticate,
      requestsPerSecond: config.access.requestsPerSecond,
      checks: {
        'event-log': () => eventLog.check(),
        'event-log-choice': () => eventLog.checkChoice(),
      },
    })
    const services = createIngest({
      ...{ server, eventLog, db: reads, databaseUrl: config.databaseUrl, log, metrics },
      backlogMax: config.kafka === null ? config.backlogMax : null,
    })
    return [
      ...services,
      credentials.service,
      httpService(server, { host: config.host, port: config.port, log, onBound: own.listens }),
      ...metricsServices({ metrics, host: config.host, port: config.metricsPort, log, onBound: own.listens }),
    ]
  },
  { stopDeadlineMs: config.stopDeadlineMs, log },
)
