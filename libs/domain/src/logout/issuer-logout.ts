import { type Digest, type EventId, eventIdOf, type GivenEventId, type Subject } from '../ids.ts'
import type { IssuerLogout, SubjectLogout } from './event.ts'

/**
 * The part of a logout of everyone that is about one subject: an event of its own, planned and told as any other. Made of the same
 * two again it is the same event.
 *
 * @param salt of the logout of everyone, random: without it nobody can tell from the id of a part whose it is, or take it beforehand.
 * @param acceptedAt when it is made: its deliveries are promised from then on, for a logout of everyone goes at a pace.
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

/** A UUIDv8 (RFC 9562 section 5.8), all of it a hash: deliveries are found by how the id of their event begins. */
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
