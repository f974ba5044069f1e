import { Erasure, ErasureParams, ErasureQuery, type Scope } from '@curfew/contract'
import { admits, ERASURE_WATCH_MS, type IssuerName } from '@curfew/domain'
import {
  type Database,
  type ErasureRecord,
  eraseSubject,
  findErasure,
  findIssEver,
  requestErasure,
} from '@curfew/ledger'
import { callerOf, type HttpServer, ProblemError, type RouteAccess } from '@curfew/runtime'
import type { SubjectHash } from '@curfew/tokens'
import { Type } from 'typebox'
import { UUID } from '../http/query.ts'
import { noSuchIssuer } from '../registry/issuers.ts'

export interface ErasuresDeps {
  readonly db: Database
  readonly newId: () => string
  readonly now: () => Date
  /** The keyed hashes of subjects: `of` names a subject without revealing it, and `tag` finds the receipts of a subject. */
  readonly subjectHash: () => Promise<Pick<SubjectHash, 'of' | 'tag'>>
}

/** Number of transactions, each of a few hundred events, that a request waits for. A bookkeeper does the rest. */
const PAGES_MAX = 10
/** Time until a bookkeeper continues the erasure, in milliseconds. */
const TAKE_OVER_MS = 5_000

/** Erases subjects. The request erases settled data itself. A bookkeeper erases the rest as soon as it is settled. */
export function registerErasures(server: HttpServer, deps: ErasuresDeps): void {
  const { db, newId, now, subjectHash } = deps

  server.delete(
    '/v1/subjects/:issuer/:sub',
    {
      config: { scope: 'admin', access: 'path' } satisfies RouteAccess<Scope>,
      schema: {
        operationId: 'eraseSubject',
        tags: ['Privacy'],
        summary: 'Erase a subject from events, deliveries, sessions and receipts.',
        description:
          'The request stays open until its data is settled, and also erases data that arrives late. ' +
          'Repeating it while it is open returns the same request.',
        params: ErasureParams,
        querystring: ErasureQuery,
        response: { 200: Erasure, 202: Erasure },
      },
    },
    async (request, reply) => {
      const { issuer, sub } = request.params
      const iss = await findIssEver(db, issuer)
      if (iss === null) throw noSuchIssuer(issuer)
      const requestedAt = now()
      const hash = await subjectHash()
      const id = await requestErasure(db, {
        id: newId(),
        issuer: issuer as IssuerName,
        sub,
        emails: request.query.email === undefined ? [] : [request.query.email],
        // No event has this id, so the key is used only for erasures.
        subjectDigest: hash.of('erasures')(JSON.stringify([iss, sub])),
        abandon: request.query.abandon === true,
        requestedBy: callerOf(request).name,
        requestedAt,
        watchedUntil: new Date(requestedAt.getTime() + ERASURE_WATCH_MS),
        nextLookAt: new Date(requestedAt.getTime() + TAKE_OVER_MS),
      })
      const record = await eraseSubject(db, {
        id,
        now,
        tags: async (names) => names.map(hash.tag),
        pages: PAGES_MAX,
      })
      if (record === null) throw new Error(`the erasure ${id} was deleted while it was created`)
      const view = erasureView(record)
      return reply
        .code(view.status === 'completed' ? 200 : 202)
        .header('location', view.links.self)
        .send(view)
    },
  )

  server.get(
    '/v1/erasures/:id',
    {
      config: { scope: 'admin', access: 'handler' } satisfies RouteAccess<Scope>,
      schema: {
        operationId: 'getErasure',
        tags: ['Privacy'],
        summary: 'Get a request to erase a subject, with its progress.',
        params: Type.Object({ id: Type.String({ maxLength: 64 }) }),
        response: { 200: Erasure },
      },
    },
    async (request) => {
      const { id } = request.params
      const record = UUID.test(id) ? await findErasure(db, id) : null
      if (record !== null && admits(callerOf(request).access, { issuer: record.issuer, clientId: null }))
        return erasureView(record)
      throw new ProblemError({
        status: 404,
        title: 'No such erasure',
        detail: `No request to erase a subject has the id ${id}.`,
      })
    },
  )
}

function statusOf({ failedAt, completedAt }: ErasureRecord): Erasure['status'] {
  if (failedAt !== null) return 'failed'
  return completedAt === null ? 'waiting' : 'completed'
}

function erasureView(record: ErasureRecord): Erasure {
  const { waiting, erased } = record
  return {
    id: record.id,
    issuer: record.issuer,
    subject_digest: record.subjectDigest,
    status: statusOf(record),
    failure: record.failure,
    abandon: record.abandon,
    requested_by: record.requestedBy,
    requested_at: record.requestedAt.toISOString(),
    completed_at: record.completedAt?.toISOString() ?? null,
    watched_until: record.watchedUntil.toISOString(),
    closed_at: record.closedAt?.toISOString() ?? null,
    erased,
    waiting: waiting && {
      events: waiting.events,
      deliveries: waiting.deliveries,
      dead_letters: waiting.deadLetters,
      recent: waiting.recent,
      sessions: waiting.sessions,
      quarantined: waiting.quarantined,
    },
    links: { self: `/v1/erasures/${record.id}` },
  }
}
