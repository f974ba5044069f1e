import { adminKey, hashApiKey } from '@curfew/runtime'
import { eventLogChecks, runService } from '@curfew/wiring'
import { checkSpool, createIngest, readIngestConfig, tolerant } from './service.ts'

// The ingest process. This file reads the configuration and opens connections; service.ts does the rest.

process.exitCode = await runService('ingest', readIngestConfig, async (config, open) => {
  const { log, metrics } = open
  const db = open.database()
  // Reads have their own pool, so that many reads do not take the connections of appends.
  const reads = open.database({
    applicationName: 'curfew ingest reads',
    statementTimeoutMs: config.readTimeoutMs,
  })
  const eventLog = open.eventLog(db)
  const alive = open.alive(reads)
  const { access } = config
  const credentials = open.credentials(db, {
    fixed: [adminKey('admin', hashApiKey(config.adminKey))],
    access,
  })
  const spool = config.spool && (await open.spool(config.spool))
  const server = await open.server({
    title: 'Curfew ingest',
    hasApi: true,
    authenticate: credentials.authenticate,
    requestsPerSecond: access.requestsPerSecond,
    checks: {
      ...eventLogChecks(eventLog),
      ...alive.checks,
      clock: alive.clock,
      ...(spool !== null && {
        'event-log': tolerant(() => eventLog.check(), spool),
        spool: () => checkSpool(spool),
      }),
    },
  })
  const services = createIngest({
    ...{ server, eventLog, db: reads, databaseUrl: config.databaseUrl, log, metrics },
    tokens: open.relayedTokens,
    sealTokens:
      config.masterKey && open.sessionTokens({ masterKey: config.masterKey, oldMasterKey: null }).seal,
    alive,
    spool,
    backlogMax: config.kafka === null ? config.backlogMax : null,
  })
  return [...services, alive.service, credentials.service, ...open.listeners(server)]
})
