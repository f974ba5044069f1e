import { hash } from 'node:crypto'
import { AcceptedLogoutEvent, decodeLogoutEvent } from '@curfew/contract'
import {
  type ConsumedRecord,
  type Digest,
  type EventId,
  type LogoutEvent,
  type Quarantined,
  sameContent,
} from '@curfew/domain'
import { createValidator, parseTraceparent } from '@curfew/runtime'

/** One event of a batch, with its record. */
export interface Incoming {
  readonly event: LogoutEvent
  /** The digest of the event's content. */
  readonly digest: string
  readonly record: ConsumedRecord
  /** The trace context of its deliveries; null if the record has no valid one. */
  readonly traceparent: string | null
}

/** Compiled once per process: compiling takes milliseconds. */
const check = createValidator(AcceptedLogoutEvent)

/** SHA-256, in hexadecimal. */
export const digest: Digest = (text) => hash('sha256', text)

/** Reads a batch. Returns every event once, however often it occurs, and the records to quarantine. */
export function readBatch(records: readonly ConsumedRecord[]): {
  readonly events: readonly Incoming[]
  readonly quarantined: readonly Quarantined[]
} {
  const events = new Map<EventId, Incoming>()
  const quarantined: Quarantined[] = []
  for (const record of records) {
    const event = decodeLogoutEvent(record, check, digest)
    if ('unreadable' in event) {
      quarantined.push({ record, kind: 'unreadable', reason: event.unreadable })
      continue
    }
    const content = digest(sameContent(event))
    const earlier = events.get(event.id)
    if (earlier === undefined) {
      const traceparent = parseTraceparent(record.headers.traceparent)
      events.set(event.id, { event, digest: content, record, traceparent })
    } else if (earlier.digest !== content)
      quarantined.push({ record, kind: 'conflict', reason: conflict(event) })
  }
  return { events: [...events.values()], quarantined }
}

export function conflict({ iss, givenId }: LogoutEvent): string {
  return `event ${givenId} of ${iss} was already accepted with different content`
}
