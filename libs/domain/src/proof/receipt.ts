import { type ChannelDelivery, weakestRequired } from '../delivery/channels.ts'
import type { Level } from '../delivery/level.ts'
import { type BindingPromise, type DeliveryEnd, withinPromise } from '../sla/sla.ts'

/** The `typ` of a receipt, which states the purpose of the JWT (RFC 8725 section 3.11). */
export const RECEIPT_TYPE = 'curfew-receipt+jwt'

/** How a receipt names the subject: as plain text, or by a keyed hash. */
export const RECEIPT_SUBJECTS = ['hash', 'plain'] as const
export type ReceiptSubject = (typeof RECEIPT_SUBJECTS)[number]

/** A settled event from the ledger. */
export interface SettledEvent {
  readonly id: string
  /** The id that the issuer gave the event. */
  readonly givenId: string
  readonly iss: string
  readonly sub: string | null
  readonly sid: string | null
  readonly device: string | null
  readonly scope: string
  readonly reason: string | null
  readonly initiator: string | null
  readonly clients: readonly string[] | null
  readonly occurredAt: Date
  readonly acceptedAt: Date
  readonly plannedAt: Date
  readonly planBasis: string
}

/** A settled delivery of the event. */
export interface SettledTarget extends ChannelDelivery, DeliveryEnd, BindingPromise {
  readonly clientId: string
  readonly endpoint: string
  /** The subject that its message named instead of the event's; null if it named the event's, or none. Absent: null. */
  readonly sub?: string | null
  readonly reason: string | null
  readonly attempts: number
  /** The number of replays. */
  readonly generation: number
  /** In milliseconds since 1970. Not a Date, because tens of thousands of targets a second would need an object each. */
  readonly settledMs: number
  /** Null without an attempt, like the members below. */
  readonly firstAttemptMs: number | null
  /** The HTTP status of the last attempt. */
  readonly status: number | null
  /** SHA-256 of the token sent with the last attempt, in base64url. */
  readonly tokenDigest: string | null
  /** The words of its evidence, separated by spaces; null without one. */
  readonly evidence: string | null
}

/** The place of a receipt in the log, and the values for its issuance. */
export interface ReceiptPlace {
  readonly origin: string
  readonly index: number
  /** The index of the older receipt that this one replaces after a replay; null without one. */
  readonly replaces: number | null
  readonly issuedAt: Date
  /** A random value, so that the digest of a receipt cannot be tested against guessed claims. */
  readonly jti: string
}

/** The JWT claims of a receipt. All times except `iat` are RFC 3339 in UTC. Members that do not apply are absent. */
export interface ReceiptClaims {
  /** The log's origin. */
  readonly iss: string
  readonly iat: number
  readonly jti: string
  readonly event: {
    readonly id: string
    readonly iss: string
    readonly sub?: string
    /** HMAC-SHA256 of the subject in base64url, if the operator hashes subjects. */
    readonly sub_hmac?: string
    readonly sid?: string
    readonly sid_hmac?: string
    readonly device?: string
    readonly device_hmac?: string
    readonly scope: string
    readonly reason?: string
    readonly initiator?: string
    readonly clients?: readonly string[]
    readonly occurred_at: string
    readonly accepted_at: string
    readonly planned_at: string
    readonly plan_basis: string
  }
  readonly targets: readonly ReceiptTarget[]
  /** Absent if the event has no SLA, because the issuer is not registered or the event is in the bulk lane. */
  readonly sla?: { readonly within_ms: number; readonly kept: boolean }
  readonly log: { readonly origin: string; readonly index: number }
  readonly replaces?: number
}

export interface ReceiptTarget {
  readonly client_id: string
  /** The kind of its channel. */
  readonly channel: string
  /** The kind of the channel that its channel is a fallback for. */
  readonly fallback_for?: string
  readonly endpoint: string
  readonly sid?: string
  readonly sid_hmac?: string
  /** The subject that its message named, if that is not the event's. */
  readonly sub?: string
  readonly sub_hmac?: string
  readonly state: DeliveryEnd['state']
  /** The level of the acknowledgement. */
  readonly level?: Level
  /** Machine words for the proof behind the acknowledgement, such as `applied_to:4711`. */
  readonly evidence?: readonly string[]
  readonly reason?: string
  readonly attempts: number
  readonly replays?: number
  readonly first_attempt_at?: string
  readonly settled_at: string
  /** The time since the event was accepted. */
  readonly elapsed_ms: number
  readonly status?: number
  /** SHA-256 of the accepted token, in base64url. */
  readonly token_sha256?: string
  /** The time limit of its SLA, if it differs from the issuer's. */
  readonly within_ms?: number
  /** The weakest level that satisfies the SLA, if the acknowledgement has another level. */
  readonly counts?: Level
  /** Whether the delivery kept the SLA when it first settled; absent without an SLA. */
  readonly kept?: boolean
}

/**
 * Makes the claims of a settled event's receipt.
 *
 * @param withinMs the time limit of the issuer's SLA; null without an SLA.
 * @param keyedHash hashes the names of the subject, session and device; null if the receipt has them as plain text.
 */
