import { randomBytes } from 'node:crypto'
import {
  type IssuerName,
  NoSigningKeyError,
  type SigningAlgorithm,
  SigningKeyError,
  uuidV7,
} from '@curfew/domain'
import { createIssuerNames, type Database, openReceiptLog } from '@curfew/ledger'
import { fetchJson, type GuardedClient } from '@curfew/outbound'
import { type HttpServer, type Log, type Metrics, ProblemError } from '@curfew/runtime'
import type {
  ClientKeySealer,
  CursorSealer,
  KeyMaker,
  Keyring,
  LogKeeper,
  WebhookSecretSealer,
} from '@curfew/tokens'
import { createEncrypter, createTlsIdentities } from '@curfew/wiring'
import { registerDeadLetters } from './deliveries/dead-letters.ts'
import { registerDeliveries } from './deliveries/deliveries.ts'
import { registerReplays } from './deliveries/replays.ts'
import { createPages } from './http/pages.ts'
import { registerKeysCheck } from './keys/check.ts'
import { registerJwks } from './keys/jwks.ts'
import { registerKeys } from './keys/keys.ts'
import { registerIssuerLogouts } from './logouts/issuer-logouts.ts'
import { registerSessions } from './logouts/sessions.ts'
import { registerApiKeys } from './operators/api-keys.ts'
import { registerAudit } from './operators/audit.ts'
import { registerErasures } from './operators/erasures.ts'
import { type EventLogDeps, registerEventLog } from './operators/event-log.ts'
import { registerQuarantine } from './operators/quarantine.ts'
import { registerWebhooks } from './operators/webhooks.ts'
import { registerLogAudit } from './proof/log-audit.ts'
import { createLogReader } from './proof/log-reader.ts'
import { registerReceiptLog } from './proof/receipt-log.ts'
import { registerReceipts } from './proof/receipts.ts'
import { registerHealth } from './registry/health.ts'
import { registerImport } from './registry/import.ts'
import { registerIssuers } from './registry/issuers.ts'
import { registerProbes } from './registry/probe.ts'
import { type RelyingPartiesDeps, registerRelyingParties } from './registry/relying-parties.ts'
import { registerSla } from './sla/sla.ts'

export { readConsoleConfig, readRelyingPartiesMax } from './config.ts'

/** What the console works with, already open. */
export interface ConsoleDeps {
  readonly server: HttpServer
  /** For changes, and what they look at first. */
  readonly db: Database
  /** For what is only read: it gives a statement up soon. */
  readonly reads: Database
  readonly keyring: Keyring
  readonly keyMaker: KeyMaker
  readonly clientKeys: Pick<ClientKeySealer, 'seal' | 'open'>
  /** For probes, the way to relying parties; and for what IdPs publish. */
  readonly client: Pick<GuardedClient, 'get' | 'post' | 'inspectTls'>
  readonly cursors: CursorSealer
  readonly webhookSecrets: Pick<WebhookSecretSealer, 'seal'>
  readonly targetFault: RelyingPartiesDeps['targetFault']
  /** CIDRs that this deployment allows: the ceiling of registrations. */
  readonly allowedNetworks: readonly string[]
  readonly logKeeper: LogKeeper
  /** What the log of receipts is called if it begins here; null: a name of its own. */
  readonly logOrigin: string | null
  /** Relying parties that an issuer may have that has no quota of its own. */
  readonly relyingPartiesMax: number
  /** What looks at the event log. */
  readonly monitor: EventLogDeps['monitor']
  readonly log: Log
  readonly metrics: Metrics
  /** When keys sign is decided by it. Default: the clock of this machine. */
  readonly now?: () => Date
}

/** Wires the console: where RP owners and SREs work. Only routes; nothing runs by itself. */
export function createConsole(deps: ConsoleDeps): void {
  const { server, db, reads, keyring, keyMaker, clientKeys, client, webhookSecrets, targetFault } = deps
  const { now = () => new Date() } = deps
  const identity = { db: reads, names: createIssuerNames(reads) }
  const newId = () => uuidV7(now(), randomBytes(10))
  const pages = createPages(deps.cursors)
  registerApiKeys(server, { db, pages, newId, now })
  registerIssuers(server, { db, ceiling: deps.allowedNetworks, pages })
  const registration: RelyingPartiesDeps = {
    db,
    targetFault,
    ceiling: deps.allowedNetworks,
    relyingPartiesMax: deps.relyingPartiesMax,
    clientKeys,
    ensureKey: (issuer, algorithm) => ensureKey(keyring, issuer, algorithm),
  }
  registerRelyingParties(server, { ...registration, pages })
  registerImport(server, registration)
  registerHealth(server, { db: reads })
  registerProbes(server, {
    ...{ db, keyring, clientKeys, client, targetFault, tls: createTlsIdentities(clientKeys) },
    encrypter: createEncrypter({ fetch: (uri, how) => fetchJson(client, uri, how), nowMs: () => +now() }),
  })
  registerDeliveries(server, { ...identity, pages })
  registerDeadLetters(server, { db: reads, pages })
  registerSessions(server, { db: reads, pages })
  registerIssuerLogouts(server, { ...identity, changes: db, pages })
  registerReplays(server, { db, reads, newReplayId: newId })
  registerQuarantine(server, { db, reads, pages })
  registerWebhooks(server, {
    db,
    reads,
    pages,
    targetFault,
    sealSecret: (secret, webhook) => webhookSecrets.seal(secret, webhook),
    newSecret: () => `whsec_${randomBytes(32).toString('base64')}`,
  })
  registerAudit(server, { db: reads, pages })
  registerSla(server, { db: reads, now })
  registerKeys(server, { db, keyMaker, targetFault, now })
  registerKeysCheck(server, { db, client, now })
  const alterations = deps.metrics.counter(
    'ledger_alterations_total',
    'Answers that could not be given because the ledger was altered.',
  )
  const keeper = deps.logKeeper
  const reader = createLogReader({
    db: reads,
    keeper,
    origin: deps.logOrigin,
    log: deps.log,
    onAltered: () => alterations.inc(),
  })
  registerReceipts(server, { ...identity, keeper, reader })
  registerReceiptLog(server, { reader })
  registerErasures(server, {
    db,
    newId,
    now,
    subjectHash: async () =>
      keeper.subjectHash(await openReceiptLog(db, () => keeper.newLog(deps.logOrigin))),
  })
  registerLogAudit(server, { db: reads, reader, keeper })
  registerEventLog(server, { db, monitor: deps.monitor, now })
  registerJwks(server, { db: reads, jwks: (issuer) => keyring.jwks(issuer) })
}

/** @throws a problem that says whose fault it is where the master key is another by now: no change of the body would help. */
async function ensureKey(keyring: Keyring, issuer: IssuerName, algorithm: SigningAlgorithm): Promise<void> {
  try {
    await keyring.ensure(issuer, algorithm)
  } catch (error) {
    if (!(error instanceof SigningKeyError) || error instanceof NoSigningKeyError) throw error
    throw new ProblemError(
      {
        status: 500,
        title: 'Signing key cannot be opened',
        detail:
          'The stored signing keys lie under another master key than the CURFEW_MASTER_KEY of this service. Nothing was changed.',
      },
      { cause: error },
    )
  }
}
