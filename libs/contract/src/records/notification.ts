import type { NotificationRecord, OutgoingRecord } from '@curfew/domain'
import { notificationBody } from '../api/webhooks.ts'
import { cloudEventHeaders } from './cloud-event.ts'

/**
 * Writes a notification as a record: CloudEvents 1.0 attributes in headers (Kafka protocol binding, binary content mode), the
 * body that webhooks receive in the value. A notification that is published twice keeps its `ce_id`, which equals its
 * `webhook-id`.
 */
export function encodeNotification(record: NotificationRecord): OutgoingRecord {
  const { id, type, issuer, occurredAt } = record
  return {
    // Notifications about one issuer keep their order.
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
