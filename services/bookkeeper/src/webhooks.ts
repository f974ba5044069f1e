import { notificationBody } from '@curfew/contract'
import {
  type Answer,
  cleanText,
  parseRetryAfter,
  type RetryPolicy,
  retryDelayMs,
  WebhookSecretError,
} from '@curfew/domain'
import {
  type ClaimedWebhookDelivery,
  claimWebhookDeliveries,
  type Database,
  settleWebhookDelivery,
  type WebhookSettlement,
} from '@curfew/ledger'
import { type GuardedClient, postWebhook } from '@curfew/outbound'
import type { Log } from '@curfew/runtime'
import type { WebhookSecretSealer } from '@curfew/tokens'

export interface WebhookSenderDeps {
  readonly db: Database
  readonly client: Pick<GuardedClient, 'post'>
  readonly webhookSecrets: Pick<WebhookSecretSealer, 'open'>
  /** A notification fails at the end of this schedule. */
  readonly policy: RetryPolicy
  readonly log: Log
  /** Receives the result of every attempt. */
  readonly onAttempted: (state: WebhookSettlement['state']) => void
}

export interface WebhookSender {
  /** Claims due notifications and starts to send them. Does not wait for the receivers. */
  round(): Promise<void>
  /** Resolves when nothing is being sent. */
  idle(): Promise<void>
}

/**
 * Delays between attempts, as proposed by Standard Webhooks: 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h, 24 h. In total more
 * than three days.
 */
export const WEBHOOK_SCHEDULE_MS: readonly number[] = [
  5_000,
  ...[5, 30, 120, 300, 600, 840, 1_200, 1_440].map((minutes) => minutes * 60_000),
]
/** Concurrent notifications of one bookkeeper to one webhook. Every webhook has its own slots, so that none waits for another. */
const AT_ONCE = 4
const TIMEOUT_MS = 10_000
/** Longer than an attempt can take, including its waits. */
const LEASE_MS = 60_000

/**
 * Creates the sender of notifications to webhooks. When the process is killed, its notifications are sent again after their
 * lease.
 */
export function createWebhookSender(deps: WebhookSenderDeps): WebhookSender {
  const sending = new Map<string, Set<Promise<void>>>()

  function begin(claimed: ClaimedWebhookDelivery): void {
    const ofWebhook = sending.get(claimed.webhook) ?? new Set()
    sending.set(claimed.webhook, ofWebhook)
    const ended = send(deps, claimed)
      .catch((error: unknown) => {
        // The ledger may or may not have the result. The lease expires, and the notification is sent again under the same id.
        deps.log.warn({ event: 'webhook.settle-failed', webhook: claimed.webhook, err: error })
      })
      .then(() => {
        ofWebhook.delete(ended)
        if (ofWebhook.size === 0) sending.delete(claimed.webhook)
      })
    ofWebhook.add(ended)
  }

  return {
    async round() {
      const busy = new Map([...sending].map(([webhook, ofWebhook]) => [webhook, ofWebhook.size]))
      for (const claimed of await claimWebhookDeliveries(deps.db, { busy, most: AT_ONCE, leaseMs: LEASE_MS }))
        begin(claimed)
    },
    async idle() {
      while (sending.size > 0) await Promise.all([...sending.values()].flatMap((each) => [...each]))
    },
  }
}

async function send(deps: WebhookSenderDeps, claimed: ClaimedWebhookDelivery): Promise<void> {
  const { webhook, attempt, notification } = claimed
  const settlement = settlementOf(await attemptOnce(deps, claimed), attempt, deps.policy)
  const settled = await settleWebhookDelivery(deps.db, { claimed, settlement })
  deps.onAttempted(settlement.state)
  if (settled && settlement.state === 'delivered') return
  deps.log.warn({
    event: 'webhook.attempted',
    webhook,
    notification_id: notification.id,
    attempt,
    state: settlement.state,
    status: settlement.status,
    error: settlement.error,
    recorded: settled,
  })
}

/** Makes one attempt. @returns the answer, or the reason why the notification could not be signed. */
async function attemptOnce(
  { client, webhookSecrets }: WebhookSenderDeps,
  claimed: ClaimedWebhookDelivery,
): Promise<Answer | string> {
  const { webhook, url, allowedNetworks, notification } = claimed
  const sealed = [claimed.sealedSecret, claimed.sealedPreviousSecret].filter((each) => each !== null)
  let secrets: readonly string[]
  try {
    secrets = await Promise.all(sealed.map((each) => webhookSecrets.open(each, webhook)))
  } catch (error) {
    if (!(error instanceof WebhookSecretError)) throw error
    return error.message
  }
  return postWebhook(client, {
    url,
    allowedNetworks,
    id: notification.id,
    sentAt: new Date(),
    body: notificationBody(notification),
    secrets,
    timeoutMs: TIMEOUT_MS,
  })
}

/** Decides the next state: any 2xx is a success, 410 disables the webhook, and everything else is retried. */
function settlementOf(answer: Answer | string, attempt: number, policy: RetryPolicy): WebhookSettlement {
  const response = typeof answer !== 'string' && answer.kind === 'response' ? answer : null
  const status = response?.status ?? null
  if (status !== null && status >= 200 && status < 300) return { state: 'delivered', status, error: null }
  if (status === 410) {
    const disable = 'the receiver answered 410 Gone; register the webhook again to enable it'
    return { state: 'failed', status, error: disable, disable }
  }
  const error = cleanText(inWords(answer))
  const askedMs = parseRetryAfter(response?.retryAfter ?? null, new Date())
  const retryMs = retryDelayMs(policy, { retries: attempt - 1, askedMs, random: Math.random() })
  return retryMs === null
    ? { state: 'failed', status, error, disable: null }
    : { state: 'pending', retryMs, status, error }
}

/** Describes an answer by its status only: its body is not stored. */
function inWords(answer: Answer | string): string {
  if (typeof answer === 'string') return answer
  return answer.kind === 'response' ? `answered ${answer.status}` : answer.detail
}
