declare const brand: unique symbol
/** A primitive obtainable only where its tag is checked. Costs nothing at run time. */
export type Branded<Value, Tag extends string> = Value & { readonly [brand]: Tag }

/** OpenID Connect `iss`: compared byte for byte, never normalised (OIDC Core 2). */
export type Issuer = Branded<string, 'Issuer'>
/** The short name of an issuer in our own URLs, such as `main`. */
export type IssuerName = Branded<string, 'IssuerName'>
/** OAuth 2.0 `client_id`. Names a relying party to one issuer only; never unique on its own. */
export type ClientId = Branded<string, 'ClientId'>
/** OpenID Connect `sub`: who is logged out, unique within one issuer. */
export type Subject = Branded<string, 'Subject'>
/** OpenID Connect `sid`: one session, unique within one issuer (Back-Channel Logout 2.1). */
export type Sid = Branded<string, 'Sid'>
/** UUID of a logout event, lower case. The IdP's own where it gave one, so that a repeated post is recognised. */
export type EventId = Branded<string, 'EventId'>
/** UUID of a delivery, derived from event and binding: planning the same event twice gives the same ids. */
export type DeliveryId = Branded<string, 'DeliveryId'>
/** One way of telling one relying party. Assigned by the ledger. */
export type BindingId = Branded<number, 'BindingId'>
/** One incarnation of one delivery worker: a worker that lost its leases goes on under a new id. */
export type WorkerId = Branded<string, 'WorkerId'>

/** What the ids of an event and of its deliveries have in common. A few events may share one: it is a hint, never a proof. */
export type EventKey = Branded<string, 'EventKey'>

/** Who is logged out, as a UUID made of a hash: deliveries to one binding that have the same target say the same. */
export type Target = Branded<string, 'Target'>

/** A collision-resistant hash of `text`, in hexadecimal: 32 digits or more. Handed in, for the domain has no crypto. */
export type Digest = (text: string) => string

/**
 * Derives the id of the delivery that `eventId` owes to `bindingId`, for one session (`sid`) or the subject (null): a
 * UUIDv8 (RFC 9562 section 5.8). Its first 64 bits are the event's but for the version, so that the deliveries of one
 * event lie side by side and are found by `deliveryIdRange`; the rest is a hash.
 */
export function deliveryId(
  eventId: EventId,
  bindingId: BindingId,
  sid: Sid | null,
  digest: Digest,
): DeliveryId {
  const hex = digest(JSON.stringify([eventId, bindingId, sid]))
  const variant = '89ab'.charAt(Number.parseInt(hex.charAt(0), 16) & 0x3)
  return `${deliveryPrefix(eventId)}-${variant}${hex.slice(1, 4)}-${hex.slice(4, 16)}` as DeliveryId
}

/** The target of a delivery that names `sid` of `sub`, or `sub` alone where `sid` is null, at one issuer. */
export function targetOf(
  { iss, sub }: { readonly iss: Issuer; readonly sub: Subject | null },
  sid: Sid | null,
  digest: Digest,
): Target {
  const hex = digest(JSON.stringify([iss, sub, sid]))
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-8${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20, 32)}` as Target
}

/** The lowest and highest id that a delivery of `eventId` may have. A few events may share a range: ask for the event too. */
export function deliveryIdRange(eventId: string): readonly [low: string, high: string] {
  const prefix = deliveryPrefix(eventId)
  return [`${prefix}-0000-000000000000`, `${prefix}-ffff-ffffffffffff`]
}

/** The event that an id of it, or of one of its deliveries, belongs to: 15 hexadecimal digits. */
export function eventKeyOf(id: EventId | DeliveryId): EventKey {
  return (id.slice(0, 8) + id.slice(9, 13) + id.slice(15, 18)) as EventKey
}

function deliveryPrefix(eventId: string): string {
  return `${eventId.slice(0, 14)}8${eventId.slice(15, 18)}`
}

/**
 * A time-ordered UUID (version 7, RFC 9562 section 5.7).
 *
 * @param random ten random bytes.
 */
export function uuidV7(now: Date, random: Uint8Array): string {
  const time = now.getTime().toString(16).padStart(12, '0')
  const hex = Array.from(random.subarray(0, 10), (byte) => byte.toString(16).padStart(2, '0')).join('')
  const variant = ((Number.parseInt(hex.slice(3, 4), 16) & 0x3) | 0x8).toString(16)
  return `${time.slice(0, 8)}-${time.slice(8)}-7${hex.slice(0, 3)}-${variant}${hex.slice(4, 7)}-${hex.slice(7, 19)}`
}
