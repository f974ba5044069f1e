import { hash, randomBytes, randomUUID } from 'node:crypto'
import { type Digest, type EventLog, uuidV7 } from '@curfew/domain'
import {
  type AuditedParty,
  type ClaimedAudit,
  claimAudits,
  type Database,
  endAudit,
  endLeftAudits,
  extendAuditLeases,
  listAuditDeliveries,
  listAuditedParties,
  noteAuditEvent,
  startDueAudits,
} from '@curfew/ledger'
import type { GuardedClient } from '@curfew/outbound'
import { type Log, type Metrics, sleep } from '@curfew/runtime'
import type { AuditSecretSealer, ClientKeySealer } from '@curfew/tokens'
import { createTlsIdentities } from '@curfew/wiring'
import type { Job } from '../repeat.ts'
import { runAudit } from './run.ts'
import { createVisitor } from './visitor.ts'

export interface AuditJobsDeps {
  readonly db: Database
  readonly eventLog: Pick<EventLog, 'append'>
  readonly client: Pick<GuardedClient, 'get' | 'post'>
  readonly auditSecrets: Pick<AuditSecretSealer, 'open'>
  readonly clientKeys: Pick<ClientKeySealer, 'open'>
  readonly log: Log
  readonly metrics: Pick<Metrics, 'gauges' | 'counter'>
  readonly stopping: AbortSignal
}

/** Audits that one bookkeeper runs at once. Each waits most of the time. */
const AT_ONCE = 32
/** Those of one issuer. Audits of broken relying parties last as long as their set-ups say, up to an hour. */
const OF_ISSUER_MAX = 24
const DUE_BATCH = 100
const PAUSE_MS = 1_000
const FAILURE_PAUSE_MS = 5_000
/** A bookkeeper that stops loses its audits after this time. It extends its leases in every round, that is each second. */
const LEASE_MS = 30_000
/** A bookkeeper that could not extend a lease for this long gives the audit up, before another one may take it for lost. */
const GIVE_UP_MS = 20_000
const COUNT_PAUSE_MS = 15_000
/** Most relying parties with metrics: the failed ones first. */
const PARTIES_MAX = 1_000

const digest: Digest = (text) => hash('sha256', text)

/** Audits under way in this process, by id. */
type Running = Map<
  string,
  { readonly interrupt: AbortController; readonly ended: Promise<void>; leasedMs: number }
>

export interface AuditJobs {
  readonly jobs: readonly Job[]
  /** Resolves when no audit runs in this process. */
  idle(): Promise<void>
}

/** Creates the jobs that start due audits, run waiting ones under leases, and count their results. */
export function createAuditJobs(deps: AuditJobsDeps): AuditJobs {
  const { db, log, metrics, stopping } = deps
  const owner = randomUUID()
  const running: Running = new Map()
  const start = createStart(deps, owner, running)
  const newId = () => uuidV7(new Date(), randomBytes(10))
  let parties: readonly AuditedParty[] = []
  registerGauges(metrics, () => parties)
  const jobs: readonly Job[] = [
    {
      name: 'audits',
      pauseMs: PAUSE_MS,
      failurePauseMs: PAUSE_MS,
      async round() {
        try {
          await extend(db, owner, running)
          for (const id of await endLeftAudits(db)) log.warn({ event: 'audit.interrupted', audit_id: id })
          await startDueAudits(db, { limit: DUE_BATCH, newId })
          const free = AT_ONCE - running.size
          if (stopping.aborted || free <= 0) return false
          const claim = { limit: free, owner, leaseMs: LEASE_MS, ofIssuerMax: OF_ISSUER_MAX }
          for (const audit of await claimAudits(db, claim)) start(audit)
        } finally {
          for (const { leasedMs, interrupt } of running.values())
            if (stopping.aborted || performance.now() - leasedMs > GIVE_UP_MS) interrupt.abort()
        }
        return false
      },
    },
    {
      name: 'count of audits',
      pauseMs: COUNT_PAUSE_MS,
      failurePauseMs: FAILURE_PAUSE_MS,
      async round() {
        parties = await listAuditedParties(db, { limit: PARTIES_MAX })
        return false
      },
    },
  ]
  return {
    jobs,
    async idle() {
      while (running.size > 0) await Promise.all([...running.values()].map(({ ended }) => ended))
    },
  }
}

