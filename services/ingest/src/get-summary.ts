import { EventSummary, issuerLogoutPath, type Scope, summaryView } from '@curfew/contract'
import { summarize } from '@curfew/domain'
import { coveringDeliveries } from '@curfew/ledger'
import { type HttpServer, ProblemError, type RouteAccess } from '@curfew/runtime'
import { type AskedEventDeps, askedEvent, EventParams, EventQuery } from './asked-event.ts'

/** `GET /v1/logout-events/{id}/summary`: what an IdP tells the person who logged out. */
export function registerGetSummary(
  server: HttpServer,
  deps: AskedEventDeps & { readonly now: () => Date },
): void {
  server.get(
    '/v1/logout-events/:id/summary',
    {
      // Thousands may wait at once: what they ask for is read by few statements together.
      config: { scope: 'events:read', access: 'handler', load: 'own' } satisfies RouteAccess<Scope>,
      schema: {
        summary: 'A logout event in words for the person who logged out.',
        params: EventParams,
        querystring: EventQuery,
        response: { 200: EventSummary },
      },
    },
    async (request, reply) => {
      const { event, deliveries } = await askedEvent(request, reply, deps)
      if (event.scope === 'issuer') {
        throw new ProblemError({
          status: 409,
          title: 'Not one person’s logout',
          detail: `Everyone was logged out, and there is nobody to say it to: ${issuerLogoutPath(event)} says how far it is.`,
        })
      }
      const superseded = deliveries.filter(({ state }) => state === 'superseded').map(({ id }) => id)
      const covering = superseded.length === 0 ? new Map() : await coveringDeliveries(deps.db, superseded)
      const summary = summarize(
        deliveries.map((delivery) => ({ ...delivery, coveredBy: covering.get(delivery.id) ?? null })),
        { now: deps.now(), knownIssuer: event.planBasis !== 'unknown_issuer' },
      )
      return summaryView(event, summary)
    },
  )
}
