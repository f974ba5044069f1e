import { hostname } from 'node:os'
import { createLedgerCheck } from '@curfew/ledger'
import { createApiKeyAuthenticator } from '@curfew/runtime'
import {
  createAuditSecretSealer,
  createClientKeySealer,
  createKeyMaker,
  createLogKeeper,
  createWebhookSecretSealer,
} from '@curfew/tokens'
import { createBacklogCheck, eventLogChecks, runService } from '@curfew/wiring'
import { createBookkeeper, readBookkeeperConfig } from './service.ts'

// The bookkeeper process: reads its configuration, opens connections and runs. Its HTTP server has health and metrics only.

process.exitCode = await runService('bookkeeper', readBookkeeperConfig, async (config, open) => {
  const { log, metrics, client } = open
  const db = open.database({ poolMax: 5 })
  const monitor = open.monitor(db)
  const publisher = open.publisher()
  const eventLog = open.eventLog(db)
  const alive = open.alive(db)
  const server = await open.server({
    title: 'Curfew bookkeeper',
    authenticate: createApiKeyAuthenticator([]),
    checks: {
      ...eventLogChecks(eventLog),
      ...(publisher !== null && { publisher: () => publisher.check() }),
      ledger: createLedgerCheck(db),
      ...alive.checks,
      clock: alive.clock,
      backlog: createBacklogCheck(monitor),
    },
  })
  const { masterKey, oldMasterKey } = config
  const keyMaker = createKeyMaker({ masterKey, oldMasterKey })
  const bookkeeper = createBookkeeper({
    db,
    eventLog,
    monitor,
    name: `${hostname()}:${process.pid}`,
    beats: open.database({ applicationName: 'curfew heartbeat', poolMax: 1, statementTimeoutMs: 5_000 }),
    publisher,
    client,
    relayedTokens: open.relayedTokens,
    webhookSecrets: createWebhookSecretSealer(masterKey, oldMasterKey),
    clientKeys: createClientKeySealer(masterKey, oldMasterKey),
    auditSecrets: createAuditSecretSealer(masterKey, oldMasterKey),
    retention: config.retention,
    receipts: config.receipts,
    sessionsMax: config.sessionsMax,
    logKeeper: createLogKeeper(masterKey, oldMasterKey),
    generateKey: (issuer, algorithm) => keyMaker.generate(issuer, algorithm),
    log,
    metrics,
  })
  return [bookkeeper, alive.service, ...open.listeners(server)]
})
