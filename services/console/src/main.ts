import { hostname } from 'node:os'
import { createKafkaMonitor } from '@curfew/broker'
import { SCOPES } from '@curfew/contract'
import {
  createDatabase,
  createLedgerCheck,
  createPostgresMonitor,
  openCredentialStore,
  openIssuerNetworks,
  openKeyStore,
} from '@curfew/ledger'
import {
  createGuardedClient,
  createIssuerPost,
  createOwnAddresses,
  createTargetCheck,
  fetchJson,
} from '@curfew/outbound'
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
import {
  createAccessTokenVerifier,
  createClientKeySealer,
  createCursorSealer,
  createKeyMaker,
  createKeyring,
  createLogKeeper,
  createWebhookSecretSealer,
} from '@curfew/tokens'
import { createConsole, readConsoleConfig } from './service.ts'

// The console process: configuration, connections, and nothing else.

const config = readOrExit(readConsoleConfig)
const log = createLog({ service: 'console', level: config.logLevel })

process.exitCode = await runProcess(
  async (scope) => {
    const metrics = createMetrics()
    const db = createDatabase(config.databaseUrl, { applicationName: 'curfew console' })
    scope.defer('postgres', () => db.end())
    const reads = createDatabase(config.databaseUrl, {
      applicationName: 'curfew console reads',
      statementTimeoutMs: config.readTimeoutMs,
    })
    scope.defer('postgres of reads', () => reads.end())
    const { masterKey, oldMasterKey, allowedNetworks, allowedPorts } = config
    const own = createOwnAddresses({ ...config, brokers: config.kafka?.brokers ?? [] })
    const client = createGuardedClient({ allowedNetworks, allowedPorts, own })
    scope.defer('outbound', () => client.close())
    const keyMaker = createKeyMaker({
      masterKey,
      oldMasterKey,
      post: createIssuerPost(client, openIssuerNetworks(db)),
    })
    const keyring = createKeyring({ store: openKeyStore(db), maker: keyMaker, now: () => new Date() })
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
      title: 'Curfew console',
      log,
      metrics,
      metricsApart: config.metricsPort !== null,
      authenticate: credentials.authenticate,
      requestsPerSecond: config.access.requestsPerSecond,
      checks: {
        ledger: createLedgerCheck(db),
        'master-key': () => keyring.check(),
      },
    })
    createConsole({
      server,
      db,
      reads,
      keyring,
      keyMaker,
      clientKeys: createClientKeySealer(masterKey, oldMasterKey),
      client,
      cursors: createCursorSealer(masterKey, oldMasterKey),
      webhookSecrets: createWebhookSecretSealer(masterKey, oldMasterKey),
      targetFault: createTargetCheck({ allowedNetworks, allowedPorts, own }),
      allowedNetworks,
      logKeeper: createLogKeeper(masterKey, oldMasterKey),
      logOrigin: config.logOrigin,
      relyingPartiesMax: config.relyingPartiesMax,
      monitor:
        config.kafka === null
          ? createPostgresMonitor(reads)
          : createKafkaMonitor({
              ...config.kafka,
              clientId: `curfew-console@${hostname()}`,
              groupId: `${config.kafka.topics.prefix}curfew`,
            }),
      log,
      metrics,
    })
    return [
      credentials.service,
      httpService(server, { host: config.host, port: config.port, log, onBound: own.listens }),
      ...metricsServices({ metrics, host: config.host, port: config.metricsPort, log, onBound: own.listens }),
    ]
  },
  { stopDeadlineMs: config.stopDeadlineMs, log },
)
