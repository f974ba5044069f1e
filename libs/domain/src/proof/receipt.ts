import { type ChannelDelivery, weakestRequired } from '../delivery/channels.ts'
import type { Level } from '../delivery/level.ts'
import { type BindingPromise, type DeliveryEnd, withinPromise } from '../sla/sla.ts'

/** `typ` of a receipt: what a JWT is meant for is said by it (RFC 8725 section 3.11). */
export const RECEIPT_TYPE = 'curfew-receipt+jwt'

/** How a receipt names whom it is about: as the IdP does, or by a keyed hash of that. */
export const RECEIPT_SUBJECTS = ['hash', 'plain'] as const
export type ReceiptSubject = (typeof RECEIPT_SUBJECTS)[number]

/** A settled event, as the ledger has it. */
export interface SettledEvent {
  readonly id: string
  /** The id that its issuer gave it. */
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

/** One delivery of it. */
export interface SettledTarget extends ChannelDelivery, DeliveryEnd, BindingPromise {
  readonly clientId: string
  readonly endpoint: string
  readonly reason: string | null
  readonly attempts: number
  /** How often it was replayed. */
  readonly generation: number
  /** Times in milliseconds since 1970: tens of thousands of targets a second need no object for each. */
  readonly settledMs: number
  /** Null when nothing was attempted; so are those that follow. */
  readonly firstAttemptMs: number | null
  /** Of the last attempt. */
  readonly status: number | null
  /** SHA-256 of the token that was sent with the last attempt, in base64url. */
  readonly tokenDigest: string | null
}

/** The place that a receipt has in the log, and what it is issued with. */
export interface ReceiptPlace {
  readonly origin: string
  readonly index: number
  /** The place of the receipt that this one stands for: something of the event was replayed since. */
  readonly replaces: number | null
  readonly issuedAt: Date
  /** Random: without it, whoever has the digest alone cannot try out what it may be of. */
  readonly jti: string
}

/** What a receipt says: JWT claims. Times are RFC 3339 in UTC but for `iat`; what is not so is left out. */
export interface ReceiptClaims {
  /** The log's origin. */
  readonly iss: string
  readonly iat: number
  readonly jti: string
  readonly event: {
    readonly id: string
    readonly iss: string
    readonly sub?: string
    /** HMAC-SHA256, in base64url, where the operator does not name subjects. */
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
  /** Left out where nothing was promised: the issuer is not registered, or the event is of the bulk lane. */
  readonly sla?: { readonly within_ms: number; readonly kept: boolean }
  readonly log: { readonly origin: string; readonly index: number }
  readonly replaces?: number
}

export interface ReceiptTarget {
  readonly client_id: string
  /** The kind of its channel. */
  readonly channel: string
  /** The kind of the channel that it stands in for. */
  readonly fallback_for?: string
  readonly endpoint: string
  readonly sid?: string
  readonly sid_hmac?: string
  readonly state: DeliveryEnd['state']
  /** What the acknowledgement asserts. */
  readonly level?: Level
  readonly reason?: string
  readonly attempts: number
  readonly replays?: number
  readonly first_attempt_at?: string
  readonly settled_at: string
  /** From when the event was accepted. */
  readonly elapsed_ms: number
  readonly status?: number
  /** SHA-256 of the token that was accepted, in base64url. */
  readonly token_sha256?: string
  /** What was promised for it, where that is another than for its issuer. */
  readonly within_ms?: number
  /** The weakest level that keeps the promise, where the acknowledgement has another. */
  readonly counts?: Level
  /** Whether it ended as promised, the first time; left out where nothing was promised. */
  readonly kept?: boolean
}

/**
 * What a receipt of a settled event says.
 *
 * @param withinMs what its issuer promises; null where it promises nothing.
 * @param keyedHash hashes what names a subject, session or device of this event; null where they are named as they are.
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

/** Whether the promise was kept for every relying party, of which each counts once. */
function allKept(targets: readonly SettledTarget[], entries: readonly ReceiptTarget[]): boolean {
  if (targets.every(({ fallbackFor }) => fallbackFor === null))
    return entries.every(({ kept }) => kept === true)
  const keptBy = new Map(targets.map((target, index) => [target, entries[index]?.kept === true]))
  return [...Map.groupBy(targets, ({ clientId }) => clientId).values()].every((own) =>
    weakestRequired(own, {
      standingOf: (target) => keptBy.get(target) === true,
      worse: (one, other) => one && other,
      failed: (kept) => !kept,
    }),
  )
}

/** While it is being made. */
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
  // Member by member, for there are tens of thousands a second: spreading what may be absent takes several times as long.
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
  if (target.fallbackFor !== null) claims.fallback_for = target.fallbackFor
  if (level !== null) claims.level = level
  if (reason !== null) claims.reason = reason
  if (generation > 0) claims.replays = generation
  if (firstAttemptMs !== null && attempts > 0) claims.first_attempt_at = instant(firstAttemptMs)
  if (status !== null) claims.status = status
  if (state === 'acknowledged' && tokenDigest !== null) claims.token_sha256 = tokenDigest
  if (withinMs === null) return claims
  if (withinMs !== target.withinMs) claims.within_ms = target.withinMs
  if (level !== null && level !== target.counts) claims.counts = target.counts
  // What had to be replayed had been given up on before.
  claims.kept = generation === 0 && withinPromise(target, elapsedMs, target)
  return claims
}

/** The latest instants that were written. What is settled together ends at the same one, so that nearly all are among them. */
const written = new Map<number, string>()
const WRITTEN_MAX = 1_000

function instant(ms: number): string {
  const known = written.get(ms)
  if (known !== undefined) return known
  if (written.size >= WRITTEN_MAX) written.clear()
  const text = new Date(ms).toISOString()
  written.set(ms, text)
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

/** In an order that is the same on every machine. */
function byName(one: ReceiptTarget, other: ReceiptTarget): number {
  return (
    compare(one.client_id, other.client_id) ||
    compare(one.channel, other.channel) ||
    compare(one.endpoint, other.endpoint) ||
    compare(one.sid ?? one.sid_hmac ?? '', other.sid ?? other.sid_hmac ?? '')
  )
}

function compare(one: string, other: string): number {
  return one === other ? 0 : one < other ? -1 : 1
}
