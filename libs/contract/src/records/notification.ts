import type { NotificationRecord, OutgoingRecord } from '@curfew/domain'
import { notificationBody } from '../api/webhooks.ts'
import { cloudEventHeaders } from './cloud-event.ts'

/**
 * Writes a notification as a record: CloudEvents 1.0 attributes in headers (Kafka protocol binding, binary content mode), in
 * the value what webhooks get. One that is published twice has the same `ce_id`, which is the `webhook-id` too.
 */
export function encodeNotification(record: NotificationRecord): OutgoingRecord {
  const { id, type, issuer, occurredAt } = record
  return {
    // Those of one issuer keep their order.
    key: issuer ?? '',
    value: new TextEncoder().encode(notificationBody(record)),
    headers: cloudEventHeaders({
      id,
      type: `curfew.${type}.v1`,
      source: issuer === null ? '/v1' : `/v1/issuers/${issuer}`,
      time: occurredAt.toISOString(),
    }),
  }
}
