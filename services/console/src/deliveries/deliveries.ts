import { failureFix } from '@curfew/channels'
import {
  DeliveriesQuery,
  Delivery,
  DeliveryWithAttempts,
  deliveryView,
  page,
  type Scope,
} from '@curfew/contract'
import { admits, conditionsOf, type StoredAttempt } from '@curfew/domain'
import { type FoundDelivery, findDelivery, listDeliveries } from '@curfew/ledger'
import { callerOf, type HttpServer, ProblemError, type RouteAccess } from '@curfew/runtime'
import { Type } from 'typebox'
import type { Pages } from '../http/pages.ts'
import { invalid, readTime, UUID } from '../http/query.ts'
import { type IdentityDeps, identifyEvent } from '../logouts/event-identity.ts'

const READ = { scope: 'ledger:read', access: 'handler' } satisfies RouteAccess<Scope>

/** `/v1/deliveries`: the deliveries with their attempts and the answers of relying parties. */
export function registerDeliveries(server: HttpServer, deps: IdentityDeps & { readonly pages: Pages }): void {
  const { db, pages } = deps
  server.get(
    '/v1/deliveries',
    {
      config: READ,
      schema: {
        operationId: 'listDeliveries',
        tags: ['Deliveries'],
        summary:
          'List deliveries, the latest first. A page may have fewer than `limit` items, or none, and still have a `next_cursor`.',
        querystring: DeliveriesQuery,
        response: { 200: page(Delivery) },
      },
    },
    async (request) => {
      const { query } = request
      const { readCursor, pageOf } = pages(request)
      const before = readCursor(query.cursor)
      if (before !== null && !UUID.test(before)) throw invalid('/cursor', 'is not a cursor of this list')
      const { access } = callerOf(request)
      const { event_id: id, issuer } = query
      const event = id === undefined ? null : await identifyEvent(deps, { id, issuer, access })
      if (id !== undefined && event === null) return { items: [], next_cursor: null }
      const { rows, reached } = await listDeliveries(db, {
        ...conditionsOf(access, {
          issuer: query.issuer ?? null,
          clientId: query.client_id ?? null,
        }),
        eventId: event?.id ?? null,
        channel: query.channel ?? null,
        state: query.state ?? null,
        since: readTime(query.since, '/since'),
        until: readTime(query.until, '/until'),
        before,
        limit: query.limit + 1,
      })
      return pageOf(rows, query.limit, ({ id }) => id, deliveryView, reached)
    },
  )

  server.get(
    '/v1/deliveries/:id',
    {
      config: READ,
      schema: {
        operationId: 'getDelivery',
        tags: ['Deliveries'],
        summary: 'Get a delivery with all its attempts.',
        params: Type.Object({ id: Type.String({ maxLength: 64 }) }),
        response: { 200: DeliveryWithAttempts },
      },
    },
    async (request) => {
      const { id } = request.params
      const found = UUID.test(id) ? await findDelivery(db, id) : null
      if (found !== null && admits(callerOf(request).access, found.delivery))
        return {
          ...deliveryView(found.delivery),
          fix: fixOf(found),
          attempts: found.attempts.map(attemptView),
        }
      throw new ProblemError({
        status: 404,
        title: 'No such delivery',
        detail: `No delivery has the id ${id}.`,
      })
    },
  )
}

/** How to correct the last attempt of a delivery that Curfew repeats; null if it did not fail, or if nothing is repeated. */
function fixOf({ delivery, attempts, endpoint }: FoundDelivery): string | null {
  const last = attempts.at(-1)
  if (delivery.settledAt !== null || delivery.lastError === null || last === undefined) return null
  return failureFix(delivery.channel, last, endpoint)
}

/** The response body for an attempt. */
export function attemptView(attempt: StoredAttempt): DeliveryWithAttempts['attempts'][number] {
  return {
    number: attempt.number,
    started_at: attempt.startedAt.toISOString(),
    duration_ms: attempt.durationMs,
    outcome: attempt.outcome,
    status: attempt.status,
    error_class: attempt.errorClass,
    error: attempt.error,
    error_description: attempt.errorDescription,
    location: attempt.location,
    jti: attempt.jti,
    note: attempt.note,
  }
}
