import { createLedgerCheck } from '@curfew/ledger'
import { createTargetCheck } from '@curfew/outbound'
import { adminKey, hashApiKey } from '@curfew/runtime'
import {
  createAuditSecretSealer,
  createClientKeySealer,
  createCursorSealer,
  createLogKeeper,
  createWebhookSecretSealer,
} from '@curfew/tokens'
import { createBacklogCheck, createClockCheck, runService } from '@curfew/wiring'
import { createConsole, readConsoleConfig } from './service.ts'

// The console process: reads the configuration and opens the connections.

process.exitCode = await runService('console', readConsoleConfig, async (config, open) => {
  const { log, metrics, client, own } = open
  const { masterKey, oldMasterKey, allowedNetworks, allowedPorts, access } = config
  const db = open.database()
  const reads = open.database({
    applicationName: 'curfew console reads',
    statementTimeoutMs: config.readTimeoutMs,
  })
  const monitor = open.monitor(reads)
  const alive = open.alive(reads)
  const keyMaker = open.keyMaker(db, config)
  const keyring = open.keyring(db, keyMaker)
  const credentials = open.credentials(db, {
    fixed: [adminKey('admin', hashApiKey(config.adminKey))],
    access,
  })
  const server = await open.server({
    title: 'Curfew console',
    hasApi: true,
    authenticate: credentials.authenticate,
    requestsPerSecond: access.requestsPerSecond,
    checks: {
      ledger: createLedgerCheck(db),
      clock: createClockCheck(db),
      'master-key': () => keyring.check(),
      ...alive.checks,
      backlog: createBacklogCheck(monitor),
    },
  })
  const background = createConsole({
    server,
    db,
    reads,
    keyring,
    keyMaker,
    clientKeys: createClientKeySealer(masterKey, oldMasterKey),
    client,
    cursors: createCursorSealer(masterKey, oldMasterKey),
    webhookSecrets: createWebhookSecretSealer(masterKey, oldMasterKey),
    auditSecrets: createAuditSecretSealer(masterKey, oldMasterKey),
    targetFault: createTargetCheck({ allowedNetworks, allowedPorts, own }),
    allowedNetworks,
    publicUrl: config.publicUrl,
    logKeeper: createLogKeeper(masterKey, oldMasterKey),
    logOrigin: config.logOrigin,
    relyingPartiesMax: config.relyingPartiesMax,
    monitor,
    log,
    metrics,
  })
  return [alive.service, credentials.service, ...background, ...open.listeners(server)]
})
