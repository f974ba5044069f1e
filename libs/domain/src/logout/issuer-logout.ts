import { type Digest, type EventId, eventIdOf, type GivenEventId, type Subject } from '../ids.ts'
import type { IssuerLogout, SubjectLogout } from './event.ts'

/**
 * Makes the part of an issuer logout that is about one subject: a separate event, planned and delivered like any other. The same
 * parent and subject always give the same event.
 *
 * @param salt the random salt of the issuer logout. Without it, an id cannot be tested against guessed subjects, and no other
 * event can take the id first.
 * @param acceptedAt when the part is made. Its SLA counts from this time, because an issuer logout is paced.
 */
export function childOf(
  parent: IssuerLogout,
  sub: Subject,
  { acceptedAt, salt, digest }: { readonly acceptedAt: Date; readonly salt: string; readonly digest: Digest },
): SubjectLogout {
  const { id, iss, reason, initiator, includeInitiator, clients, lane, occurredAt } = parent
  const givenId = childId(id, sub, { salt, digest })
  return {
    ...{ iss, reason, initiator, includeInitiator, clients, lane, occurredAt },
    ...{ id: eventIdOf(iss, givenId, digest), givenId, parentId: id, scope: 'subject', sub, sid: null },
    parentAcceptedAt: parent.acceptedAt,
    acceptedAt,
  }
}

/** A UUIDv8 (RFC 9562 section 5.8) that is all hash, so that parts differ in the prefix by which deliveries are found. */
function childId(
  parent: EventId,
  sub: Subject,
  { salt, digest }: { readonly salt: string; readonly digest: Digest },
): GivenEventId {
  const hex = digest(JSON.stringify([salt, parent, sub]))
  const variant = '89ab'.charAt(Number.parseInt(hex.charAt(15), 16) & 0x3)
  const [a, b, c] = [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 15)]
  return `${a}-${b}-8${c}-${variant}${hex.slice(16, 19)}-${hex.slice(19, 31)}` as GivenEventId
}
