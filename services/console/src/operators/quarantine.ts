import { page, QuarantinedContent, QuarantinedRecord, QuarantineQuery, type Scope } from '@curfew/contract'
import { type AccessFilter, quarantineFix } from '@curfew/domain'
import {
  type Database,
  dismissQuarantined,
  findQuarantinedRecord,
  listQuarantined,
  type QuarantineKey,
  requestRequeue,
  type QuarantinedContent as StoredContent,
  type QuarantinedRecord as StoredRecord,
} from '@curfew/ledger'
import { type Credential, callerOf, type HttpServer, ProblemError, type RouteAccess } from '@curfew/runtime'
import { Type } from 'typebox'
import type { Pages } from '../http/pages.ts'
import { invalid } from '../http/query.ts'

const READ = { scope: 'deadletters:read', access: 'handler' } satisfies RouteAccess<Scope>
const DECIDE = { scope: 'deadletters:replay', access: 'handler' } satisfies RouteAccess<Scope>
const RecordParams = Type.Object({ id: Type.String({ maxLength: 64 }) })
const ID = /^[1-9]\d{0,14}$/

interface RecordRequest {
  readonly params: { readonly id: string }
  readonly credential: Credential | null
}

/** `/v1/quarantine`: the records that were accepted but could not be planned or applied. A person requeues or dismisses them. */
export function registerQuarantine(
  server: HttpServer,
  { db, reads, pages }: { db: Database; reads: Database; pages: Pages },
): void {
  server.get(
    '/v1/quarantine',
    {
      config: READ,
      schema: {
        operationId: 'listQuarantinedRecords',
        tags: ['Event log'],
        summary: 'List records that were accepted but could not be planned or applied, the latest first.',
        querystring: QuarantineQuery,
        response: { 200: page(QuarantinedRecord) },
      },
    },
    async (request) => {
      const { limit, cursor, issuer, lane, kind, state } = request.query
      const { readCursor, pageOf } = pages(request)
      const before = readCursor(cursor)
      if (before !== null && !ID.test(before)) throw invalid('/cursor', 'is not a cursor of this list')
      const seen = seenBy(callerOf(request).access)
      if (seen === 'nothing') return { items: [], next_cursor: null }
      const records = await listQuarantined(reads, {
        filter: {
          iss: seen.iss,
          issuer: issuer ?? null,
          lane: lane ?? null,
          kind: kind ?? null,
          state: state ?? null,
        },
        before: before === null ? null : Number(before),
        limit: limit + 1,
      })
      return pageOf(records, limit, ({ id }) => String(id), recordView)
    },
  )

  server.get(
    '/v1/quarantine/:id',
    {
      config: READ,
      schema: {
        operationId: 'getQuarantinedRecord',
        tags: ['Event log'],
        summary: 'Get a quarantined record with its content.',
        params: RecordParams,
        response: { 200: QuarantinedContent },
      },
    },
    async (request) => {
      const record = await findQuarantinedRecord(reads, keyOf(request))
      if (record === null) throw noSuchRecord(request)
      return contentView(record)
    },
  )

  server.post(
    '/v1/quarantine/:id/requeue',
    {
      config: DECIDE,
      schema: {
        operationId: 'requeueQuarantinedRecord',
        tags: ['Event log'],
        summary:
          'Requeue a quarantined record: the bookkeeper appends it to the event log again. A repeated request has no further effect.',
        params: RecordParams,
        body: Type.Object({}, { additionalProperties: false, title: 'Requeue' }),
        response: { 202: QuarantinedRecord },
      },
    },
    async (request, reply) => {
      const record = await requestRequeue(db, { ...keyOf(request), decidedBy: callerOf(request).name })
      if (record === null) throw noSuchRecord(request)
      if (record.cutShort) throw cannot('Cut short', quarantineFix(record))
      return reply.code(202).send(recordView(record))
    },
  )

  server.delete(
    '/v1/quarantine/:id',
    {
      config: DECIDE,
      schema: {
        operationId: 'dismissQuarantinedRecord',
        tags: ['Event log'],
        summary:
          'Dismiss a quarantined record, so that it is never planned or applied. It is kept as dismissed until its retention ends.',
        params: RecordParams,
        response: { 200: QuarantinedRecord },
      },
    },
    async (request) => {
      const record = await dismissQuarantined(db, { ...keyOf(request), decidedBy: callerOf(request).name })
      if (record === null) throw noSuchRecord(request)
      if (record.state !== 'dismissed')
        throw cannot(
          'Requeued',
          'The record cannot be dismissed, because it was requeued: it is in the event log again, or will be soon.',
        )
      return recordView(record)
    },
  )
}

/** The records that a credential may see. Records have no client, so a credential that is bound to clients sees none. */
function seenBy(access: AccessFilter): { readonly iss: string | null } | 'nothing' {
  switch (access.kind) {
    case 'everything':
      return { iss: null }
    case 'issuer':
      return { iss: access.iss }
    case 'clients':
      return 'nothing'
  }
}

/** The key of the record in the path. @throws a 404 problem if the id is malformed, or the caller may see no records. */
function keyOf(request: RecordRequest): QuarantineKey {
  const { id } = request.params
  const seen = seenBy(callerOf(request).access)
  if (seen === 'nothing' || !ID.test(id)) throw noSuchRecord(request)
  return { id: Number(id), iss: seen.iss }
}

function noSuchRecord({ params: { id } }: RecordRequest): ProblemError {
  return new ProblemError({
    status: 404,
    title: 'No such record',
    detail: `No quarantined record has the id ${id}.`,
  })
}

function cannot(title: string, detail: string): ProblemError {
  return new ProblemError({ status: 409, title, detail })
}

function recordView(record: StoredRecord): QuarantinedRecord {
  const self = `/v1/quarantine/${record.id}`
  return {
    id: String(record.id),
    lane: record.lane,
    position: record.position,
    issuer: record.issuer,
    iss: record.iss,
    event_id: record.eventId,
    kind: record.kind,
    reason: record.reason,
    fix: quarantineFix(record),
    state: record.state,
    value_bytes: record.valueBytes,
    value_sha256: record.valueSha256,
    cut_short: record.cutShort,
    quarantined_at: record.quarantinedAt.toISOString(),
    decided_by: record.decidedBy,
    decided_at: record.decidedAt?.toISOString() ?? null,
    requeue_error: record.requeueError,
    links: { self, requeue: `${self}/requeue` },
  }
}

function contentView(record: StoredContent): QuarantinedContent {
  const value = Buffer.from(record.value)
  return {
    ...recordView(record),
    key: Buffer.from(record.key).toString(),
    headers: { ...record.headers },
    value: value.toString(),
    value_base64: value.toString('base64'),
    kept_bytes: value.byteLength,
  }
}
