import type { OutgoingRecord } from '@curfew/domain'
import { type NotificationFacts, notificationBody } from './webhooks.ts'

/**
 * Writes a notification as a record: CloudEvents 1.0 attributes in headers (Kafka protocol binding, binary content mode), in
 * the value what webhooks get. One that is published twice has the same `ce_id`, which is the `webhook-id` too.
 */
export function encodeNotification(
  facts: NotificationFacts & { readonly id: string; readonly issuer: string | null },
): OutgoingRecord {
  const { id, type, issuer, occurredAt } = facts
  return {
    // Those of one issuer keep their order.
    key: issuer ?? '',
    value: new TextEncoder().encode(notificationBody(facts)),
    headers: {
      ce_specversion: '1.0',
      ce_id: id,
      // A URI reference (CloudEvents 1.0): whom it is about, as our API names it.
      ce_source: issuer === null ? '/v1' : `/v1/issuers/${issuer}`,
      ce_type: `curfew.${type}.v1`,
      ce_time: occurredAt.toISOString(),
      'content-type': 'application/json',
    },
  }
}
