import { hostname } from 'node:os'
import { createKafkaEventLog } from '@curfew/broker'
import { createDatabase, createPostgresEventLog } from '@curfew/ledger'
import {
  adminKey,
  createApiKeyAuthenticator,
  createHttpServer,
  createLog,
  createMetrics,
  hashApiKey,
  httpService,
  readOrExit,
  runProcess,
} from '@curfew/runtime'
import { createIngest, readIngestConfig } from './service.ts'

// The ingest process: configuration, connections, and nothing else.

const config = readOrExit(readIngestConfig)
const log = createLog({ service: 'ingest', level: config.logLevel })

process.exitCode = await runProcess(
  async (scope) => {
    const metrics = createMetrics()
    const db = createDatabase(config.databaseUrl, { applicationName: 'curfew ingest' })
    scope.defer('postgres', () => db.end())
    const eventLog =
      config.kafka === null
        ? createPostgresEventLog({ db, url: config.databaseUrl })
        : createKafkaEventLog({
            ...config.kafka,
            clientId: `curfew-ingest@${hostname()}`,
            groupId: `${config.kafka.topics.prefix}curfew`,
          })
    scope.defer('event log', () => eventLog.close())
    const server = await createHttpServer({
      title: 'Curfew ingest',
      log,
      metrics,
      authenticate: createApiKeyAuthenticator([adminKey('admin', hashApiKey(config.adminKey))]),
      checks: { 'event-log': () => eventLog.check() },
    })
    const services = createIngest({ server, eventLog, db, log })
    return [...services, httpService(server, { host: config.host, port: config.port, log })]
  },
  { stopDeadlineMs: config.stopDeadlineMs, log },
)
