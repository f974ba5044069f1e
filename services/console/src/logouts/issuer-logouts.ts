import {
  eventPath,
  IssuerLogout,
  IssuerLogoutsQuery,
  IssuerQuery,
  issuerLogoutPath,
  page,
  type Scope,
} from '@curfew/contract'
import type { AccessFilter } from '@curfew/domain'
import {
  cancelIssuerLogout,
  type Database,
  findIssuerLogout,
  type IssuerLogoutRecord,
  listIssuerLogouts,
} from '@curfew/ledger'
import { type Credential, callerOf, type HttpServer, ProblemError, type RouteAccess } from '@curfew/runtime'
import { Type } from 'typebox'
import type { Pages } from '../http/pages.ts'
import { invalid, UUID } from '../http/query.ts'
import { type IdentityDeps, identifyEvent } from './event-identity.ts'

const READ = { scope: 'ledger:read', access: 'handler' } satisfies RouteAccess<Scope>
const CANCEL = { scope: 'admin', access: 'handler' } satisfies RouteAccess<Scope>
const Params = Type.Object({ id: Type.String({ maxLength: 64 }) })
const Query = Type.Object({ ...IssuerQuery.properties }, { additionalProperties: false })

/** `/v1/issuer-logouts`: the issuer logouts. An IdP or admin requests one by posting an event with scope `issuer`. */
export function registerIssuerLogouts(
  server: HttpServer,
  deps: IdentityDeps & { readonly changes: Database; readonly pages: Pages },
): void {
  const { db: reads, changes: db } = deps
  /** The issuer logout in the path. @throws a 404 problem if there is none that the caller may see. */
  async function own(request: {
    readonly params: { readonly id: string }
    readonly query: { readonly issuer?: string }
    readonly credential: Credential | null
  }): Promise<IssuerLogoutRecord> {
    const { id } = request.params
    const { access } = callerOf(request)
    const event = await identifyEvent(deps, { id, issuer: request.query.issuer, access })
    const record = event === null ? null : await findIssuerLogout(reads, event.id)
    if (record === null || !isWithin(access, record.iss)) throw noSuchLogout(id)
    return record
  }

  server.get(
    '/v1/issuer-logouts',
    {
      config: READ,
      schema: {
        operationId: 'listIssuerLogouts',
        tags: ['Issuer logouts'],
        summary: 'List issuer logouts, the latest first.',
        querystring: IssuerLogoutsQuery,
        response: { 200: page(IssuerLogout) },
      },
    },
    async (request) => {
      const { limit, cursor, iss = null } = request.query
      const { readCursor, pageOf } = deps.pages(request)
      const before = readPosition(readCursor(cursor))
      const { access } = callerOf(request)
      const nothing =
        access.kind === 'clients' || (access.kind === 'issuer' && iss !== null && iss !== access.iss)
      const records = nothing
        ? []
        : await listIssuerLogouts(reads, {
            iss: access.kind === 'everything' ? iss : access.iss,
            before,
            limit: limit + 1,
          })
      return pageOf(
        records,
        limit,
        ({ requestedAt, id }) => `${requestedAt.getTime()} ${id}`,
        issuerLogoutView,
      )
    },
  )

  server.get(
    '/v1/issuer-logouts/:id',
    {
      config: READ,
      schema: {
        operationId: 'getIssuerLogout',
        tags: ['Issuer logouts'],
        summary: 'Get an issuer logout with its progress.',
        params: Params,
        querystring: Query,
        response: { 200: IssuerLogout },
      },
    },
    async (request) => issuerLogoutView(await own(request)),
  )

  server.delete(
    '/v1/issuer-logouts/:id',
    {
      config: CANCEL,
      schema: {
        operationId: 'cancelIssuerLogout',
        tags: ['Issuer logouts'],
        summary:
          'Cancel an issuer logout, so that no more subjects are logged out. Logouts that are planned already are still delivered. An issuer logout that has ended is unchanged.',
        params: Params,
        querystring: Query,
        response: { 200: IssuerLogout },
      },
    },
    async (request) => {
      const { id, givenId } = await own(request)
      const cancelled = await cancelIssuerLogout(db, { id, cancelledBy: callerOf(request).name })
      if (cancelled === null) throw noSuchLogout(givenId)
      return issuerLogoutView(cancelled)
    },
  )
}

/** Whether a caller may see the issuer logouts of `iss`. A credential that is bound to clients sees only their deliveries. */
function isWithin(access: AccessFilter, iss: string): boolean {
  return access.kind === 'everything' || (access.kind === 'issuer' && access.iss === iss)
}

function noSuchLogout(id: string): ProblemError {
  return new ProblemError({
    status: 404,
    title: 'No such issuer logout',
    detail: `No issuer logout has the id ${id}. If it was accepted a moment ago, send the request again.`,
    headers: { 'retry-after': '1' },
  })
}

function readPosition(text: string | null): { readonly requestedAt: Date; readonly id: string } | null {
  if (text === null) return null
  const [ms = '', id = '', more] = text.split(' ')
  if (!/^\d{1,15}$/.test(ms) || !UUID.test(id) || more !== undefined)
    throw invalid('/cursor', 'is not a cursor of this list')
  return { requestedAt: new Date(Number(ms)), id }
}

function issuerLogoutView(record: IssuerLogoutRecord): IssuerLogout {
  return {
    id: record.givenId,
    iss: record.iss,
    state: record.state,
    failure: record.failure,
    plan_basis: record.planBasis,
    reason: record.reason,
    initiator: record.initiator,
    clients: record.clients === null ? null : [...record.clients],
    occurred_at: record.occurredAt.toISOString(),
    requested_by: record.requestedBy,
    requested_at: record.requestedAt.toISOString(),
    ended_at: record.endedAt?.toISOString() ?? null,
    total: record.total,
    done: record.done,
    waiting: record.waiting,
    acknowledged: record.acknowledged,
    superseded: record.superseded,
    lapsed: record.lapsed,
    dead: record.dead,
    links: { self: issuerLogoutPath(record), event: eventPath(record) },
  }
}
