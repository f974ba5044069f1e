import type { Level, OutgoingRecord } from '@curfew/domain'
import { cloudEventHeaders, partySource } from './cloud-event.ts'

/** CloudEvents `type` of a settled delivery. */
export const OUTCOME_TYPE = 'curfew.delivery.settled.v1'

/** What the ledger knows of a settled delivery. */
export interface OutcomeFacts {
  readonly id: string
  readonly eventId: string
  /** The id that its issuer gave the event. */
  readonly givenEventId: string
  readonly issuer: string
  readonly iss: string
  readonly clientId: string
  /** The kind of the channel. */
  readonly channel: string
  readonly sub: string | null
  readonly sid: string | null
  readonly scope: string
  readonly reason: string | null
  readonly lane: string
  readonly state: string
  readonly level: Level | null
  readonly deadLetterReason: string | null
  readonly attemptCount: number
  readonly generation: number
  readonly acceptedAt: Date
  readonly settledAt: Date
  readonly traceparent: string | null
}

/** What is published of a settled delivery: the value of its record. */
export interface PublishedOutcome {
  readonly delivery_id: string
  readonly event_id: string
  /** Short name of the issuer, and its `iss`. */
  readonly issuer: string
  readonly iss: string
  readonly client_id: string
  /** The kind of the channel. */
  readonly channel: string
  readonly sub: string | null
  readonly sid: string | null
  readonly scope: string
  readonly reason: string | null
  readonly lane: string
  readonly state: string
  readonly level: Level | null
  readonly dead_letter_reason: string | null
  readonly attempts: number
  readonly accepted_at: string
  readonly settled_at: string
  /** From acceptance (202) to settlement. */
  readonly elapsed_ms: number
  /** How often it was replayed. */
  readonly generation: number
}

/**
 * Writes a settled delivery as a record: CloudEvents 1.0 attributes in headers (Kafka protocol binding, binary content mode)
 * and the trace that the logout was posted in (W3C Trace Context), JSON in the value. One that is published twice has the
 * same `ce_id`; one that is settled again after a replay has another.
 */
export function encodeOutcome(facts: OutcomeFacts): OutgoingRecord {
  const settledAt = facts.settledAt.toISOString()
  const published: PublishedOutcome = {
    delivery_id: facts.id,
    event_id: facts.givenEventId,
    issuer: facts.issuer,
    iss: facts.iss,
    client_id: facts.clientId,
    channel: facts.channel,
    sub: facts.sub,
    sid: facts.sid,
    scope: facts.scope,
    reason: facts.reason,
    lane: facts.lane,
    state: facts.state,
    level: facts.level,
    dead_letter_reason: facts.deadLetterReason,
    attempts: facts.attemptCount,
    accepted_at: facts.acceptedAt.toISOString(),
    settled_at: settledAt,
    elapsed_ms: facts.settledAt.getTime() - facts.acceptedAt.getTime(),
    generation: facts.generation,
  }
  return {
    // Outcomes of one logout keep their order. The given id would not do: two issuers may use the same.
    key: facts.eventId,
    value: new TextEncoder().encode(JSON.stringify(published)),
    headers: {
      ...cloudEventHeaders({
        id: `${facts.id}.${facts.generation}`,
        type: OUTCOME_TYPE,
        source: partySource(facts),
        time: settledAt,
      }),
      ...(facts.traceparent !== null && { traceparent: facts.traceparent }),
    },
  }
}
