import { explain } from '@curfew/channels'
import {
  DeadLetter,
  DeadLettersQuery,
  DeadLetterWithAttempts,
  eventPath,
  page,
  type Scope,
} from '@curfew/contract'
import { admits, type DeadLetterRecord } from '@curfew/domain'
import {
  type Database,
  type DeadLetterPosition,
  findDeadLetter,
  findDelivery,
  listDeadLetters,
} from '@curfew/ledger'
import { callerOf, type HttpServer, ProblemError, type RouteAccess } from '@curfew/runtime'
import { Type } from 'typebox'
import type { Pages } from '../http/pages.ts'
import { invalid, UUID } from '../http/query.ts'
import { attemptView } from './deliveries.ts'
import { readFilter } from './filter.ts'

const READ = { scope: 'deadletters:read', access: 'handler' } satisfies RouteAccess<Scope>

/** `/v1/dead-letters`: the deliveries that Curfew has given up on, with their faults and remedies. */
export function registerDeadLetters(server: HttpServer, { db, pages }: { db: Database; pages: Pages }): void {
  server.get(
    '/v1/dead-letters',
    {
      config: READ,
      schema: {
        operationId: 'listDeadLetters',
        tags: ['Dead letters'],
        summary:
          'List dead letters, the latest first. A page may have fewer than `limit` items, or none, and still have a `next_cursor`.',
        querystring: DeadLettersQuery,
        response: { 200: page(DeadLetter) },
      },
    },
    async (request) => {
      const { query } = request
      const { readCursor, pageOf } = pages(request)
      const { rows, reached } = await listDeadLetters(db, {
        filter: readFilter(query, callerOf(request).access, 'query'),
        before: readPosition(readCursor(query.cursor)),
        limit: query.limit + 1,
      })
      return pageOf(
        rows,
        query.limit,
        ({ position }) => keyOf(position),
        deadLetterView,
        reached && keyOf(reached),
      )
    },
  )

  server.get(
    '/v1/dead-letters/:id',
    {
      config: READ,
      schema: {
        operationId: 'getDeadLetter',
        tags: ['Dead letters'],
        summary: 'Get a dead letter with its stored attempts.',
        params: Type.Object({ id: Type.String({ maxLength: 64 }) }),
        response: { 200: DeadLetterWithAttempts },
      },
    },
    async (request) => {
      const { id } = request.params
      const [record, delivery] = UUID.test(id)
        ? await Promise.all([findDeadLetter(db, id), findDelivery(db, id)])
        : [null, null]
      if (record !== null && admits(callerOf(request).access, record)) {
        return { ...deadLetterView(record), attempts: (delivery?.attempts ?? []).map(attemptView) }
      }
      throw new ProblemError({
        status: 404,
        title: 'No such dead letter',
        detail: `No dead letter has the id ${id}. If it was replayed, look it up at /v1/deliveries.`,
      })
    },
  )
}

const keyOf = ({ micros, id }: DeadLetterPosition) => `${micros} ${id}`

/** The position where the next page begins. @throws a 400 problem. */
function readPosition(text: string | null): DeadLetterPosition | null {
  if (text === null) return null
  const [, micros, id] = /^(\d{1,17}) (.{36})$/.exec(text) ?? []
  if (micros === undefined || id === undefined || !UUID.test(id))
    throw invalid('/cursor', 'is not a cursor of this list')
  return { micros: Number(micros), id }
}

function deadLetterView(record: DeadLetterRecord): DeadLetter {
  const { lastAttempt } = record
  return {
    id: record.id,
    event_id: record.givenEventId,
    issuer: record.issuer,
    client_id: record.clientId,
    client_name: record.clientName,
    channel: record.channel,
    endpoint: record.endpoint,
    sid: record.sid,
    lane: record.lane,
    reason: record.reason,
    ...explain(record.channel, record.reason, lastAttempt, record),
    status: lastAttempt?.status ?? null,
    error: lastAttempt?.error ?? null,
    error_description: lastAttempt?.errorDescription ?? null,
    location: lastAttempt?.location ?? null,
    attempt_count: record.attemptCount,
    generation: record.generation,
    replay_id: record.replayId,
    planned_at: record.plannedAt.toISOString(),
    dead_lettered_at: record.deadLetteredAt.toISOString(),
    session_ends_at: record.sessionEndsAt?.toISOString() ?? null,
    lapsed: record.lapsed,
    links: {
      self: `/v1/dead-letters/${record.id}`,
      delivery: `/v1/deliveries/${record.id}`,
      event: eventPath({ ...record, givenId: record.givenEventId }),
    },
  }
}
