import { randomBytes } from 'node:crypto'
import {
  type IssuerName,
  keyAlgorithmOf,
  NoSigningKeyError,
  SigningKeyError,
  type TokenAlgorithm,
  uuidV7,
} from '@curfew/domain'
import {
  createIssuerNames,
  type Database,
  findSigningKeys,
  openReceiptLog,
  readCutoffSeqs,
  readCutoffState,
  readCutoffs,
  readCutoffsBehind,
} from '@curfew/ledger'
import { fetchJson, type GuardedClient } from '@curfew/outbound'
import { type HttpServer, type Log, type Metrics, ProblemError, type Service } from '@curfew/runtime'
import type {
  AuditSecretSealer,
  ClientKeySealer,
  CursorSealer,
  KeyMaker,
  Keyring,
  LogKeeper,
  WebhookSecretSealer,
} from '@curfew/tokens'
import { createBacklogCheck, createEncrypter, createTlsIdentities } from '@curfew/wiring'
import { registerAudits } from './audits/audits.ts'
import { registerAuditSetups } from './audits/setups.ts'
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
import { registerCredential } from './operators/credential.ts'
import { registerErasures } from './operators/erasures.ts'
import { type EventLogDeps, registerEventLog } from './operators/event-log.ts'
import { registerQuarantine } from './operators/quarantine.ts'
import { registerWebhooks } from './operators/webhooks.ts'
import { registerLogAudit } from './proof/log-audit.ts'
import { createLogReader } from './proof/log-reader.ts'
import { registerReceiptLog } from './proof/receipt-log.ts'
import { registerReceipts } from './proof/receipts.ts'
import { registerConfirmations } from './registry/confirmations.ts'
import { registerHealth } from './registry/health.ts'
import { registerImport } from './registry/import.ts'
import { registerIssuers } from './registry/issuers.ts'
import { registerProbes } from './registry/probe.ts'
import { createRelayAddresses } from './registry/relay.ts'
import { type RelyingPartiesDeps, registerRelyingParties } from './registry/relying-parties.ts'
import { createApplied } from './revocations/applied.ts'
import { createFreshness } from './revocations/freshness.ts'
import { registerResourceServers } from './revocations/resource-servers.ts'
import { registerRevocations } from './revocations/route.ts'
import { createSheets } from './revocations/sheets.ts'
import { createWatch } from './revocations/watch.ts'
import { registerSla } from './sla/sla.ts'

/** The key that signs the cutoff feeds, and the `typ` of their answers. */
const REVOCATIONS_ALGORITHM = 'ES256'
const REVOCATIONS_TYPE = 'revocations+jwt'

export { readConsoleConfig, readRelyingPartiesMax } from './config.ts'

/** The open dependencies of the console. */
export interface ConsoleDeps {
  readonly server: HttpServer
  /** The database for changes, and for the reads that belong to a change. */
  readonly db: Database
  /** The database for plain reads, with a short statement timeout. */
  readonly reads: Database
  readonly keyring: Keyring
  readonly keyMaker: KeyMaker
  readonly clientKeys: Pick<ClientKeySealer, 'seal' | 'open'>
  /** The HTTP client for probes of relying parties, and for the documents of IdPs. */
  readonly client: Pick<GuardedClient, 'get' | 'post' | 'send' | 'inspectTls'>
  readonly cursors: CursorSealer
  readonly webhookSecrets: Pick<WebhookSecretSealer, 'seal'>
  readonly auditSecrets: AuditSecretSealer
  readonly targetFault: RelyingPartiesDeps['targetFault']
  /** The URL by which the outside reaches this deployment; null if it is not configured. */
  readonly publicUrl: string | null
  /** The CIDRs that this deployment allows. Registrations must stay within them. */
  readonly allowedNetworks: readonly string[]
  readonly logKeeper: LogKeeper
  /** The name of the receipt log if this service creates it; null for a generated name. */
  readonly logOrigin: string | null
  /** The limit of relying parties for issuers without a quota of their own. */
  readonly relyingPartiesMax: number
  /** Reports the state of the event log. */
  readonly monitor: EventLogDeps['monitor']
  readonly log: Log
  readonly metrics: Metrics
  /** The clock that decides which keys sign. Default: the clock of this machine. */
  readonly now?: () => Date
}

