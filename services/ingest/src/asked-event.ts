import { hash } from 'node:crypto'
import { IssuerQuery } from '@curfew/contract'
import {
  type AccessFilter,
  admits,
  type Digest,
  type EventId,
  eventIdOf,
  type GivenEventId,
  NO_ISSUER,
} from '@curfew/domain'
import {
  askedIssuer,
  type Database,
  type EventIdentity,
  type FoundEvent,
  findQuarantinedEvent,
  type IssuerNames,
} from '@curfew/ledger'
import { ambiguousEvent, callerOf, ProblemError } from '@curfew/runtime'
import { Type } from 'typebox'
import type { EventReader } from './event-reader.ts'
import type { Waiters } from './waiters.ts'
import { type Awaited, atAnyIssuer } from './waiting-list.ts'

// What the routes about one event have in common: which, how long to wait for it, and what a credential may see of it.

export interface AskedEventDeps {
  readonly waiters: Pick<Waiters, 'wait'>
  readonly reader: EventReader
  readonly db: Database
  readonly names: Pick<IssuerNames, 'issOf'>
}

export const EventParams = Type.Object({
  id: Type.String({ maxLength: 64, description: 'As the issuer gave it.' }),
})
export const EventQuery = Type.Object(
  {
    ...IssuerQuery.properties,
    wait: Type.Optional(
      Type.Integer({
        minimum: 0,
        maximum: 30,
        description: 'Seconds to hold the answer until every delivery is settled.',
      }),
    ),
  },
  { additionalProperties: false },
)

/** A request for an event, as far as it is looked at here. */
export interface EventRequest {
  readonly params: { readonly id: string }
  readonly query: { readonly wait?: number; readonly issuer?: string }
}

const digest: Digest = (text) => hash('sha256', text)

/**
 * The event that is asked for, as far as the caller may see it: at once, or when all of it is settled, or time is up. An
 * event that the caller may not see is answered as one that does not exist, and as late.
 *
 * @param reply of which the connection may be closed meanwhile: then nobody waits any more.
 * @throws {ProblemError} 404 where there is none, or none that the caller may see; 409 where it waits in quarantine, or several are
 * meant.
 */
export async function askedEvent(
  request: EventRequest & Parameters<typeof callerOf>[0],
  reply: { readonly raw: NodeJS.EventEmitter },
  { waiters, reader, names, db }: AskedEventDeps,
): Promise<FoundEvent> {
  const givenId = request.params.id.toLowerCase()
  const { wait = 0, issuer } = request.query
  if (!isUuid(givenId)) throw notFound(givenId, false)
  const { access, name: caller } = callerOf(request)
  const iss = await askedIssuer(names, access, issuer)
  const identified = async () => only(givenId, await reader.identify({ givenId, iss, caller }))
  const find = async (id: EventId | null) => (id === null ? null : reader.find(id, caller))

  const id = iss === null ? await identified() : eventIdOf(iss, givenId, digest)
  const waitFor = patience(reply, waiters, wait * 1_000)
  await waitFor(id ?? atAnyIssuer(givenId))
  // An event that was stored before ids were derived has another id: the given id finds it.
  const found = (await find(id)) ?? (await find(await identified()))
  const own = found === null ? null : ifAdmitted(found, access)
  if (own !== null) return own
  await waitFor(eventIdOf(NO_ISSUER, givenId, digest))
  // Records in quarantine name no client, so an owner of clients learns of none.
  const quarantined =
    access.kind === 'clients' || iss === NO_ISSUER
      ? null
      : await findQuarantinedEvent(db, { eventId: givenId, iss })
  throw quarantined === null ? notFound(givenId, true, issuer) : inQuarantine(givenId, quarantined)
}

/** Returns a function that waits for one event after the other, for `ms` in all. It throws a 408 problem when the connection closes. */
function patience(
  reply: { readonly raw: NodeJS.EventEmitter },
  waiters: Pick<Waiters, 'wait'>,
  ms: number,
): (awaited: Awaited) => Promise<void> {
  const untilMs = performance.now() + ms
  return async (awaited) => {
    const leftMs = untilMs - performance.now()
    if (leftMs < 1) return
    let gone = false
    const waiting = waiters.wait(awaited, leftMs)
    const onClose = () => {
      gone = true
      waiting.end()
    }
    reply.raw.once('close', onClose)
    await waiting.over
    reply.raw.off('close', onClose)
    // Nobody reads it.
    if (gone) throw new ProblemError({ status: 408, detail: 'The connection was closed.' })
  }
}

/** The only event of a list; null if the list is empty. @throws a 409 problem if it has several. */
function only(id: GivenEventId, events: readonly EventIdentity[]): EventId | null {
  if (events.length <= 1) return events[0]?.id ?? null
  throw ambiguousEvent(
    id,
    events.map(({ issuer }) => issuer),
  )
}

/** What a credential may see of an event: an issuer its own, an owner of clients what they are owed of it. */
function ifAdmitted(found: FoundEvent, access: AccessFilter): FoundEvent | null {
  if (access.kind === 'everything') return found
  if (found.event.iss !== access.iss) return null
  const deliveries = found.deliveries.filter((delivery) => admits(access, delivery))
  return access.kind === 'clients' && deliveries.length === 0 ? null : { ...found, deliveries }
}

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/

function isUuid(id: string): id is GivenEventId {
  return UUID.test(id)
}

function inQuarantine(
  id: string,
  { id: recordId, reason }: { readonly id: number; readonly reason: string },
): ProblemError {
  return new ProblemError({
    status: 409,
    title: 'In quarantine',
    detail: `Event ${id} was accepted and cannot be planned: ${reason} A person has to decide about /v1/quarantine/${recordId}.`,
  })
}

function notFound(id: string, perhapsSoon: boolean, issuer?: string): ProblemError {
  const place = issuer === undefined ? 'in the ledger' : `known of an issuer named ${issuer.slice(0, 64)}`
  return new ProblemError({
    status: 404,
    title: 'No such event',
    detail: perhapsSoon
      ? `No event ${id} is ${place}. If it was accepted a moment ago it will be: ask again, or with wait.`
      : `${id.slice(0, 64)} is not the id of an event: ids are UUIDs.`,
    ...(perhapsSoon && { headers: { 'retry-after': '1' } }),
  })
}