export function receiptClaims(
  event: SettledEvent,
  targets: readonly SettledTarget[],
  {
    place,
    withinMs,
    keyedHash,
  }: { place: ReceiptPlace; withinMs: number | null; keyedHash: ((value: string) => string) | null },
): ReceiptClaims {
  const { origin, index, replaces } = place
  const entries = targets.map((target) => targetOf(target, event, withinMs, keyedHash))
  return {
    iss: origin,
    iat: Math.floor(place.issuedAt.getTime() / 1_000),
    jti: place.jti,
    event: {
      id: event.givenId,
      iss: event.iss,
      ...named('sub', event.sub, keyedHash),
      ...named('sid', event.sid, keyedHash),
      ...named('device', event.device, keyedHash),
      scope: event.scope,
      ...(event.reason !== null && { reason: event.reason }),
      ...(event.initiator !== null && { initiator: event.initiator }),
      ...(event.clients !== null && { clients: event.clients }),
      occurred_at: event.occurredAt.toISOString(),
      accepted_at: event.acceptedAt.toISOString(),
      planned_at: event.plannedAt.toISOString(),
      plan_basis: event.planBasis,
    },
    targets: entries.toSorted(byName),
    ...(withinMs !== null && {
      sla: { within_ms: withinMs, kept: allKept(targets, entries) },
    }),
    log: { origin, index },
    ...(replaces !== null && { replaces }),
  }
}

/** Whether the SLA was kept for every relying party. A relying party with several channels counts once. */
function allKept(targets: readonly SettledTarget[], entries: readonly ReceiptTarget[]): boolean {
  if (targets.every(({ fallbackFor }) => fallbackFor === null))
    return entries.every(({ kept }) => kept === true)
  const keptBy = new Map(targets.map((target, index) => [target, entries[index]?.kept === true]))
  return [...Map.groupBy(targets, ({ clientId }) => clientId).values()].every((own) =>
    weakestRequired(own, {
      statusOf: (target) => keptBy.get(target) === true,
      worse: (one, other) => one && other,
      failed: (kept) => !kept,
    }),
  )
}

/** Claims under construction. */
type Mutable<Claims> = { -readonly [Name in keyof Claims]: Claims[Name] }

function targetOf(
  target: SettledTarget,
  { acceptedAt }: SettledEvent,
  withinMs: number | null,
  keyedHash: ((value: string) => string) | null,
): ReceiptTarget {
  const { state, level, reason, attempts, generation, settledMs, firstAttemptMs, status, tokenDigest } =
    target
  const elapsedMs = settledMs - acceptedAt.getTime()
  // Member by member, because there are tens of thousands a second, and spreading optional members takes several times as long.
  const claims: Mutable<ReceiptTarget> = {
    client_id: target.clientId,
    channel: target.channel,
    endpoint: target.endpoint,
    state,
    attempts,
    settled_at: instant(settledMs),
    elapsed_ms: elapsedMs,
  }
  if (target.sid !== null) {
    if (keyedHash === null) claims.sid = target.sid
    else claims.sid_hmac = keyedHash(target.sid)
  }
  if (target.sub != null) {
    if (keyedHash === null) claims.sub = target.sub
    else claims.sub_hmac = keyedHash(target.sub)
  }
  if (target.fallbackFor !== null) claims.fallback_for = target.fallbackFor
  if (level !== null) claims.level = level
  if (target.evidence !== null) claims.evidence = target.evidence.split(' ')
  if (reason !== null) claims.reason = reason
  if (generation > 0) claims.replays = generation
  if (firstAttemptMs !== null && attempts > 0) claims.first_attempt_at = instant(firstAttemptMs)
  if (status !== null) claims.status = status
  if (state === 'acknowledged' && tokenDigest !== null) claims.token_sha256 = tokenDigest
  if (withinMs === null) return claims
  if (withinMs !== target.withinMs) claims.within_ms = target.withinMs
  if (level !== null && level !== target.counts) claims.counts = target.counts
  // A replayed delivery was a dead letter before, which breaks the SLA.
  claims.kept = generation === 0 && withinPromise(target, elapsedMs, target)
  return claims
}

/**
 * A cache of the latest instants as text. It nearly always hits, because deliveries that settle together have the same instant.
 */
const instantTexts = new Map<number, string>()
const INSTANT_TEXTS_MAX = 1_000

function instant(ms: number): string {
  const known = instantTexts.get(ms)
  if (known !== undefined) return known
  if (instantTexts.size >= INSTANT_TEXTS_MAX) instantTexts.clear()
  const text = new Date(ms).toISOString()
  instantTexts.set(ms, text)
  return text
}

function named(
  member: 'sub' | 'sid' | 'device',
  value: string | null,
  keyedHash: ((value: string) => string) | null,
): { readonly [Name in typeof member | `${typeof member}_hmac`]?: string } {
  if (value === null) return {}
  return keyedHash === null ? { [member]: value } : { [`${member}_hmac`]: keyedHash(value) }
}

/** Orders targets by code units, so that the order is the same on every machine. */
function byName(one: ReceiptTarget, other: ReceiptTarget): number {
  return (
    compare(one.client_id, other.client_id) ||
    compare(one.channel, other.channel) ||
    compare(one.endpoint, other.endpoint) ||
    compare(one.sid ?? one.sid_hmac ?? '', other.sid ?? other.sid_hmac ?? '') ||
    compare(one.sub ?? one.sub_hmac ?? '', other.sub ?? other.sub_hmac ?? '')
  )
}

function compare(one: string, other: string): number {
  return one === other ? 0 : one < other ? -1 : 1
}
