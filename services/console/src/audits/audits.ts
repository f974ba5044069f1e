import { Audit, Audits, AuditsInput, AuditsQuery, eventPath, page, type Scope } from '@curfew/contract'
import { admits, conditionsOf, describeAudit } from '@curfew/domain'
import {
  type AuditRun,
  type Database,
  findAuditRun,
  listAuditedClients,
  listAuditRuns,
  requestAudits,
} from '@curfew/ledger'
import { callerOf, type HttpServer, ProblemError, type RouteAccess } from '@curfew/runtime'
import { Type } from 'typebox'
import type { Pages } from '../http/pages.ts'
import { invalid, UUID } from '../http/query.ts'
import { noSetup } from './no-setup.ts'

const READ = { scope: 'clients:read', access: 'handler' } satisfies RouteAccess<Scope>
/** An audit logs in, and asks the relying party many times. */
const RUN = { scope: 'clients:write', access: 'handler', cost: 10 } satisfies RouteAccess<Scope>
/** Most audits of one request. */
const CLIENTS_MAX = 1_000

export interface AuditsDeps {
  readonly pages: Pages
  readonly db: Database
  /** The database for plain reads. */
  readonly reads: Database
  /** Makes a UUIDv7. */
  readonly newId: () => string
}

/** `/v1/audits`: synthetic logouts of relying parties, and their results. */
export function registerAudits(server: HttpServer, { pages, db, reads, newId }: AuditsDeps): void {
  server.post(
    '/v1/audits',
    {
      config: RUN,
      schema: {
        operationId: 'runAudits',
        tags: ['Audits'],
        summary:
          'Run logout audits: one for each client. A client whose audit waits or runs keeps it. The bookkeeper runs them within seconds.',
        body: AuditsInput,
        response: { 202: Audits },
      },
    },
    async (request, reply) => {
      const { issuer, clients } = request.body
      const { name: by, access } = callerOf(request)
      const { issuer: own, clientIds: admitted } = conditionsOf(access, { issuer, clientId: null })
      const clientIds =
        clients === undefined ? admitted : clients.filter((id) => admitted?.includes(id) ?? true)
      const found = await listAuditedClients(db, {
        ...{ issuer: own ?? issuer, clientIds, limit: CLIENTS_MAX + 1 },
      })
      const missing = clients?.find((client) => !found.some((id) => id === client))
      if (missing !== undefined || found.length === 0) {
        const client = missing ?? null
        // Only a caller with access learns whether the issuer or the client is registered.
        const isSeen = admits(access, { issuer, clientId: client })
        throw await noSetup(isSeen ? db : null, { issuer, client, what: 'Nothing was started.' })
      }
      if (found.length > CLIENTS_MAX)
        throw invalid(
          '/clients',
          `must name at most ${CLIENTS_MAX} clients: the issuer has more of them`,
          'body',
        )
      const audits = await requestAudits(db, {
        ...{ issuer, by },
        audits: found.map((clientId) => ({ id: newId(), clientId })),
      })
      return reply.code(202).send({ audits: audits.map(auditView) })
    },
  )

  server.get(
    '/v1/audits',
    {
      config: READ,
      schema: {
        operationId: 'listAudits',
        tags: ['Audits'],
        summary: 'List logout audits, the latest first.',
        querystring: AuditsQuery,
        response: { 200: page(Audit) },
      },
    },
    async (request) => {
      const { limit, cursor, issuer, client_id: clientId, result } = request.query
      const { readCursor, pageOf } = pages(request)
      const before = readCursor(cursor)
      if (before !== null && !UUID.test(before)) throw invalid('/cursor', 'is not a cursor of this list')
      const rows = await listAuditRuns(reads, {
        ...conditionsOf(callerOf(request).access, { issuer: issuer ?? null, clientId: clientId ?? null }),
        ...{ result: result ?? null, before, limit: limit + 1 },
      })
      return pageOf(rows, limit, ({ id }) => id, auditView)
    },
  )

  server.get(
    '/v1/audits/:id',
    {
      config: READ,
      schema: {
        operationId: 'getAudit',
        tags: ['Audits'],
        summary: 'Get a logout audit with its result.',
        params: Type.Object({ id: Type.String({ maxLength: 64 }) }),
        response: { 200: Audit },
      },
    },
    async (request) => {
      const { id } = request.params
      const found = UUID.test(id) ? await findAuditRun(reads, id) : null
      if (found !== null && admits(callerOf(request).access, found)) return auditView(found)
      throw new ProblemError({ status: 404, title: 'No such audit', detail: `No audit has the id ${id}.` })
    },
  )
}

const INTERRUPTED = describeAudit({
  outcome: { result: 'inconclusive', reason: 'interrupted' },
  ...{ delivery: null, propagationMs: null, hindrance: null, timeoutS: 0 },
})

function auditView(audit: AuditRun): Audit {
  const { id, issuer, findings, eventId } = audit
  // An audit whose bookkeeper stopped has no findings.
  const words = findings ?? (audit.reason === 'interrupted' ? INTERRUPTED : null)
  return {
    id,
    issuer,
    client_id: audit.clientId,
    trigger: audit.trigger,
    requested_by: audit.requestedBy,
    requested_at: audit.requestedAt.toISOString(),
    state: audit.state,
    started_at: audit.startedAt?.toISOString() ?? null,
    ended_at: audit.endedAt?.toISOString() ?? null,
    result: audit.result,
    reason: audit.reason,
    what: words?.what ?? null,
    fix: words?.fix ?? null,
    event_id: eventId,
    accepted_at: audit.acceptedAt?.toISOString() ?? null,
    propagation_ms: audit.propagationMs,
    delivery:
      audit.deliveryState === null ? null : { state: audit.deliveryState, level: audit.deliveryLevel },
    check: findings?.check ?? null,
    checks: findings?.checks ?? 0,
    refreshes: findings?.refreshes ?? 0,
    links: {
      self: `/v1/audits/${id}`,
      event: eventId === null ? null : eventPath({ givenId: eventId, issuer }),
    },
  }
}
