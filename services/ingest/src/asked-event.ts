import { type EventId, type Reach, reaches } from '@curfew/domain'
import type { FoundEvent } from '@curfew/ledger'
import { callerOf, ProblemError } from '@curfew/runtime'
import { Type } from 'typebox'
import type { EventReader } from './event-reader.ts'
import type { Waiters } from './waiters.ts'

// What the routes about one event have in common: which, how long to wait for it, and what a credential may see of it.

export interface AskedEventDeps {
  readonly waiters: Pick<Waiters, 'wait'>
  readonly reader: EventReader
  /** The record in quarantine that carries the event; null where none waits, or `iss` is given and it is another issuer's. */
  readonly findQuarantined: (event: {
    eventId: string
    iss: string | null
  }) => Promise<{ readonly id: number; readonly reason: string } | null>
}

export const EventParams = Type.Object({ id: Type.String({ maxLength: 64 }) })
export const WaitQuery = Type.Object(
  {
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
  readonly query: { readonly wait?: number }
}

/**
 * The event that is asked for, as far as the caller may see it: at once, or when all of it is settled, or time is up.
 *
 * @param reply of which the connection may be closed meanwhile: then nobody waits any more.
 * @throws {ProblemError} 404 where there is none, or none that the caller may see; 409 where it waits in quarantine.
 */
export async function askedEvent(
  request: EventRequest & Parameters<typeof callerOf>[0],
  reply: { readonly raw: NodeJS.EventEmitter },
  { waiters, reader, findQuarantined }: AskedEventDeps,
): Promise<FoundEvent> {
  const id = request.params.id.toLowerCase()
  const { wait = 0 } = request.query
  if (!isEventId(id)) throw notFound(id, false)
  if (wait > 0) {
    let gone = false
    const waiting = waiters.wait(id, wait * 1_000)
    reply.raw.once('close', () => {
      gone = true
      waiting.end()
    })
    await waiting.over
    // Nobody reads it.
    if (gone) throw new ProblemError({ status: 408, detail: 'The connection was closed.' })
  }
  const found = await reader.find(id)
  const { reach } = callerOf(request)
  const own = found === null ? null : withinReach(found, reach)
  if (own !== null) return own
  // Records in quarantine name no client, so an owner of clients learns of none.
  if (reach.kind === 'clients') throw notFound(id, true)
  const iss = reach.kind === 'everything' ? null : reach.iss
  const quarantined = await findQuarantined({ eventId: id, iss })
  throw quarantined === null ? notFound(id, true) : inQuarantine(id, quarantined)
}

/** What a credential may see of an event: an issuer its own, an owner of clients what they are owed of it. */
function withinReach(found: FoundEvent, reach: Reach): FoundEvent | null {
  if (reach.kind === 'everything') return found
  if (found.event.iss !== reach.iss) return null
  const deliveries = found.deliveries.filter((delivery) => reaches(reach, delivery))
  return reach.kind === 'clients' && deliveries.length === 0 ? null : { ...found, deliveries }
}

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/

function isEventId(id: string): id is EventId {
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

function notFound(id: string, perhapsSoon: boolean): ProblemError {
  return new ProblemError({
    status: 404,
    title: 'No such event',
    detail: perhapsSoon
      ? `No event ${id} is in the ledger. If it was accepted a moment ago it will be: ask again, or with wait.`
      : `${id.slice(0, 64)} is not the id of an event: ids are UUIDs.`,
    ...(perhapsSoon && { headers: { 'retry-after': '1' } }),
  })
}
