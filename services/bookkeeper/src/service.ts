import type { GuardedClient } from '@curfew/outbound'
import { aborted, type Service } from '@curfew/runtime'
import type { AuditSecretSealer, ClientKeySealer, WebhookSecretSealer } from '@curfew/tokens'
import { createAuditJobs } from './audits/job.ts'
import { type JobDeps, jobsOf } from './jobs.ts'
import { createNotifying, NOTIFYING, type Notifying } from './notifying.ts'
import { repeatUntil } from './repeat.ts'

export { readBookkeeperConfig, readReceiptSettings, readRetention, readSessionsMax } from './config.ts'
export { createEventLogJob } from './event-log.ts'
export { createIssuerLogoutJob, toEventLog } from './issuer-logouts.ts'
export { createQuarantineJobs } from './quarantine.ts'
export { createRetentionJob } from './retention.ts'
export { createRotationJob } from './rotation.ts'
export { createSessionQuotaJob } from './session-quotas.ts'
export { createSessionJobs, expiryRound } from './sessions.ts'
export { createSlaJob } from './sla.ts'

/** The dependencies of the bookkeeper, already open. */
export interface BookkeeperDeps extends JobDeps {
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
      ready()
      await Promise.all(all.map((job) => repeatUntil(stopping, job, deps.log)))
      const idle = Promise.all([...senders.map((sender) => sender.idle()), audits.idle()])
      await Promise.race([idle, aborted(abandoning)])
    },
  }
}
