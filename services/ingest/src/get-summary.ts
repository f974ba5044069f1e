import { EventSummary, issuerLogoutPath, type Scope, summaryView } from '@curfew/contract'
import { type AccessFilter, admits, summarize, type UnnotifiedClients } from '@curfew/domain'
import { coveringDeliveries } from '@curfew/ledger'
import { callerOf, type HttpServer, ProblemError, type RouteAccess } from '@curfew/runtime'
import { EventParams, EventQuery, type RequestedEventDeps, requestedEvent } from './requested-event.ts'

/** `GET /v1/logout-events/{id}/summary`: the result of a logout in words that an IdP can show to the user. */
export function registerGetSummary(
  server: HttpServer,
  deps: RequestedEventDeps & { readonly now: () => Date },
): void {
  server.get(
    '/v1/logout-events/:id/summary',
    {
      // Thousands of requests may wait at once. The event reader limits their load on the database.
      config: { scope: 'events:read', access: 'handler', load: 'own' } satisfies RouteAccess<Scope>,
      schema: {
        operationId: 'getLogoutEventSummary',
        tags: ['Logout events'],
        summary: 'Get a summary of a logout event in words for the user who logged out.',
        params: EventParams,
        querystring: EventQuery,
        response: { 200: EventSummary },
      },
    },
    async (request, reply) => {
      const found = await requestedEvent(request, reply, deps)
      const { event, deliveries } = found
      if (event.scope === 'issuer') {
        throw new ProblemError({
          status: 409,
          title: 'No summary of an issuer logout',
          detail: `An issuer logout covers every subject, so it has no summary for one user. See its progress at ${issuerLogoutPath(event)}.`,
        })
      }
      const { access, name } = callerOf(request)
      const superseded = deliveries.filter(({ state }) => state === 'superseded').map(({ id }) => id)
      const covering = superseded.length === 0 ? new Map() : await coveringDeliveries(deps.db, superseded)
      const summary = summarize(
        deliveries.map((delivery) => ({ ...delivery, coveredBy: covering.get(delivery.id) ?? null })),
        {
          now: deps.now(),
          knownIssuer: event.planBasis !== 'unknown_issuer',
          strategy: event.strategy,
          unnotified: admitted(await deps.reader.unnotified(found, name), access),
        },
      )
      return summaryView(event, summary)
    },
  )
}

/** Reduces the clients without a delivery to those that the caller may see. */
function admitted(unnotified: UnnotifiedClients, access: AccessFilter): UnnotifiedClients {
  if (access.kind !== 'clients') return unnotified
  const isAdmitted = ({ clientId }: { readonly clientId: string }) =>
    admits(access, { issuer: access.issuer, clientId })
  const { clients, initiator } = unnotified
  return {
    ...unnotified,
    clients: clients.filter(isAdmitted),
    initiator: initiator !== null && isAdmitted(initiator) ? initiator : null,
  }
}