async function extend(db: Database, owner: string, running: Running): Promise<void> {
  if (running.size === 0) return
  const atMs = performance.now()
  const kept = await extendAuditLeases(db, { ids: [...running.keys()], owner, leaseMs: LEASE_MS })
  for (const [id, audit] of running) {
    if (kept.has(id)) audit.leasedMs = atMs
    else audit.interrupt.abort()
  }
}

/** Creates the function that starts a claimed audit. It runs beside the rounds of the job. */
function createStart(deps: AuditJobsDeps, owner: string, running: Running): (audit: ClaimedAudit) => void {
  const { db, client, eventLog, auditSecrets, clientKeys, log, metrics, stopping } = deps
  const results = metrics.counter('audits_total', 'Logout audits that ended, by their result.', ['result'])
  const tlsOf = createTlsIdentities(clientKeys)

  async function run(audit: ClaimedAudit, interrupted: AbortSignal): Promise<void> {
    const report = await runAudit(audit, {
      ...{ eventLog, digest, interrupted },
      openSecrets: async ({ sealedSecrets }) =>
        sealedSecrets === null ? {} : auditSecrets.open(sealedSecrets, audit),
      newVisitor: async ({ access, settings: { login, check, refresh } }) => {
        const own = [check.url, refresh?.url, login.kind === 'oidc' ? login.start_url : undefined]
        const ownOrigins = new Set(own.flatMap((url) => URL.parse(url ?? '')?.origin ?? []))
        return createVisitor({ client, access, tls: await tlsOf(audit), ownOrigins })
      },
      noteEvent: (event) => noteAuditEvent(db, { id: audit.id, owner, ...event }),
      deliveriesOf: (event) => listAuditDeliveries(db, event),
      newId: () => uuidV7(new Date(), randomBytes(10)),
      now: () => new Date(),
      monotonicMs: () => performance.now(),
      pause: (ms) => sleep(ms, interrupted),
    })
    const { result, reason } = report.outcome
    const line = { audit_id: audit.id, issuer: audit.issuer, client_id: audit.clientId, result, reason }
    const kept = await endAudit(db, { ...report, owner })
    results.inc({ result })
    log[result === 'passed' ? 'info' : 'warn']({ event: 'audit.ended', ...line, recorded: kept })
  }

  return (audit) => {
    const interrupt = new AbortController()
    const onStop = () => interrupt.abort()
    stopping.addEventListener('abort', onStop)
    const ended = run(audit, interrupt.signal)
      .catch((error: unknown) => {
        // The lease runs out, and the audit ends as interrupted.
        log.warn({ event: 'audit.run-failed', audit_id: audit.id, err: error })
      })
      .finally(() => {
        stopping.removeEventListener('abort', onStop)
        running.delete(audit.id)
      })
    running.set(audit.id, { interrupt, ended, leasedMs: performance.now() })
  }
}

function registerGauges(metrics: Pick<Metrics, 'gauges'>, list: () => readonly AuditedParty[]): void {
  const valuesOf = (read: (party: AuditedParty) => number | null) => () =>
    list().flatMap((party) => {
      const value = read(party)
      const { issuer, clientId } = party
      return value === null ? [] : [{ labels: { issuer, client_id: clientId }, value }]
    })
  metrics.gauges(
    'audit_passed',
    'The last conclusive logout audit of a relying party: 1 passed, 0 failed.',
    ['issuer', 'client_id'],
    valuesOf(({ lastResult }) => (lastResult === null ? null : lastResult === 'passed' ? 1 : 0)),
  )
  metrics.gauges(
    'audit_age_seconds',
    'Time since the last conclusive logout audit of a relying party with a schedule, or since its schedule began.',
    ['issuer', 'client_id'],
    valuesOf(({ ageS }) => ageS),
  )
  metrics.gauges(
    'audit_schedule_seconds',
    'The time between two scheduled logout audits of a relying party.',
    ['issuer', 'client_id'],
    valuesOf(({ everyS }) => everyS),
  )
  metrics.gauges(
    'audit_propagation_seconds',
    'From the accepted logout to the session being over, in the last passed logout audit of a relying party.',
    ['issuer', 'client_id'],
    valuesOf(({ propagationMs }) => (propagationMs === null ? null : propagationMs / 1_000)),
  )
}
