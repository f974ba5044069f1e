import { eventView, LogoutEventStatus, type Scope } from '@curfew/client'
import { type Reach, reaches } from '@curfew/domain'
import { type Database, findEvent } from '@curfew/ledger'
import { callerOf, type HttpServer, ProblemError, type RouteAccess } from '@curfew/runtime'
import { Type } from 'typebox'
import type { Waiters } from './waiters.ts'

/** `GET /v1/logout-events/{id}`: the event and how each delivery stands, at once or when all are settled. */
export function registerGetEvent(
  server: HttpServer,
  { db, waiters }: { db: Database; waiters: Waiters },
): void {
  server.get(
    '/v1/logout-events/:id',
    {
      config: { scope: 'events:read', reach: 'handler' } satisfies RouteAccess<Scope>,
      schema: {
        summary: 'A logout event, its deliveries and how each stands.',
        params: Type.Object({ id: Type.String({ maxLength: 64 }) }),
        querystring: Type.Object(
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
        ),
        response: { 200: LogoutEventStatus },
      },
    },
    async (request) => {
      const id = request.params.id.toLowerCase()
      const { wait = 0 } = request.query
      if (!UUID.test(id)) throw notFound(id, false)
      if (wait > 0) await waiters.settled(id, wait * 1_000)
      const found = await findEvent(db, id)
      const own = found === null ? null : withinReach(found, callerOf(request).reach)
      if (own === null) throw notFound(id, true)
      return eventView(own.event, own.deliveries)
    },
  )
}

type FoundEvent = NonNullable<Awaited<ReturnType<typeof findEvent>>>

/** What a credential may see of an event: an issuer its own, an owner of clients what they are owed of it. */
function withinReach(found: FoundEvent, reach: Reach): FoundEvent | null {
  if (reach.kind === 'everything') return found
  if (found.event.iss !== reach.iss) return null
  const deliveries = found.deliveries.filter((delivery) => reaches(reach, delivery))
  return reach.kind === 'clients' && deliveries.length === 0 ? null : { ...found, deliveries }
}

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/

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
