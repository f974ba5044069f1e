import type { DeadLetterWords, LastAttempt, OutgoingRecord } from '@curfew/domain'
import { cloudEventHeaders, partySource } from './cloud-event.ts'

/** CloudEvents `type` of a dead letter. */
export const DEAD_LETTER_TYPE = 'curfew.dead-letter.v1'

/** What the ledger knows of a dead letter. */
export interface DeadLetterFacts {
  readonly id: string
  /** The id that its issuer gave the event. */
  readonly givenEventId: string
  readonly issuer: string
  readonly clientId: string
  /** The kind of the channel. */
  readonly channel: string
  readonly reason: string
  readonly generation: number
  readonly deadLetteredAt: Date
  readonly lastAttempt: LastAttempt | null
}

/** What is published of a dead letter: the value of its record. */
export interface PublishedDeadLetter {
  readonly delivery_id: string
  readonly event_id: string
  /** Short name of the issuer. */
  readonly issuer: string
  readonly client_id: string
  /** The kind of the channel. */
  readonly channel: string
  readonly reason: string
  /** What went wrong, and what would mend it, in words. */
  readonly what: string
  readonly fix: string
  /** The relying party's own words. */
  readonly error: string | null
  readonly error_description: string | null
  readonly dead_lettered_at: string
  /** How often it has been replayed. */
  readonly generation: number
}

/**
 * Writes a dead letter as a record: CloudEvents 1.0 attributes in headers (Kafka protocol binding, binary content mode), JSON in
 * the value. One that is published twice has the same `ce_id`; one that died again after a replay has another.
 *
 * @param words of the dead letter's channel.
 */
export function encodeDeadLetter(facts: DeadLetterFacts, { what, fix }: DeadLetterWords): OutgoingRecord {
  const { id, generation, lastAttempt } = facts
  const time = facts.deadLetteredAt.toISOString()
  const published: PublishedDeadLetter = {
    delivery_id: id,
    event_id: facts.givenEventId,
    issuer: facts.issuer,
    client_id: facts.clientId,
    channel: facts.channel,
    reason: facts.reason,
    what,
    fix,
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
      source: partySource(facts),
      time,
    }),
  }
}
