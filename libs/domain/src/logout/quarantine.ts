import type { EventId, Issuer } from '../ids.ts'
import type { LogLane } from '../ports/event-log.ts'

// Quarantine: records of the event log that were accepted and could not be planned or applied. A person decides about each.

/**
 * Why a record is in quarantine. `unreadable`: it is no logout event, or no session change. `conflict`: another logout has its id.
 * `refused`: the ledger cannot hold what it says.
 */
export type QuarantineKind = 'unreadable' | 'conflict' | 'refused'

/** `waiting` for a person; `requeue_requested`, until it is in the event log again; `requeued`; `dismissed`. */
export type QuarantineState = 'waiting' | 'requeue_requested' | 'requeued' | 'dismissed'

/** A record as far as its origin is looked for. */
export interface RawRecord {
  readonly lane: LogLane
  readonly key: string
  /** Its value as text; bytes that are no UTF-8 are replaced. */
  readonly text: string
  readonly headers: Readonly<Record<string, string>>
}

/** What a quarantined record is about; null where its parts do not name it, or disagree. */
export interface RecordOrigin {
  readonly iss: Issuer | null
  readonly eventId: EventId | null
}

/** As long as the API takes it. */
const ISS_LENGTH_MAX = 512
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i

/**
 * The issuer and the event that a record names. A credential that is bound to an issuer sees the records of its issuer, so a record
 * whose value, headers and key name different issuers belongs to none.
 */
export function originOf({ lane, key, text, headers }: RawRecord): RecordOrigin {
  const { iss, id } = Object(parsed(text)) as { readonly iss?: unknown; readonly id?: unknown }
  const keyParts = parsed(key)
  const keyIss = Array.isArray(keyParts) ? keyParts[0] : undefined
  const eventId = lane === 'sessions' ? null : agreed([id, headers.ce_id].filter(isUuid).map(lower))
  return {
    iss: agreed([iss, headers.ce_source, keyIss].filter(isIss)) as Issuer | null,
    eventId: eventId as EventId | null,
  }
}

/** What a person can do about a quarantined record, in whole sentences. */
export function quarantineFix({
  kind,
  lane,
  cutShort,
}: {
  readonly kind: QuarantineKind
  readonly lane: string
  readonly cutShort: boolean
}): string {
  const again = lane === 'sessions' ? 'the session' : 'the logout'
  if (cutShort)
    return `Only the beginning of the record is kept, so it cannot be requeued. Have the issuer post ${again} again, then dismiss the record.`
  switch (kind) {
    case 'conflict':
      return (
        'Another logout has this id. A requeue comes back to quarantine as long as the ledger has that logout. ' +
        'Post this one again under a new id, then dismiss the record.'
      )
    case 'unreadable':
      return (
        'Look at what wrote the record: the reason says what is wrong with it. Requeue it once a release that can read it runs. ' +
        `Otherwise have the issuer post ${again} again, and dismiss the record.`
      )
    case 'refused':
      return `Look at the log of the delivery service for the reason. Mend that, then requeue the record, or have the issuer post ${again} again and dismiss the record.`
  }
}

/** The one value that all of them are; null where there is none, or more than one. */
function agreed(values: readonly string[]): string | null {
  const [first, ...others] = new Set(values)
  return first === undefined || others.length > 0 ? null : first
}

function isIss(value: unknown): value is string {
  return typeof value === 'string' && value !== '' && value.length <= ISS_LENGTH_MAX && isStorable(value)
}

/** PostgreSQL holds no NUL and no half of a surrogate pair in text. */
function isStorable(value: string): boolean {
  return value.isWellFormed() && !value.includes('\0')
}

function isUuid(value: unknown): value is string {
  return typeof value === 'string' && UUID.test(value)
}

function lower(value: string): string {
  return value.toLowerCase()
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return null
  }
}