/** Registers the routes of the console, the admin API of RP owners and SREs. @returns its background work. */
export function createConsole(deps: ConsoleDeps): readonly Service[] {
  const { server, db, reads, keyring, keyMaker, clientKeys, client, webhookSecrets, targetFault } = deps
  const { now = () => new Date() } = deps
  const identity = { db: reads, names: createIssuerNames(reads) }
  const newId = () => uuidV7(now(), randomBytes(10))
  const newSecret = () => `whsec_${randomBytes(32).toString('base64')}`
  const pages = createPages(deps.cursors)
  registerCredential(server)
  registerApiKeys(server, { db, pages, newId, now })
  const relay = createRelayAddresses(deps.publicUrl)
  registerIssuers(server, { db, ceiling: deps.allowedNetworks, pages, targetFault, relay })
  const registration: RelyingPartiesDeps = {
    db,
    targetFault,
    ceiling: deps.allowedNetworks,
    relay,
    relyingPartiesMax: deps.relyingPartiesMax,
    clientKeys,
    newSecret,
    ensureKey: (issuer, algorithm) => ensureKey(keyring, issuer, algorithm),
    async hasKey(issuer, algorithm) {
      const keys = (await findSigningKeys(db, issuer)).filter(({ retiredAt }) => retiredAt === null)
      // Curfew makes no keys for an issuer that has keys of its own.
      return (
        keys.some((key) => key.algorithm === keyAlgorithmOf(algorithm)) ||
        keys.every(({ source }) => source === 'generated')
      )
    },
  }
  registerRelyingParties(server, { ...registration, pages })
  registerResourceServers(server, { ...registration, pages })
  registerImport(server, registration)
  registerConfirmations(server, { db, reads, pages, clientKeys, newSecret, relay, now })
  registerHealth(server, { db: reads })
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
    newSecret,
  })
  registerAudit(server, { db: reads, pages })
  registerSla(server, { db: reads, checkBacklog: createBacklogCheck(deps.monitor), now })
  registerKeys(server, { db, keyMaker, client, targetFault, now })
  registerKeysCheck(server, { db, client, now })
  const alterations = deps.metrics.counter(
    'ledger_alterations_total',
    'Requests that failed because the ledger was altered.',
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
  const subjectHash = async () =>
    keeper.subjectHash(await openReceiptLog(db, () => keeper.newLog(deps.logOrigin)))
  registerErasures(server, { db, newId, now, subjectHash })
  registerProbes(server, {
    ...{ db, keyring, clientKeys, client, targetFault, tls: createTlsIdentities(clientKeys) },
    encrypter: createEncrypter({ fetch: (uri, how) => fetchJson(client, uri, how), nowMs: () => +now() }),
    now,
    subjectHash,
  })
  registerAuditSetups(server, { db, auditSecrets: deps.auditSecrets, targetFault })
  registerAudits(server, { db, reads, pages, newId })
  registerLogAudit(server, { db: reads, reader, keeper })
  registerEventLog(server, { db, monitor: deps.monitor, now })
  registerJwks(server, { db: reads, jwks: (issuer) => keyring.jwks(issuer) })
  /** An issuer that has keys of its own signs with one of them: Curfew makes none for it. */
  async function feedSigner(issuer: IssuerName): ReturnType<Keyring['signer']> {
    try {
      return await keyring.signer(issuer, REVOCATIONS_ALGORITHM)
    } catch (error) {
      if (!(error instanceof NoSigningKeyError)) throw error
      const keys = (await findSigningKeys(reads, issuer)).filter(({ retiredAt }) => retiredAt === null)
      for (const { algorithm } of keys) {
        const signer = await keyring.signer(issuer, algorithm).catch((failed: unknown) => {
          if (failed instanceof SigningKeyError) return null
          throw failed
        })
        if (signer !== null) return signer
      }
      throw error
    }
  }
  const watch = createWatch({ seqs: (issuers) => readCutoffSeqs(reads, issuers), log: deps.log })
  const sheets = createSheets({
    asOf: createFreshness({ monitor: deps.monitor, behindMs: () => readCutoffsBehind(reads), now }),
    state: (iss) => readCutoffState(reads, iss),
    read: (asked) => readCutoffs(reads, asked),
    sign: async (issuer, claims) => (await feedSigner(issuer)).sign(REVOCATIONS_TYPE, claims),
    now,
  })
  registerRevocations(server, { db: reads, sheets, watch, applied: createApplied(db) })
  return [watch.service]
}

/** Ensures a signing key. @throws a 500 problem if the master key is wrong, because no change of the request would help. */
async function ensureKey(keyring: Keyring, issuer: IssuerName, algorithm: TokenAlgorithm): Promise<void> {
  try {
    await keyring.ensure(issuer, algorithm)
  } catch (error) {
    if (!(error instanceof SigningKeyError) || error instanceof NoSigningKeyError) throw error
    throw new ProblemError(
      {
        status: 500,
        title: 'Signing key cannot be opened',
        detail:
          'The stored signing keys are sealed with another key than the CURFEW_MASTER_KEY of this service. Nothing was changed. Start the service with the CURFEW_MASTER_KEY with which they were stored.',
      },
      { cause: error },
    )
  }
}
