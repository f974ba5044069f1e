declare const brand: unique symbol
/** A primitive with a tag that only a check or a cast can give it. Costs nothing at run time. */
export type Branded<Value, Tag extends string> = Value & { readonly [brand]: Tag }

/** OpenID Connect `iss`: compared byte for byte, never normalised (OIDC Core 2). */
export type Issuer = Branded<string, 'Issuer'>
/** A placeholder that equals the `iss` of no event, because an `iss` is a URL. */
export const NO_ISSUER = '' as Issuer
/** The short name of an issuer in our own URLs, such as `main`. */
export type IssuerName = Branded<string, 'IssuerName'>
/** OAuth 2.0 `client_id`. Unique only within one issuer. */
export type ClientId = Branded<string, 'ClientId'>
/** OpenID Connect `sub`: the logged-out user, unique within one issuer. */
export type Subject = Branded<string, 'Subject'>
/** OpenID Connect `sid`: one session, unique within one issuer (Back-Channel Logout 2.1). */
export type Sid = Branded<string, 'Sid'>
/** UUID of a logout event as its issuer knows it, lower case. Unique only within that issuer. */
export type GivenEventId = Branded<string, 'GivenEventId'>
/** UUID of a logout event inside Curfew, derived from issuer and given id by `eventIdOf`. Never leaves Curfew. */
export type EventId = Branded<string, 'EventId'>
/** UUID of a delivery, derived from event, binding, sid and its own sub. Planning the same event twice gives the same ids. */
export type DeliveryId = Branded<string, 'DeliveryId'>
/** Number of a binding, which is one way to notify one relying party. Assigned by the ledger. */
export type BindingId = Branded<number, 'BindingId'>
/** UUID of one run of a delivery worker. A worker that lost its leases continues under a new id. */
export type WorkerId = Branded<string, 'WorkerId'>

/** The first 48 bits of an event's id, as 12 hexadecimal digits. They equal those of its given id. */
export type GivenIdKey = Branded<string, 'GivenIdKey'>

/** The bits that the ids of an event and of its deliveries share. A few events may share a key, so a match is only a hint. */
export type EventKey = Branded<string, 'EventKey'>

/** A hash of the logged-out session or subject, as a UUID. Deliveries to one binding with the same target are equivalent. */
export type Target = Branded<string, 'Target'>

/** A collision-resistant hash of `text`, as 32 hexadecimal digits or more. A parameter, because the domain has no crypto. */
export type Digest = (text: string) => string

/**
 * Derives the id of an event from its issuer and given id: a UUIDv8 (RFC 9562 section 5.8). The first 48 bits are those of the
 * given id, so ids are ordered by time if the given ids are. The other 74 bits are a hash, so that an issuer cannot construct a
 * collision with another issuer's event.
 */
export function eventIdOf(iss: Issuer, givenId: GivenEventId, digest: Digest): EventId {
  const hex = digest(JSON.stringify([iss, givenId]))
  return `${givenId.slice(0, 14)}8${hex.slice(1, 4)}-${variant(hex)}${hex.slice(4, 7)}-${hex.slice(7, 19)}` as EventId
}

/**
 * Derives the given id of a relayed logout from its token: a UUIDv8 (RFC 9562 section 5.8). The same token always gives the same id,
 * so a repeated post is one logout. The id includes the client, because an identity provider may give one `jti` to the tokens of
 * several clients. The first 48 bits are the time of the token, with a hash as its milliseconds, because `iat` has whole seconds.
 */
export function relayedEventId({ iss, clientId, jti, iat }: RelayedTokenId, digest: Digest): GivenEventId {
  const hex = digest(JSON.stringify([iss, clientId, jti]))
  const ms = Math.floor(iat) * 1_000 + (Number.parseInt(hex.slice(0, 6), 16) % 1_000)
  const time = ms.toString(16).padStart(12, '0')
  return `${time.slice(0, 8)}-${time.slice(8)}-8${hex.slice(6, 9)}-${variant(hex.slice(9))}${hex.slice(10, 13)}-${hex.slice(13, 25)}` as GivenEventId
}

/** The claims of a logout token that identify it. */
export interface RelayedTokenId {
  readonly iss: Issuer
  readonly clientId: ClientId
  readonly jti: string
  /** In seconds since 1970; not negative. */
  readonly iat: number
}

/**
 * Derives the id of the delivery that `eventId` owes to `bindingId`, for one session (`sid`) or the subject (null): a UUIDv8 (RFC
 * 9562 section 5.8). The first 64 bits equal the event's, except the version. Deliveries of one event are therefore adjacent, and
 * `deliveryIdRange` finds them. The remaining bits are a hash.
 *
 * @param own the subject that the delivery names; null if it is the event's, or if the delivery names none.
 */
export function deliveryId(
  eventId: EventId,
  bindingId: BindingId,
  sid: Sid | null,
  digest: Digest,
  own: Subject | null = null,
): DeliveryId {
  const hex = digest(JSON.stringify([eventId, bindingId, sid, ...(own === null ? [] : [own])]))
  return `${deliveryPrefix(eventId)}-${variant(hex)}${hex.slice(1, 4)}-${hex.slice(4, 16)}` as DeliveryId
}

/**
 * The target of a delivery at one issuer: the session `sid` of `sub`, or all of `sub` if `sid` is null.
 *
 * @param own the subject that the delivery names; null if it names none. Absent: the event's. A delivery that names no subject has
 *   another target than one that does, because it may fail for want of a subject.
 */
export function targetOf(
  { iss, sub }: { readonly iss: Issuer; readonly sub: Subject | null },
  sid: Sid | null,
  digest: Digest,
  own?: Subject | null,
): Target {
  const hex = digest(JSON.stringify([iss, sub, sid, ...(own === undefined ? [] : [own])]))
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-8${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20, 32)}` as Target
}

/**
 * The lowest and highest id of the deliveries of `eventId`. A few events may share a range, so queries compare the event as well.
 */
export function deliveryIdRange(eventId: string): readonly [low: string, high: string] {
  const prefix = deliveryPrefix(eventId)
  return [`${prefix}-0000-000000000000`, `${prefix}-ffff-ffffffffffff`]
}

/**
 * Makes the id of a message of a delivery, such as the `jti` of its token: a UUIDv8 (RFC 9562 section 5.8). The first 64 bits are the
 * delivery's, so that the ledger recognises a message that Curfew sent. The last 62 bits are random.
 *
 * @param random a random UUID.
 */
export function messageId(deliveryId: DeliveryId, random: string): string {
  return deliveryPrefix(deliveryId) + random.slice(18)
}

/** The key that an event and its deliveries share, from the id of any of them: 15 hexadecimal digits. */
export function eventKeyOf(id: EventId | DeliveryId): EventKey {
  return (id.slice(0, 8) + id.slice(9, 13) + id.slice(15, 18)) as EventKey
}

/** The digits that a given id shares with its event id at any issuer. Other events may share them, so a match is only a hint. */
export function givenIdKeyOf(id: GivenEventId | EventKey): GivenIdKey {
  return id.replaceAll('-', '').slice(0, 12) as GivenIdKey
}

/** The lowest and highest event id for a given id, at any issuer. Other events share the range: queries compare the given id. */
export function givenIdRange(id: string): readonly [low: string, high: string] {
  const prefix = id.slice(0, 13)
  return [`${prefix}-0000-0000-000000000000`, `${prefix}-ffff-ffff-ffffffffffff`]
}

/** The digit with the variant of a UUID. Its other two bits come from the hash. */
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
