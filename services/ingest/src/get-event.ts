import { eventView, LogoutEventStatus, type Scope, withoutWords } from '@curfew/contract'
import type { DeliveryRecord } from '@curfew/domain'
import { callerOf, type HttpServer, hasScope, type RouteAccess } from '@curfew/runtime'
import { EventParams, EventQuery, type RequestedEventDeps, requestedEvent } from './requested-event.ts'

/** `GET /v1/logout-events/{id}`: the event with the states of its deliveries, at once or after a wait until all are settled. */
export function registerGetEvent(server: HttpServer, deps: RequestedEventDeps): void {
  server.get(
    '/v1/logout-events/:id',
    {
      // Thousands of requests may wait at once. The event reader limits their load on the database.
      config: { scope: 'events:read', access: 'handler', load: 'own' } satisfies RouteAccess<Scope>,
      schema: {
        operationId: 'getLogoutEvent',
        tags: ['Logout events'],
        summary: 'Get a logout event and the states of its deliveries.',
        params: EventParams,
        querystring: EventQuery,
        response: { 200: LogoutEventStatus },
      },
    },
    async (request, reply) => {
      const { event, deliveries } = await requestedEvent(request, reply, deps)
      const mayReadWords = hasScope(callerOf(request), 'ledger:read')
      return eventView(event, mayReadWords ? deliveries : deliveries.map(withheld))
    },
  )
}

/** A delivery without the words of the relying party. */
function withheld(delivery: DeliveryRecord): DeliveryRecord {
  return { ...delivery, lastError: delivery.lastError && withoutWords(delivery.lastError) }
}
