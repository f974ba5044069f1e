import type { DeadLetterRecord, DeadLetterWords, OutgoingRecord } from '@curfew/domain'
import { cloudEventHeaders, partySource } from './cloud-event.ts'

/** CloudEvents `type` of a dead letter. */
export const DEAD_LETTER_TYPE = 'curfew.dead-letter.v1'

/**
 * Writes a dead letter as a record: CloudEvents 1.0 attributes in headers (Kafka protocol binding, binary content mode), JSON in
 * the value. A dead letter that is published twice keeps its `ce_id`. After a replay, a new dead letter of the delivery has
 * another.
 *
 * @param words the explanation by the dead letter's channel.
 */
export function encodeDeadLetter(record: DeadLetterRecord, { what, fix }: DeadLetterWords): OutgoingRecord {
  const { id, generation, lastAttempt } = record
  const time = record.deadLetteredAt.toISOString()
  const published = {
    delivery_id: id,
    event_id: record.givenEventId,
    // The short name of the issuer.
    issuer: record.issuer,
    client_id: record.clientId,
    // The kind of the channel.
    channel: record.channel,
    reason: record.reason,
    what,
    fix,
    // Text from the answer of the relying party.
    error: lastAttempt?.error ?? null,
    error_description: lastAttempt?.errorDescription ?? null,
    dead_lettered_at: time,
    generation,
  }
  return {
    key: id,
    value: new TextEncoder().encode(JSON.stringify(published)),
    headers: cloudEventHeaders({
      id: `${id}.${generation}`,
      type: DEAD_LETTER_TYPE,
      source: partySource(record),
      time,
    }),
  }
}
