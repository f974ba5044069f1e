import { eventView, LogoutEventStatus, type Scope } from '@curfew/contract'
import type { HttpServer, RouteAccess } from '@curfew/runtime'
import { type AskedEventDeps, askedEvent, EventParams, EventQuery } from './asked-event.ts'

/** `GET /v1/logout-events/{id}`: the event and how each delivery stands, at once or when all are settled. */
export function registerGetEvent(server: HttpServer, deps: AskedEventDeps): void {
  server.get(
    '/v1/logout-events/:id',
    {
      // Thousands may wait at once: what they ask for is read by few statements together.
      config: { scope: 'events:read', access: 'handler', load: 'own' } satisfies RouteAccess<Scope>,
      schema: {
        summary: 'A logout event, its deliveries and how each stands.',
        params: EventParams,
        querystring: EventQuery,
        response: { 200: LogoutEventStatus },
      },
    },
    async (request, reply) => {
      const { event, deliveries } = await askedEvent(request, reply, deps)
      return eventView(event, deliveries)
    },
  )
}
