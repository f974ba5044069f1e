import type { EventId, Issuer } from '../ids.ts'
import type { LogLane } from '../ports/event-log.ts'

// Quarantine: accepted records of the event log that could not be planned or applied. A person decides about every record.

/**
 * Why a record is in quarantine.
 * - `unreadable`: the record is no valid logout event or session change.
 * - `conflict`: another logout has the same id.
 * - `refused`: the ledger cannot store a value of the record.
 * - `unverified`: a relayed logout token could not be verified, because the issuer's keys were unavailable.
 * - `forged`: a relayed logout token is not valid.
 */
export type QuarantineKind = 'unreadable' | 'conflict' | 'refused' | 'unverified' | 'forged'

/**
 * The state of a quarantined record. `waiting`: a person has to decide. `requeue_requested`: the record is not yet in the event
 * log again.
 */
export type QuarantineState = 'waiting' | 'requeue_requested' | 'requeued' | 'dismissed'

/** The parts of a record that may name its origin. */
export interface RawRecord {
  readonly lane: LogLane
  readonly key: string
  /** The value as text. Invalid UTF-8 is replaced. */
  readonly text: string
  readonly headers: Readonly<Record<string, string>>
}

/**
 * The issuer and the event of a quarantined record. A member is null if no part of the record names it, or if the parts disagree.
 */
export interface RecordOrigin {
  readonly iss: Issuer | null
  readonly eventId: EventId | null
}

/** The API's limit. */
const ISS_LENGTH_MAX = 512
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i

/**
 * Finds the issuer and the event that a record names. A credential bound to an issuer sees the records of that issuer. A record
 * whose value, headers and key name different issuers therefore belongs to none.
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

/** Says in whole sentences how a person can resolve a quarantined record. */
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
        'Another logout has this id. A requeued record comes back to quarantine while the ledger has that logout. ' +
        'Have the issuer post this logout again under a new id, then dismiss the record.'
      )
    case 'unreadable':
      return (
        'The reason says what is wrong with the record; find the program that wrote it. Requeue the record once a release runs that ' +
        `can read it. Otherwise have the issuer post ${again} again, and dismiss the record.`
      )
    case 'refused':
      return `Find the cause in the log of the delivery service. Correct it, then requeue the record; or have the issuer post ${again} again, and dismiss the record.`
    case 'unverified':
      return (
        "Curfew requeues the record by itself once it can fetch the issuer's keys. If it cannot, correct the registration of the " +
        'issuer or its jwks_uri.'
      )
    case 'forged':
      return (
        "The reason says what is wrong with the token. If it is the issuer's own, correct the registration of the issuer, such as its " +
        'jwks_uri or lenient_logout_tokens, then requeue the record. Otherwise dismiss it.'
      )
  }
}

/** The value, if all values are equal; null if they differ or there is none. */
function agreed(values: readonly string[]): string | null {
  const [first, ...others] = new Set(values)
  return first === undefined || others.length > 0 ? null : first
}

function isIss(value: unknown): value is string {
  return typeof value === 'string' && value !== '' && value.length <= ISS_LENGTH_MAX && isStorable(value)
}

/** PostgreSQL stores neither a NUL nor half of a surrogate pair as text. */
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
