import type { DeadLetterRecord, DeadLetterWords, OutgoingRecord } from '@curfew/domain'
import { cloudEventHeaders, partySource } from './cloud-event.ts'

/** CloudEvents `type` of a dead letter. */
export const DEAD_LETTER_TYPE = 'curfew.dead-letter.v1'

/**
 * Writes a dead letter as a record: CloudEvents 1.0 attributes in headers (Kafka protocol binding, binary content mode), JSON in
 * the value. One that is published twice has the same `ce_id`; one that died again after a replay has another.
 *
 * @param words of the dead letter's channel.
 */
export function encodeDeadLetter(record: DeadLetterRecord, { what, fix }: DeadLetterWords): OutgoingRecord {
  const { id, generation, lastAttempt } = record
  const time = record.deadLetteredAt.toISOString()
  const published = {
    delivery_id: id,
    event_id: record.givenEventId,
    // Its short name.
    issuer: record.issuer,
    client_id: record.clientId,
    // The kind of the channel.
    channel: record.channel,
    reason: record.reason,
    what,
    fix,
    // The relying party's own words.
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
