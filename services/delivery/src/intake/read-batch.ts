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
import { createValidator } from '@curfew/runtime'

/** One event of a batch, and the record it came in. */
export interface Incoming {
  readonly event: LogoutEvent
  /** Of its content. */
  readonly digest: string
  readonly record: ConsumedRecord
}

/** Compiled once for a process, for it takes milliseconds. */
const check = createValidator(AcceptedLogoutEvent)

/** SHA-256, in hexadecimal. */
export const digest: Digest = (text) => hash('sha256', text)

/** Reads a batch: each event once, however often it came, and apart what cannot be read. */
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
    if (earlier === undefined) events.set(event.id, { event, digest: content, record })
    else if (earlier.digest !== content)
      quarantined.push({ record, kind: 'conflict', reason: conflict(event) })
  }
  return { events: [...events.values()], quarantined }
}

export function conflict({ iss, givenId }: LogoutEvent): string {
  return `event ${givenId} of ${iss} is known with another content`
}
