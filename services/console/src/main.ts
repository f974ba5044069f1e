import { createDatabase, openKeyStore } from '@curfew/ledger'
import { targetFault } from '@curfew/outbound'
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
import { createClientKeySealer, createKeyring } from '@curfew/tokens'
import { createConsole, readConsoleConfig } from './service.ts'

// The console process: configuration, connections, and nothing else.

const config = readOrExit(readConsoleConfig)
const log = createLog({ service: 'console', level: config.logLevel })

process.exitCode = await runProcess(
  async (scope) => {
    const metrics = createMetrics()
    const db = createDatabase(config.databaseUrl, { applicationName: 'curfew console' })
    scope.defer('postgres', () => db.end())
    const server = await createHttpServer({
      title: 'Curfew console',
      log,
      metrics,
      authenticate: createApiKeyAuthenticator([adminKey('admin', hashApiKey(config.adminKey))]),
      checks: { ledger: async () => void (await db.query('select 1')) },
    })
    createConsole({
      server,
      db,
      keyring: createKeyring({ store: openKeyStore(db), masterKey: config.masterKey, now: () => new Date() }),
      clientKeys: createClientKeySealer(config.masterKey),
      targetFault: (uri, networks) =>
        targetFault(uri, [...config.allowedNetworks, ...networks], config.allowedPorts),
    })
    return [httpService(server, { host: config.host, port: config.port, log })]
  },
  { stopDeadlineMs: config.stopDeadlineMs, log },
)
