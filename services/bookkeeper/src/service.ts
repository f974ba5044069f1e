import { randomUUID } from 'node:crypto'
import { beatBookkeeper, type Database, retireBookkeeper } from '@curfew/ledger'
import type { GuardedClient } from '@curfew/outbound'
import { aborted, type Service } from '@curfew/runtime'
import type { AuditSecretSealer, ClientKeySealer, WebhookSecretSealer } from '@curfew/tokens'
import { createAuditJobs } from './audits/job.ts'
import { type JobDeps, jobsOf } from './jobs.ts'
import { createNotifying, NOTIFYING, type Notifying } from './notifying.ts'
import { type Job, repeatUntil } from './repeat.ts'

export { createAuditJobs } from './audits/job.ts'
export { readBookkeeperConfig, readReceiptSettings, readRetention, readSessionsMax } from './config.ts'
export { createIssuerLogoutJob, toEventLog } from './issuer-logouts.ts'
export { createQuarantineJobs } from './quarantine.ts'
export { createEventLogJob } from './readings/event-log.ts'
export { createRetentionJob } from './retention.ts'
export { createRotationJob } from './rotation.ts'
export { createSessionQuotaJob } from './session-quotas.ts'
export { createSessionJobs, expiryRound } from './sessions.ts'
export { createSlaJobs } from './sla/jobs.ts'

/** The dependencies of the bookkeeper, already open. */
export interface BookkeeperDeps extends JobDeps {
  /** The host and process of this bookkeeper, for people to read. */
  readonly name: string
  /** A connection for heartbeats only, so that busy jobs do not delay them. */
  readonly beats: Database
  /** The HTTP client for webhooks, confirmations and audits. */
  readonly client: Pick<GuardedClient, 'get' | 'post'>
  readonly webhookSecrets: Pick<WebhookSecretSealer, 'open'>
  /** Opens the secrets of clients, for their confirmations. */
  readonly clientKeys: Pick<ClientKeySealer, 'open'>
  /** Opens the secrets of logout audits. */
  readonly auditSecrets: Pick<AuditSecretSealer, 'open'>
  /** Default: `NOTIFYING`. */
  readonly notifying?: Notifying
}

/** The pause between two heartbeats, in milliseconds. A bookkeeper counts as dead after 30 s without one. */
const BEAT_MS = 5_000

/**
 * Wires the bookkeeper, which runs the jobs of the ledger. Opens nothing, starts nothing. Any number of bookkeepers may run: the
 * ledger lets only one of them do a job that must not be done twice.
 */
export function createBookkeeper(deps: BookkeeperDeps): Service {
  return {
    name: 'bookkeeper',
    async run({ stopping, abandoning, ready }) {
      const notifying = deps.notifying ?? NOTIFYING
      const { now = () => new Date() } = deps
      const { jobs, senders } = createNotifying({ ...deps, now, notifying })
      const audits = createAuditJobs({ ...deps, stopping })
      const all = [...jobsOf(deps, notifying, stopping), ...jobs, ...audits.jobs]
      const id = randomUUID()
      const beating = repeatUntil(stopping, heartbeat(deps, id), deps.log)
      ready()
      await Promise.all([beating, ...all.map((job) => repeatUntil(stopping, job, deps.log))])
      await retireBookkeeper(deps.beats, id).catch((error: unknown) => {
        // Another bookkeeper deletes it later.
        deps.log.warn({ event: 'bookkeeper.retire-failed', err: error })
      })
      const idle = Promise.all([...senders.map((sender) => sender.idle()), audits.idle()])
      await Promise.race([idle, aborted(abandoning)])
    },
  }
}

function heartbeat({ beats, name }: Pick<BookkeeperDeps, 'beats' | 'name'>, id: string): Job {
  return {
    name: 'heartbeat',
    pauseMs: BEAT_MS,
    failurePauseMs: BEAT_MS,
    async round() {
      await beatBookkeeper(beats, { id, name })
      return false
    },
  }
}
