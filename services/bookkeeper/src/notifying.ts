import { encodeNotification } from '@curfew/contract'
import { DEFAULT_RETRY_POLICY, KEY_LEAD_MS, type Publisher } from '@curfew/domain'
import {
  type Database,
  fanOutNotifications,
  noticeBreakers,
  noticeExpiringKeys,
  publishNotifications,
} from '@curfew/ledger'
import type { GuardedClient } from '@curfew/outbound'
import type { Log, Metrics } from '@curfew/runtime'
import type { ClientKeySealer, WebhookSecretSealer } from '@curfew/tokens'
import { createOutcomesRound, OUTCOMES_LAG_MS } from './outcomes.ts'
import type { Job } from './repeat.ts'
import { confirmationsOf } from './sending/confirmations.ts'
import { notificationsOf } from './sending/notifications.ts'
import { createSender, type Sender, WEBHOOK_SCHEDULE_MS } from './sending/sender.ts'

/** The times that decide when operators are notified, and how often messages to them and to clients are retried. */
export interface Notifying {
  /** Delays after failed attempts at a webhook or a confirmation, in milliseconds. */
  readonly webhookScheduleMs: readonly number[]
  /**
   * The time that a notification of dead letters, orphaned sessions or quarantined records waits for more of them, in
   * milliseconds.
   */
  readonly deadLetterWindowMs: number
  /** The minimum time between two notifications that a relying party is unavailable, in milliseconds. */
  readonly breakerQuietMs: number
  /** The minimum delay between recording and publishing an acknowledgement, in milliseconds. */
  readonly outcomesLagMs: number
}

export const NOTIFYING: Notifying = {
  webhookScheduleMs: WEBHOOK_SCHEDULE_MS,
  deadLetterWindowMs: 60_000,
  breakerQuietMs: 5 * 60_000,
  outcomesLagMs: OUTCOMES_LAG_MS,
}

export interface NotifyingDeps {
  readonly db: Database
  readonly publisher: Publisher | null
  readonly client: Pick<GuardedClient, 'post'>
  readonly webhookSecrets: Pick<WebhookSecretSealer, 'open'>
  readonly clientKeys: Pick<ClientKeySealer, 'open'>
  readonly now: () => Date
  readonly notifying: Notifying
  readonly log: Log
  readonly metrics: Metrics
}

const BATCH = 200
const PAUSE_MS = 1_000
const SEND_PAUSE_MS = 500
const EXPIRY_PAUSE_MS = 10_000

/**
 * Creates the jobs that notify operators: they create notifications from the ledger, fan them out, publish and send them. Another
 * job sends confirmations to clients.
 */
export function createNotifying(deps: NotifyingDeps): {
  readonly jobs: readonly Job[]
  readonly senders: readonly Sender[]
} {
  const { db, publisher, notifying } = deps
  const { notifications, confirmations } = sendersOf(deps)
  const senders = [notifications, confirmations]
  const job = (name: string, pauseMs: number, round: Job['round']): Job => ({
    name,
    pauseMs,
    failurePauseMs: PAUSE_MS,
    round,
  })
  const noticing = job('breakers', PAUSE_MS, async () => {
    await noticeBreakers(db, { quietMs: notifying.breakerQuietMs })
    return false
  })
  const fanningOut = job(
    'notifications',
    PAUSE_MS,
    async () => (await fanOutNotifications(db, { limit: BATCH })) === BATCH,
  )
  const sending = (name: string, sender: Sender) =>
    job(name, SEND_PAUSE_MS, async () => {
      await sender.round()
      return false
    })
  const expiring = job('expiring keys', EXPIRY_PAUSE_MS, async () => {
    await noticeExpiringKeys(db, { now: new Date(), withinMs: KEY_LEAD_MS })
    return false
  })
  const jobs = [
    ...[noticing, expiring, fanningOut],
    ...[sending('webhooks', notifications), sending('confirmations', confirmations)],
  ]
  if (publisher === null) return { jobs, senders }
  const publishing = job('publishing', PAUSE_MS, async () => {
    const published = await publishNotifications(db, {
      limit: BATCH,
      publish: (records) => publisher.publish('outcomes', records.map(encodeNotification)),
    })
    return published === BATCH
  })
  const outcomes = createOutcomesRound({ db, publisher, lagMs: notifying.outcomesLagMs })
  return { jobs: [...jobs, publishing, job('outcomes', PAUSE_MS, outcomes)], senders }
}

/** Creates one sender for each kind of message. Each has its own places, so that clients do not delay operators. */
function sendersOf({ db, client, webhookSecrets, clientKeys, now, notifying, log, metrics }: NotifyingDeps) {
  const toWebhooks = metrics.counter(
    'webhook_attempts_total',
    'Attempts to send a notification to a webhook, by the resulting state.',
    ['state'],
  )
  const toClients = metrics.counter(
    'confirmation_attempts_total',
    'Attempts to send a confirmation to a client, by the resulting state.',
    ['state'],
  )
  const policy = { ...DEFAULT_RETRY_POLICY, scheduleMs: notifying.webhookScheduleMs }
  return {
    notifications: createSender(notificationsOf({ db, webhookSecrets }), {
      ...{ client, policy, log },
      onAttempted: (state) => toWebhooks.inc({ state }),
    }),
    confirmations: createSender(confirmationsOf({ db, clientKeys, now }), {
      ...{ client, policy, log },
      onAttempted: (state) => toClients.inc({ state }),
    }),
  }
}
