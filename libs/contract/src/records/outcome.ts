import type { OutcomeRecord, OutgoingRecord } from '@curfew/domain'
import { cloudEventHeaders, partySource } from './cloud-event.ts'

/** CloudEvents `type` of a settled delivery. */
export const OUTCOME_TYPE = 'curfew.delivery.settled.v1'

/**
 * Writes a settled delivery as a record: CloudEvents 1.0 attributes in headers (Kafka protocol binding, binary content mode)
 * and the trace context of the logout (W3C Trace Context), JSON in the value. An outcome that is published twice keeps its
 * `ce_id`. After a replay, the new outcome of the delivery has another.
 */
export function encodeOutcome(record: OutcomeRecord): OutgoingRecord {
  const settledAt = record.settledAt.toISOString()
  const published = {
    delivery_id: record.id,
    event_id: record.givenEventId,
    // The short name of the issuer.
    issuer: record.issuer,
    iss: record.iss,
    client_id: record.clientId,
    // The kind of the channel.
    channel: record.channel,
    sub: record.sub,
    sid: record.sid,
    scope: record.scope,
    reason: record.reason,
    lane: record.lane,
    state: record.state,
    level: record.level,
    dead_letter_reason: record.deadLetterReason,
    attempts: record.attemptCount,
    accepted_at: record.acceptedAt.toISOString(),
    settled_at: settledAt,
    // Milliseconds from acceptance (202) to settlement.
    elapsed_ms: record.settledAt.getTime() - record.acceptedAt.getTime(),
    // Number of replays.
    generation: record.generation,
  }
  return {
    // Outcomes of one logout keep their order. The given id is not used, because two issuers may have the same.
    key: record.eventId,
    value: new TextEncoder().encode(JSON.stringify(published)),
    headers: {
      ...cloudEventHeaders({
        id: `${record.id}.${record.generation}`,
        type: OUTCOME_TYPE,
        source: partySource(record),
        time: settledAt,
      }),
      ...(record.traceparent !== null && { traceparent: record.traceparent }),
    },
  }
}
