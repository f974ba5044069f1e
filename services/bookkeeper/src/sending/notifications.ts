import { notificationBody } from '@curfew/contract'
import { WebhookSecretError } from '@curfew/domain'
import {
  type ClaimedWebhookDelivery,
  claimWebhookDeliveries,
  type Database,
  settleWebhookDelivery,
} from '@curfew/ledger'
import type { WebhookSecretSealer } from '@curfew/tokens'
import type { MessageSource } from './sender.ts'

/** The notifications of operators, owed to their webhooks. */
export function notificationsOf({
  db,
  webhookSecrets,
}: {
  db: Database
  webhookSecrets: Pick<WebhookSecretSealer, 'open'>
}): MessageSource<ClaimedWebhookDelivery, string> {
  return {
    name: 'webhook',
    gone: 'the receiver answered 410 Gone; register the webhook again to enable it',
    claim: (places) => claimWebhookDeliveries(db, places),
    receiverOf: ({ webhook }) => webhook,
    async prepare({ webhook, url, allowedNetworks, notification, sealedSecret, sealedPreviousSecret }) {
      const sealed = [sealedSecret, sealedPreviousSecret].filter((each) => each !== null)
      try {
        const secrets = await Promise.all(sealed.map((each) => webhookSecrets.open(each, webhook)))
        const { id } = notification
        const networks = { allowedNetworks: null, grantedNetworks: allowedNetworks }
        return { id, url, ...networks, body: notificationBody(notification), secrets }
      } catch (error) {
        if (!(error instanceof WebhookSecretError)) throw error
        return { error: error.message, final: false }
      }
    },
    settle: (claimed, settlement) => settleWebhookDelivery(db, { claimed, settlement }),
    logged: ({ webhook, notification }) => ({ webhook, notification_id: notification.id }),
  }
}
