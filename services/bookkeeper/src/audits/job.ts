import { hash, randomBytes, randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { type Digest, type EventLog, uuidV7 } from '@curfew/domain'
import {
  type AuditedParty,
  type ClaimedAudit,
  claimAudits,
  type Database,
  endAudit,
  endLeftAudits,
  extendAuditLeases,
  isUnavailable,
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
import { type AuditReport, failedReport, runAudit } from './run.ts'
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
/** The pause before a call is repeated that failed because PostgreSQL was unavailable. */
const LEDGER_PAUSE_MS = 500
const COUNT_PAUSE_MS = 15_000
/** Most relying parties with metrics: the failed ones first. */
const PARTIES_MAX = 1_000

const digest: Digest = (text) => hash('sha256', text)

/** An audit under way in this process. */
interface Run {
  readonly interrupt: AbortController
  readonly ended: Promise<void>
  leasedMs: number
}

/** By the id of the audit. */
type Running = Map<string, Run>

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

type Persist = <Result>(audit: ClaimedAudit, call: () => Promise<Result>) => Promise<Result>

/** Creates the function that repeats a call of the ledger while PostgreSQL is unavailable, until the lease of the audit has ended. */
function createPersist(running: Running, log: Log): Persist {
  return async (audit, call) => {
    for (let warned = false; ; warned = true) {
      try {
        return await call()
      } catch (error) {
        const leasedMs = running.get(audit.id)?.leasedMs ?? Number.NEGATIVE_INFINITY
        if (!isUnavailable(error) || performance.now() - leasedMs > LEASE_MS) throw error
        if (!warned) log.warn({ event: 'audit.waits-for-ledger', audit_id: audit.id, err: error })
        await delay(LEDGER_PAUSE_MS)
      }
    }
  }
}

/** Creates the function that starts a claimed audit. It runs beside the rounds of the job. */
function createStart(deps: AuditJobsDeps, owner: string, running: Running): (audit: ClaimedAudit) => void {
  const { db, client, eventLog, auditSecrets, clientKeys, log, metrics, stopping } = deps
  const results = metrics.counter('audits_total', 'Logout audits that ended, by their result.', ['result'])
  const tlsOf = createTlsIdentities(clientKeys)
  const persist = createPersist(running, log)

  const reportOf = (audit: ClaimedAudit, interrupted: AbortSignal): Promise<AuditReport> =>
    runAudit(audit, {
      ...{ eventLog, digest, interrupted, log },
      openSecrets: async ({ sealedSecrets }) =>
        sealedSecrets === null ? {} : auditSecrets.open(sealedSecrets, audit),
      newVisitor: async ({ access, settings: { login, check, refresh } }) => {
        const own = [check.url, refresh?.url, login.kind === 'oidc' ? login.start_url : undefined]
        const ownOrigins = new Set(own.flatMap((url) => URL.parse(url ?? '')?.origin ?? []))
        return createVisitor({ client, access, tls: await tlsOf(audit), ownOrigins })
      },
      noteEvent: (event) => persist(audit, () => noteAuditEvent(db, { id: audit.id, owner, ...event })),
      deliveriesOf: (event) => persist(audit, () => listAuditDeliveries(db, event)),
      deliveriesNow: (event) => listAuditDeliveries(db, event),
      newId: () => uuidV7(new Date(), randomBytes(10)),
      now: () => new Date(),
      monotonicMs: () => performance.now(),
      pause: (ms) => sleep(ms, interrupted),
    })

  async function end(audit: ClaimedAudit, report: AuditReport): Promise<void> {
    const { result, reason } = report.outcome
    const line = { audit_id: audit.id, issuer: audit.issuer, client_id: audit.clientId, result, reason }
    const kept = await persist(audit, () => endAudit(db, { ...report, owner }))
    results.inc({ result })
    log[result === 'passed' ? 'info' : 'warn']({ event: 'audit.ended', ...line, recorded: kept })
  }

  async function run(audit: ClaimedAudit, interrupted: AbortSignal): Promise<void> {
    try {
      await end(audit, await reportOf(audit, interrupted))
    } catch (error) {
      logFailure(audit, error)
      // Without PostgreSQL the lease runs out, and the audit ends as interrupted.
      if (isUnavailable(error)) return
      await end(audit, failedReport(audit, error))
    }
  }

  function logFailure({ id, issuer, clientId }: ClaimedAudit, error: unknown): void {
    log.warn({ event: 'audit.run-failed', audit_id: id, issuer, client_id: clientId, err: error })
  }

  return (audit) => {
    const interrupt = new AbortController()
    const onStop = () => interrupt.abort()
    stopping.addEventListener('abort', onStop)
    const ended = run(audit, interrupt.signal)
      .catch((error: unknown) => logFailure(audit, error))
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
