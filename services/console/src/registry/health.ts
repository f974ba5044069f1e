import { lastErrorView, RelyingPartyHealth, type Scope, withoutWords } from '@curfew/contract'
import { type Database, type EndpointHealthRecord, endpointsHealth, findRelyingParty } from '@curfew/ledger'
import { callerOf, type HttpServer, hasScope, type RouteAccess } from '@curfew/runtime'
import { noSuchParty, PartyParams } from './relying-parties.ts'

/** `/v1/issuers/{issuer}/relying-parties/{client_id}/health`: the recent results of each endpoint of an RP. */
export function registerHealth(server: HttpServer, { db }: { db: Database }): void {
  server.get(
    '/v1/issuers/:issuer/relying-parties/:client_id/health',
    {
      config: { scope: 'clients:read', access: 'path' } satisfies RouteAccess<Scope>,
      schema: {
        operationId: 'getRelyingPartyHealth',
        tags: ['Relying parties'],
        summary: 'Get the recent results of each endpoint of a relying party.',
        params: PartyParams,
        response: { 200: RelyingPartyHealth },
      },
    },
    async (request): Promise<RelyingPartyHealth> => {
      const { issuer, client_id: clientId } = request.params
      const party = await findRelyingParty(db, { issuer, clientId })
      if (party === null) throw noSuchParty(request.params)
      const mayReadWords = hasScope(callerOf(request), 'ledger:read')
      const endpoints = await endpointsHealth(db, { issuer, clientId })
      return {
        client_id: clientId,
        issuer,
        client_name: party.clientName,
        waiting: endpoints.reduce((sum, { waiting }) => sum + waiting, 0),
        endpoints: endpoints.map((endpoint) => healthView(endpoint, mayReadWords)),
      }
    },
  )
}

/** @param mayReadWords whether the caller may read the words of the relying party. */
function healthView(
  endpoint: EndpointHealthRecord,
  mayReadWords: boolean,
): RelyingPartyHealth['endpoints'][number] {
  const { settled, acknowledged, alreadyEnded, elapsedMs, lastError } = endpoint
  const share = (count: number) => (settled === 0 ? null : count / settled)
  return {
    channel: endpoint.kind,
    name: endpoint.name,
    uri: endpoint.uri,
    enabled: endpoint.disabledReason === null,
    disabled_reason: endpoint.disabledReason,
    breaker: {
      state: endpoint.openedAt === null ? 'closed' : 'open',
      opened_at: endpoint.openedAt?.toISOString() ?? null,
    },
    waiting: endpoint.waiting,
    waiting_since: endpoint.waitingSince?.toISOString() ?? null,
    settled,
    share_acknowledged: share(acknowledged),
    share_already_ended: share(alreadyEnded),
    last_acknowledged_at: endpoint.lastAcknowledgedAt?.toISOString() ?? null,
    last_error: lastError && lastErrorView(mayReadWords ? lastError : withoutWords(lastError)),
    elapsed_ms: elapsedMs === null ? null : { p50: elapsedMs[0], p95: elapsedMs[1], p99: elapsedMs[2] },
  }
}
