import { PageQuery, page, RelyingParty, RelyingPartyInput, type Scope } from '@curfew/client'
import { type ClientId, type IssuerName, SIGNING_ALGORITHMS, type SigningAlgorithm } from '@curfew/domain'
import {
  type Database,
  findRelyingParty,
  listRelyingParties,
  putRelyingParty,
  type RelyingPartyRecord,
  type StoredMetadata,
  type StoredSettings,
} from '@curfew/ledger'
import { type Fault, type HttpServer, ProblemError, type RouteAccess } from '@curfew/runtime'
import { Type } from 'typebox'
import { encryptionFaults } from './client-encryption.ts'
import { clientTlsFaults, clientTlsView, storedClientTls } from './client-tls.ts'
import { IssuerParams, issuerOr404, networkFaults } from './issuers.ts'
import { pageOf, readCursor } from './pages.ts'

const READ = { scope: 'clients:read', reach: 'path' } satisfies RouteAccess<Scope>
const WRITE = { scope: 'clients:write', reach: 'path' } satisfies RouteAccess<Scope>
const PATH = '/v1/issuers/:issuer/relying-parties/:client_id'

const Params = Type.Object({
  ...IssuerParams.properties,
  client_id: Type.String({ minLength: 1, maxLength: 255, pattern: '^[\\x20-\\x7e]+$' }),
})

/** Members of a client's metadata that are secrets between it and its IdP. We have no use for them, so they are not kept. */
const SECRETS = ['client_secret', 'client_secret_expires_at', 'registration_access_token']
/** Members that our answers add. Who reads a registration, changes it and puts it back sends them along. */
const OURS = ['issuer', 'status', 'links']

export interface RelyingPartiesDeps {
  readonly db: Database
  /** Makes sure that a key exists, so that the IdP can publish it before the first logout. */
  ensureKey(issuer: IssuerName, algorithm: SigningAlgorithm): Promise<void>
  /** Seals the private key of a client certificate, so that it can be stored. */
  sealClientKey(key: string, owner: { issuer: IssuerName; clientId: ClientId }): Promise<string>
  /** What is wrong with an endpoint's URI, in words, or null. */
  targetFault(uri: string, allowedNetworks: readonly string[]): string | null
}

/** `/v1/issuers/{issuer}/relying-parties`: who is told when a session of the issuer ends. */
export function registerRelyingParties(server: HttpServer, deps: RelyingPartiesDeps): void {
  const { db } = deps
  server.put(
    PATH,
    {
      config: WRITE,
      schema: {
        summary:
          'Register a relying party, or replace its registration. The body is its OIDC client metadata as it stands.',
        params: Params,
        body: RelyingPartyInput,
        response: { 200: RelyingParty, 201: RelyingParty },
      },
    },
    async (request, reply) => {
      const clientId = request.params.client_id as ClientId
      const issuer = await issuerOr404(db, request.params.issuer)
      const { curfew: { tls, ...settings } = {}, ...metadata } = request.body
      const before = tls === undefined ? null : await findRelyingParty(db, { issuer: issuer.name, clientId })
      const stored = before?.settings.tls
      const uri = metadata.backchannel_logout_uri ?? null
      const allowed = settings.allowed_networks ?? issuer.defaults.allowed_networks ?? []
      const faults = [
        ...metadataFaults(metadata, clientId),
        ...encryptionFaults(metadata, (address) => deps.targetFault(address, allowed)),
        ...networkFaults(settings.allowed_networks, '/curfew/allowed_networks'),
        ...clientTlsFaults(tls, { stored, uri }),
      ]
      const uriFault = uri === null || faults.length > 0 ? null : deps.targetFault(uri, allowed)
      if (uriFault !== null) faults.push({ pointer: '/backchannel_logout_uri', detail: uriFault })
      if (faults.length > 0) {
        throw new ProblemError({
          status: 400,
          title: 'Invalid relying party',
          detail: 'Nothing was changed.',
          errors: faults,
        })
      }
      const seal = (key: string) => deps.sealClientKey(key, { issuer: issuer.name, clientId })
      const algorithm = (metadata.id_token_signed_response_alg ?? 'RS256') as SigningAlgorithm
      if (uri !== null) await deps.ensureKey(issuer.name, algorithm)
      const { created, party } = await putRelyingParty(db, {
        issuer: issuer.name,
        clientId,
        metadata: storable(metadata),
        settings: {
          ...(settings as StoredSettings),
          ...(tls !== undefined && { tls: await storedClientTls(tls, { stored, seal }) }),
        },
        uri,
        disabledReason: settings.enabled === false ? 'disabled by its owner' : null,
      })
      return reply.code(created ? 201 : 200).send(partyView(party))
    },
  )

  server.get(
    PATH,
    {
      config: READ,
      schema: { summary: 'A relying party.', params: Params, response: { 200: RelyingParty } },
    },
    async (request) => {
      const { issuer, client_id: clientId } = request.params
      const party = await findRelyingParty(db, { issuer, clientId })
      if (party !== null) return partyView(party)
      throw new ProblemError({
        status: 404,
        title: 'No such relying party',
        detail: `No relying party ${clientId} is registered at ${issuer}.`,
      })
    },
  )

  server.get(
    '/v1/issuers/:issuer/relying-parties',
    {
      config: READ,
      schema: {
        summary: 'The relying parties of an issuer.',
        params: IssuerParams,
        querystring: PageQuery,
        response: { 200: page(RelyingParty) },
      },
    },
    async (request) => {
      const { name } = await issuerOr404(db, request.params.issuer)
      const { limit, cursor } = request.query
      const parties = await listRelyingParties(db, {
        issuer: name,
        after: readCursor(cursor) ?? '',
        limit: limit + 1,
      })
      return pageOf(parties, limit, ({ clientId }) => clientId, partyView)
    },
  )
}

function metadataFaults(metadata: Omit<RelyingPartyInput, 'curfew'>, clientId: ClientId): Fault[] {
  const faults: Fault[] = []
  if (metadata.client_id !== undefined && metadata.client_id !== clientId) {
    faults.push({ pointer: '/client_id', detail: 'must be the client_id of the path, or be left out' })
  }
  const algorithm = metadata.id_token_signed_response_alg
  if (algorithm !== undefined && !SIGNING_ALGORITHMS.some((supported) => supported === algorithm)) {
    faults.push({
      pointer: '/id_token_signed_response_alg',
      detail: `must be one of ${SIGNING_ALGORITHMS.join(', ')}: logout tokens are signed like ID tokens`,
    })
  }
  return faults
}

function storable(metadata: StoredMetadata): StoredMetadata {
  const left = [...SECRETS, ...OURS]
  return Object.fromEntries(Object.entries(metadata).filter(([name]) => !left.includes(name)))
}

function partyView(party: RelyingPartyRecord): RelyingParty {
  const self = `/v1/issuers/${party.issuer}/relying-parties/${encodeURIComponent(party.clientId)}`
  const { tls, ...settings } = party.settings
  const query = new URLSearchParams({ issuer: party.issuer, client_id: party.clientId })
  return {
    ...party.metadata,
    client_id: party.clientId,
    issuer: party.issuer,
    curfew: {
      ...(settings as RelyingParty['curfew']),
      ...(tls !== undefined && { tls: clientTlsView(tls) }),
    },
    status: {
      enabled: party.disabledReason === null,
      disabled_reason: party.disabledReason,
      created_at: party.createdAt.toISOString(),
      updated_at: party.updatedAt.toISOString(),
    },
    links: { self, deliveries: `/v1/deliveries?${query}` },
  }
}
