import { hostname } from 'node:os'
import { createDeliveryLedger, createLedgerCheck } from '@curfew/ledger'
import { createApiKeyAuthenticator } from '@curfew/runtime'
import { createClientKeySealer, createMessageSealer } from '@curfew/tokens'
import { createClockCheck, eventLogChecks, runService } from '@curfew/wiring'
import { createDelivery, heartbeatOptions, logDeliveryFaults, readDeliveryConfig } from './service.ts'

// The delivery process: reads its configuration, opens connections and runs. Its HTTP server has health and metrics only.

process.exitCode = await runService('delivery', readDeliveryConfig, async (config, open) => {
  const { log, metrics, client } = open
  const db = open.database()
  const beats = open.database(heartbeatOptions(config))
  const eventLog = open.eventLog(db)
  const alive = open.alive(db)
  const keyring = open.keyring(db, open.keyMaker(db, config))
  const server = await open.server({
    title: 'Curfew delivery',
    authenticate: createApiKeyAuthenticator([]),
    checks: {
      ...eventLogChecks(eventLog),
      ledger: createLedgerCheck(db),
      lanes: () => delivery.checkLanes(),
      clock: createClockCheck(db),
      'master-key': () => keyring.check(),
      ...alive.checks,
    },
  })
  const delivery = createDelivery({
    eventLog,
    ledger: createDeliveryLedger(db, { beats, onFault: logDeliveryFaults(log) }),
    keyring,
    clientKeys: createClientKeySealer(config.masterKey, config.oldMasterKey),
    messages: createMessageSealer(config.masterKey, config.oldMasterKey),
    sessionTokens: open.sessionTokens(config),
    relayedTokens: open.relayedTokens,
    client,
    log,
    metrics,
    workerName: `${hostname()}:${process.pid}`,
    leaseMs: config.leaseMs,
  })
  return [delivery, alive.service, ...open.listeners(server)]
})
