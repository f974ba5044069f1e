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
  type Database,
  type EventIdentity,
  type FoundEvent,
  findQuarantinedEvent,
  type IssuerNames,
  requestedIssuer,
} from '@curfew/ledger'
import { ambiguousEvent, callerOf, ProblemError } from '@curfew/runtime'
import { Type } from 'typebox'
import type { EventReader } from './event-reader.ts'
import type { Waiters } from './waiters.ts'
import { type Awaited, atAnyIssuer } from './waiting-list.ts'

// The common part of the routes about one event: they find the event, wait until it is settled, and apply the access filter.

export interface RequestedEventDeps {
  readonly waiters: Pick<Waiters, 'wait'>
  readonly reader: EventReader
  readonly db: Database
  readonly names: Pick<IssuerNames, 'issOf'>
  /** The number of live delivery workers; null if unknown. */
  readonly workersAlive: () => number | null
}

export const EventParams = Type.Object({
  id: Type.String({ maxLength: 64, description: 'The id that the issuer gave the event.' }),
})
export const EventQuery = Type.Object(
  {
    ...IssuerQuery.properties,
    wait: Type.Optional(
      Type.Integer({
        minimum: 0,
        maximum: 30,
        description: 'The longest time to wait until every delivery is settled, in seconds.',
      }),
    ),
  },
  { additionalProperties: false },
)

/** The used members of a request for an event. */
export interface EventRequest {
  readonly params: { readonly id: string }
  readonly query: { readonly wait?: number; readonly issuer?: string }
}

const digest: Digest = (text) => hash('sha256', text)

/**
 * Finds the requested event, reduced to the deliveries that the caller may see. With `wait`, it first waits until every delivery
 * is settled or the time is up. A hidden event gets the same answer, after the same wait, as an event that does not exist.
 *
 * @param reply its connection ends the wait when it closes.
 * @throws {ProblemError} 404 if no event has the id or the caller may not see it; 408 if the connection closes; 409 if the event
 *   is in quarantine, or several issuers used the id.
 */
export async function requestedEvent(
  request: EventRequest & Parameters<typeof callerOf>[0],
  reply: { readonly raw: NodeJS.EventEmitter },
  { waiters, reader, names, db, workersAlive }: RequestedEventDeps,
): Promise<FoundEvent> {
  const givenId = request.params.id.toLowerCase()
  const { wait = 0, issuer } = request.query
  if (!isUuid(givenId)) throw notAnId(givenId)
  const { access, name: caller } = callerOf(request)
  const iss = await requestedIssuer(names, access, issuer)
  const identified = async () => only(givenId, await reader.identify({ givenId, iss, caller }))
  const find = async (id: EventId | null) => (id === null ? null : reader.find(id, caller))

  const id = iss === null ? await identified() : eventIdOf(iss, givenId, digest)
  const waitFor = patience(reply, waiters, wait * 1_000)
  await waitFor(id ?? atAnyIssuer(givenId))
  // An event from before ids were derived has a different id. Its given id finds it.
  const found = (await find(id)) ?? (await find(await identified()))
  const own = found === null ? null : ifAdmitted(found, access)
  if (own !== null) return own
  await waitFor(eventIdOf(NO_ISSUER, givenId, digest))
  // Records in quarantine name no client, so a credential that is bound to clients sees none.
  const quarantined =
    access.kind === 'clients' || iss === NO_ISSUER
      ? null
      : await findQuarantinedEvent(db, { eventId: givenId, iss })
  throw quarantined === null
    ? notFound(givenId, { issuer, hint: workersAlive() === 0 ? NO_WORKER : ASK_AGAIN })
    : inQuarantine(givenId, quarantined)
}

/**
 * Creates a function that waits for events in turn, for at most `ms` in total. It throws a 408 problem if the connection closes.
 */
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
    if (gone) throw new ProblemError({ status: 408, detail: 'The connection was closed.' })
  }
}

/** The only event of a list, or null if the list is empty. @throws a 409 problem if the list has several events. */
function only(id: GivenEventId, events: readonly EventIdentity[]): EventId | null {
  if (events.length <= 1) return events[0]?.id ?? null
  throw ambiguousEvent(
    id,
    events.map(({ issuer }) => issuer),
  )
}

/**
 * Applies an access filter: an issuer sees its own events, and a credential of clients sees only the deliveries of these clients.
 */
function ifAdmitted(found: FoundEvent, access: AccessFilter): FoundEvent | null {
  if (access.kind === 'everything') return found
  if (found.event.iss !== access.iss) return null
  const deliveries = found.deliveries.filter((delivery) => admits(access, delivery))
  if (access.kind !== 'clients') return { ...found, deliveries }
  if (deliveries.length === 0) return null
  const admitted = (clientId: string) => admits(access, { issuer: access.issuer, clientId })
  const { clients, unregisteredClients } = found.event
  return {
    event: {
      ...found.event,
      clients: clients?.filter(admitted) ?? null,
      unregisteredClients: unregisteredClients.filter(admitted),
    },
    deliveries,
  }
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
    detail: `Event ${id} was accepted and cannot be planned: ${reason} An operator must requeue or dismiss /v1/quarantine/${recordId}.`,
  })
}

const ASK_AGAIN = 'If it was just accepted, ask again shortly, or ask with wait.'
const NO_WORKER =
  'An accepted event is readable once a delivery worker has planned it, and no delivery worker is alive. It is not lost: ask again when a worker runs.'

/** The problem of an event that is not in the ledger, perhaps not yet. */
function notFound(
  id: string,
  { issuer, hint }: { readonly issuer: string | undefined; readonly hint: string },
): ProblemError {
  const place = issuer === undefined ? '' : ` of issuer ${issuer.slice(0, 64)}`
  return new ProblemError({
    status: 404,
    title: 'No such event',
    detail: `Event ${id}${place} is not in the ledger. ${hint}`,
    headers: { 'retry-after': '1' },
  })
}

function notAnId(id: string): ProblemError {
  return new ProblemError({
    status: 404,
    title: 'No such event',
    detail: `${id.slice(0, 64)} is not the id of an event: ids are UUIDs.`,
  })
}
