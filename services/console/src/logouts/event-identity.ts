import { hash } from 'node:crypto'
import { type AccessFilter, eventIdOf, type GivenEventId, type Issuer } from '@curfew/domain'
import {
  type Database,
  findReceipt,
  findReceiptsOfGivenId,
  type IssuerNames,
  identifyEvents,
  requestedIssuer,
  type StoredReceipt,
} from '@curfew/ledger'
import { ambiguousEvent } from '@curfew/runtime'
import { UUID } from '../http/query.ts'

// Finds an event by the id that its issuer gave it.

export interface IdentityDeps {
  readonly db: Database
  readonly names: IssuerNames
}

/** A request for an event. */
interface Asked {
  /** The given id of the event, unchecked. */
  readonly id: string
  readonly issuer: string | undefined
  readonly access: AccessFilter
}

/** A found event, which may exist only as a receipt. `iss` is null if the receipt was erased. */
interface Identified {
  readonly id: string
  readonly iss: Issuer | null
}

/** Finds the event that a caller asks for; null if there is none. @throws a 409 problem if several issuers use the id. */
export async function identifyEvent(deps: IdentityDeps, asked: Asked): Promise<Identified | null> {
  if (!UUID.test(asked.id)) return null
  const givenId = asked.id.toLowerCase() as GivenEventId
  const iss = await requestedIssuer(deps.names, asked.access, asked.issuer)
  const [events = []] = await identifyEvents(deps.db, [{ givenId, iss }])
  if (events.length <= 1) return events[0] ?? null
  throw ambiguousEvent(
    givenId,
    events.map(({ issuer }) => issuer),
  )
}

/**
 * Finds the event of a requested receipt: in the ledger, or by a receipt that outlived its event. Null if there is neither.
 *
 * @throws a 409 problem if several issuers use the id.
 */
export async function identifyReceipted(deps: IdentityDeps, asked: Asked): Promise<Identified | null> {
  const givenId = asked.id.toLowerCase() as GivenEventId
  const iss = await requestedIssuer(deps.names, asked.access, asked.issuer)
  const [events = []] = await identifyEvents(deps.db, [{ givenId, iss }])
  if (iss !== null) return events[0] ?? (await ofReceipt(deps.db, iss, givenId))
  const found = new Map<string, Identified>(events.map((event) => [event.iss, event]))
  for (const receipt of await findReceiptsOfGivenId(deps.db, givenId)) {
    const iss = issOf(receipt)
    const known = iss === null ? events.some(({ id }) => id === receipt.eventId) : found.has(iss)
    if (!known) found.set(iss ?? receipt.eventId, { id: receipt.eventId, iss })
  }
  const [first = null, ...others] = found.values()
  if (others.length === 0) return first
  const names = [...found.values()].map(({ iss }) => (iss === null ? null : deps.names.nameOf(iss)))
  throw ambiguousEvent(givenId, await Promise.all(names))
}

/** Finds an event that was deleted, by its receipt. */
async function ofReceipt(db: Database, iss: Issuer, givenId: GivenEventId): Promise<Identified | null> {
  const id = eventIdOf(iss, givenId, (text) => hash('sha256', text))
  return (await findReceipt(db, { eventId: id, logIndex: null })) === null ? null : { id, iss }
}

/** Reads the issuer from a receipt; null if the receipt was erased or altered. */
function issOf({ payload }: StoredReceipt): Issuer | null {
  if (payload === null) return null
  try {
    const { event } = JSON.parse(payload) as { readonly event?: { readonly iss?: unknown } }
    return typeof event?.iss === 'string' ? (event.iss as Issuer) : null
  } catch {
    // The receipt was altered.
    return null
  }
}
