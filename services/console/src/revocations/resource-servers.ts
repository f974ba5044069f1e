import { RESOURCE_SERVER_KIND } from '@curfew/channels'
import { PageQuery, page, Removed, ResourceServer, ResourceServerInput, type Scope } from '@curfew/contract'
import { conditionsOf, type IssuerName, ruleAfterRemoval } from '@curfew/domain'
import {
  type Database,
  findFeedBindings,
  findRelyingParty,
  listRelyingParties,
  type RelyingPartyRecord,
  readFeedReaders,
  removeRelyingParty,
} from '@curfew/ledger'
import { callerOf, type HttpServer, ProblemError, type RouteAccess } from '@curfew/runtime'
import type { Pages } from '../http/pages.ts'
import { etagOf, mayChange, preconditionFailed } from '../http/preconditions.ts'
import { IssuerParams, issuerOr404 } from '../registry/issuers.ts'
import { networkRank } from '../registry/networks.ts'
import { partyChange } from '../registry/party-view.ts'
import { changeParty, PartyParams, type RelyingPartiesDeps } from '../registry/relying-parties.ts'

// A resource server is a relying party with the cutoff feed as its only channel. These routes show and change it as such.

const PATH = '/v1/issuers/:issuer/resource-servers/:client_id'
const READ = { scope: 'clients:read', access: 'path' } satisfies RouteAccess<Scope>
const WRITE = { scope: 'clients:write', access: 'path' } satisfies RouteAccess<Scope>
const LIST = { scope: 'clients:read', access: 'handler' } satisfies RouteAccess<Scope>
const TAGS = ['Resource servers']
/** Most offered deliveries that are counted. */
const OFFERED_MAX = 100_000

/** `/v1/issuers/{issuer}/resource-servers`: the APIs that read the cutoff feed of the issuer. */
export function registerResourceServers(
  server: HttpServer,
  deps: RelyingPartiesDeps & { readonly pages: Pages },
): void {
  const { db } = deps
  server.put(
    PATH,
    {
      config: WRITE,
      schema: {
        operationId: 'putResourceServer',
        tags: TAGS,
        summary:
          'Register a resource server, or replace its registration. Each logout is then owed to it, until its readers have applied it.',
        params: PartyParams,
        body: ResourceServerInput,
        response: { 200: ResourceServer, 201: ResourceServer },
      },
    },
    async (request, reply) => {
      const { resource_name: name, sla } = request.body
      const { created, party } = await changeParty(deps, request, (before) => {
        if (before !== null && !isResourceServer(before)) throw isAnother(before)
        return {
          body: {
            ...(name !== undefined && { client_name: name }),
            curfew: { ...(sla !== undefined && { sla }), channels: { [RESOURCE_SERVER_KIND]: {} } },
          },
          namesNetworks: true,
          enableAgain: () => true,
        }
      })
      reply.code(created ? 201 : 200).header('etag', etagOf(party))
      return viewOf(db, party)
    },
  )

  server.get(
    PATH,
    {
      config: READ,
      schema: {
        operationId: 'getResourceServer',
        tags: TAGS,
        summary: 'Get a resource server, with its readers and what they have not applied yet.',
        params: PartyParams,
        response: { 200: ResourceServer },
      },
    },
    async (request, reply) => {
      const { issuer, client_id: clientId } = request.params
      const party = await findRelyingParty(db, { issuer, clientId })
      if (party === null || !isResourceServer(party)) throw noSuchServer(request.params)
      reply.header('etag', etagOf(party))
      return viewOf(db, party)
    },
  )

  server.delete(
    PATH,
    {
      config: WRITE,
      schema: {
        operationId: 'deleteResourceServer',
        tags: TAGS,
        summary: 'Remove a resource server. It is owed no more logouts. Its history stays.',
        params: PartyParams,
        response: { 200: Removed },
      },
    },
    async (request) => {
      const { issuer, client_id: clientId } = request.params
      const found: { before: RelyingPartyRecord | null } = { before: null }
      const result = await removeRelyingParty(
        db,
        { issuer, clientId },
        {
          expected(before) {
            found.before = before
            return before === null || (isResourceServer(before) && mayChange(request.headers, before))
          },
          ruleLeft: (rule) =>
            ruleAfterRemoval(rule, { rank: networkRank(callerOf(request)), ceiling: deps.ceiling }),
          audit: partyChange(callerOf(request).name, deps.relay),
        },
      )
      if (result.ok) return { client_id: clientId, issuer, waiting: result.waiting }
      if (found.before === null || !isResourceServer(found.before)) throw noSuchServer(request.params)
      throw preconditionFailed(request.headers, found.before)
    },
  )

  server.get(
    '/v1/issuers/:issuer/resource-servers',
    {
      config: LIST,
      schema: {
        operationId: 'listResourceServers',
        tags: TAGS,
        summary: 'List the resource servers of an issuer.',
        params: IssuerParams,
        querystring: PageQuery,
        response: { 200: page(ResourceServer) },
      },
    },
    async (request) => {
      const conditions = conditionsOf(callerOf(request).access)
      // The answer is the same whether the issuer exists or not.
      if (conditions.issuer !== null && conditions.issuer !== request.params.issuer)
        throw new ProblemError({ status: 404, detail: 'There is nothing here that this credential may see.' })
      const { name } = await issuerOr404(db, request.params.issuer)
      const { limit, cursor } = request.query
      const { readCursor, pageOf } = deps.pages(request)
      const parties = await listRelyingParties(db, {
        issuer: name,
        after: readCursor(cursor) ?? '',
        limit: limit + 1,
        only: conditions.clientIds,
        resourceServers: true,
      })
      const shown = await Promise.all(
        parties.map(async (party) => ({ clientId: party.clientId, view: await viewOf(db, party) })),
      )
      return pageOf(
        shown,
        limit,
        ({ clientId }) => clientId,
        ({ view }) => view,
      )
    },
  )
}

