declare const brand: unique symbol
/** A primitive obtainable only where its tag is checked. Costs nothing at run time. */
export type Branded<Value, Tag extends string> = Value & { readonly [brand]: Tag }

/** OpenID Connect `iss`: compared byte for byte, never normalised (OIDC Core 2). */
export type Issuer = Branded<string, 'Issuer'>
/** An `iss` that no event has: `iss` is a URL. */
export const NO_ISSUER = '' as Issuer
/** The short name of an issuer in our own URLs, such as `main`. */
export type IssuerName = Branded<string, 'IssuerName'>
/** OAuth 2.0 `client_id`. Names a relying party to one issuer only; never unique on its own. */
export type ClientId = Branded<string, 'ClientId'>
/** OpenID Connect `sub`: who is logged out, unique within one issuer. */
export type Subject = Branded<string, 'Subject'>
/** OpenID Connect `sid`: one session, unique within one issuer (Back-Channel Logout 2.1). */
export type Sid = Branded<string, 'Sid'>
/** UUID of a logout event as its issuer knows it, lower case. Unique only within that issuer. */
export type GivenEventId = Branded<string, 'GivenEventId'>
/** UUID of a logout event inside Curfew, derived from issuer and given id by `eventIdOf`. Never leaves Curfew. */
export type EventId = Branded<string, 'EventId'>
/** UUID of a delivery, derived from event and binding: planning the same event twice gives the same ids. */
export type DeliveryId = Branded<string, 'DeliveryId'>
/** One way of telling one relying party. Assigned by the ledger. */
export type BindingId = Branded<number, 'BindingId'>
/** One incarnation of one delivery worker: a worker that lost its leases goes on under a new id. */
export type WorkerId = Branded<string, 'WorkerId'>

/** The first 48 bits of an event's id, which are those of its given id too: 12 hexadecimal digits. */
export type GivenIdKey = Branded<string, 'GivenIdKey'>

/** What the ids of an event and of its deliveries have in common. A few events may share one: it is a hint, never a proof. */
export type EventKey = Branded<string, 'EventKey'>

/** Who is logged out, as a UUID made of a hash: deliveries to one binding that have the same target say the same. */
export type Target = Branded<string, 'Target'>

/** A collision-resistant hash of `text`, in hexadecimal: 32 digits or more. Handed in, for the domain has no crypto. */
export type Digest = (text: string) => string

/**
 * Derives the identity of an event from its issuer and the id that the issuer gave it: a UUIDv8 (RFC 9562 section 5.8).
 * The first 48 bits are those of the given id, which keeps ids ordered by time where the given ones are. The other 74 are
 * a hash: an issuer cannot search for an id that collides with an id of another issuer.
 */
export function eventIdOf(iss: Issuer, givenId: GivenEventId, digest: Digest): EventId {
  const hex = digest(JSON.stringify([iss, givenId]))
  return `${givenId.slice(0, 14)}8${hex.slice(1, 4)}-${variant(hex)}${hex.slice(4, 7)}-${hex.slice(7, 19)}` as EventId
}

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
  return `${deliveryPrefix(eventId)}-${variant(hex)}${hex.slice(1, 4)}-${hex.slice(4, 16)}` as DeliveryId
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

/** The part that a given id shares with its event at any issuer. Other events may share it: it is a hint. */
export function givenIdKeyOf(id: GivenEventId | EventKey): GivenIdKey {
  return id.replaceAll('-', '').slice(0, 12) as GivenIdKey
}

/** The lowest and highest id that the event of a given id may have, at any issuer. Other events lie between: compare the given id too. */
export function givenIdRange(id: string): readonly [low: string, high: string] {
  const prefix = id.slice(0, 13)
  return [`${prefix}-0000-0000-000000000000`, `${prefix}-ffff-ffff-ffffffffffff`]
}

/** The digit that says the variant of a UUID; two bits of it are the hash's. */
function variant(hex: string): string {
  return '89ab'.charAt(Number.parseInt(hex.charAt(0), 16) & 0x3)
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
