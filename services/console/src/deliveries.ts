import {
  DeliveriesQuery,
  Delivery,
  DeliveryWithAttempts,
  deliveryView,
  page,
  parseInstant,
  type Scope,
} from '@curfew/client'
import { type Database, findDelivery, listDeliveries, type StoredAttempt } from '@curfew/ledger'
import { type HttpServer, ProblemError } from '@curfew/runtime'
import { Type } from 'typebox'
import { pageOf, readCursor } from './pages.ts'

const READ = { scope: 'ledger:read' satisfies Scope }
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i

/** `/v1/deliveries`: who was told what, when, and what they said. */
export function registerDeliveries(server: HttpServer, { db }: { db: Database }): void {
  server.get(
    '/v1/deliveries',
    {
      config: READ,
      schema: {
        summary: 'Deliveries, the latest first.',
        querystring: DeliveriesQuery,
        response: { 200: page(Delivery) },
      },
    },
    async ({ query }) => {
      const before = readCursor(query.cursor)
      if (before !== null && !UUID.test(before)) throw invalid('/cursor', 'is not a cursor of this list')
      const deliveries = await listDeliveries(db, {
        issuer: query.issuer ?? null,
        clientId: query.client_id ?? null,
        eventId: query.event_id ?? null,
        state: query.state ?? null,
        since: readTime(query.since, '/since'),
        until: readTime(query.until, '/until'),
        before,
        limit: query.limit + 1,
      })
      return pageOf(deliveries, query.limit, ({ id }) => id, deliveryView)
    },
  )

  server.get(
    '/v1/deliveries/:id',
    {
      config: READ,
      schema: {
        summary: 'A delivery with every attempt.',
        params: Type.Object({ id: Type.String({ maxLength: 64 }) }),
        response: { 200: DeliveryWithAttempts },
      },
    },
    async (request) => {
      const { id } = request.params
      const found = UUID.test(id) ? await findDelivery(db, id) : null
      if (found !== null)
        return { ...deliveryView(found.delivery), attempts: found.attempts.map(attemptView) }
      throw new ProblemError({
        status: 404,
        title: 'No such delivery',
        detail: `No delivery has the id ${id}.`,
      })
    },
  )
}

const RFC_3339 = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(?:\.\d+)?(?:Z|[+-]\d{2}:\d{2})$/

function readTime(text: string | undefined, pointer: string): Date | null {
  if (text === undefined) return null
  // JavaScript takes much more than this for a time, and PostgreSQL does not have all of it.
  const time = RFC_3339.test(text) ? parseInstant(text) : null
  if (time === null) throw invalid(pointer, 'must be a time as RFC 3339 writes it')
  return time
}

function invalid(pointer: string, detail: string): ProblemError {
  return new ProblemError({
    status: 400,
    title: 'Invalid query',
    detail: `${pointer.slice(1)} ${detail}.`,
    errors: [{ pointer, detail }],
  })
}

function attemptView(attempt: StoredAttempt): DeliveryWithAttempts['attempts'][number] {
  return {
    number: attempt.number,
    started_at: attempt.startedAt.toISOString(),
    duration_ms: attempt.durationMs,
    outcome: attempt.outcome,
    status: attempt.status,
    error_class: attempt.errorClass,
    error: attempt.error,
    error_description: attempt.errorDescription,
    jti: attempt.jti,
  }
}