/** Whether a relying party does nothing but read the feed. */
function isResourceServer({ endpoints }: Pick<RelyingPartyRecord, 'endpoints'>): boolean {
  return endpoints.length > 0 && endpoints.every(({ kind }) => kind === RESOURCE_SERVER_KIND)
}

async function viewOf(db: Database, party: RelyingPartyRecord): Promise<ResourceServer> {
  const { issuer, clientId } = party
  const bindings = await findFeedBindings(db, { issuer: issuer as IssuerName, clientIds: [clientId] })
  const { readers, offered } = await readFeedReaders(db, { bindings, limit: OFFERED_MAX })
  return {
    ...{ client_id: clientId, issuer, resource_name: party.clientName },
    sla: party.settings.sla ?? null,
    readers: readers.map(({ readAt, ...reader }) => ({ ...reader, read_at: readAt.toISOString() })),
    offered: { count: offered.count, since: offered.since?.toISOString() ?? null },
    created_at: party.createdAt.toISOString(),
    updated_at: party.updatedAt.toISOString(),
    links: {
      self: `/v1/issuers/${issuer}/resource-servers/${encodeURIComponent(clientId)}`,
      revocations: `/v1/issuers/${issuer}/revocations`,
      deliveries: `/v1/deliveries?${new URLSearchParams({ issuer, client_id: clientId })}`,
    },
  }
}

function isAnother({ issuer, clientId }: RelyingPartyRecord): ProblemError {
  return new ProblemError({
    status: 409,
    title: 'Registered as a relying party',
    detail: `${clientId} at ${issuer} is a relying party with other channels. Choose another name, or add curfew.channels.${RESOURCE_SERVER_KIND} to its registration.`,
  })
}

function noSuchServer({ issuer, client_id }: { issuer: string; client_id: string }): ProblemError {
  return new ProblemError({
    status: 404,
    title: 'No such resource server',
    detail: `No resource server ${client_id} is registered at ${issuer}.`,
  })
}
