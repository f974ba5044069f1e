import type { GuardedClient } from '@curfew/outbound'
import { aborted, type Service } from '@curfew/runtime'
import type { WebhookSecretSealer } from '@curfew/tokens'
import { type ChoreDeps, choresOf } from './chores.ts'
import { createNotifying, NOTIFYING, type Notifying } from './notifying.ts'
import { repeatUntil } from './repeat.ts'

export { readBookkeeperConfig, readReceiptSettings, readRetention, readSessionsMax } from './config.ts'
export { createEventLogChore } from './event-log.ts'
export { createIssuerLogoutChore, toEventLog } from './issuer-logouts.ts'
export { createQuarantineChores } from './quarantine.ts'
export { createRetentionChore } from './retention.ts'
export { createRotationChore } from './rotation.ts'
export { createSessionQuotaChore } from './session-quotas.ts'
export { createSessionChores, expiryRound } from './sessions.ts'
export { createSlaChore } from './sla.ts'

/** What the bookkeeper works with, already open. */
export interface BookkeeperDeps extends ChoreDeps {
  /** The way to webhooks. */
  readonly client: Pick<GuardedClient, 'post'>
  readonly webhookSecrets: Pick<WebhookSecretSealer, 'open'>
  /** Default `NOTIFYING`. */
  readonly notifying?: Notifying
}

/**
 * Wires the bookkeeper: what the ledger must do by itself. Opens nothing, starts nothing. As many as one likes may run
 * at once; what must not be done twice, the ledger lets one of them do.
 */
export function createBookkeeper(deps: BookkeeperDeps): Service {
  return {
    name: 'bookkeeper',
    async run({ stopping, abandoning, ready }) {
      const notifying = deps.notifying ?? NOTIFYING
      const { chores, sender } = createNotifying({ ...deps, notifying })
      const all = [...choresOf(deps, notifying, stopping), ...chores]
      ready()
      await Promise.all(all.map((chore) => repeatUntil(stopping, chore, deps.log)))
      await Promise.race([sender.idle(), aborted(abandoning)])
    },
  }
}
