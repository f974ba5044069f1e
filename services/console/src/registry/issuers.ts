import { Issuer, IssuerInput, PageQuery, page, type Scope } from '@curfew/contract'
import {
  conditionsOf,
  type Issuer as Iss,
  type IssuerName,
  issuerNetworkAccess,
  type NetworkAccess,
  type NetworkRank,
  type NetworkRule,
  ruleAfter,
  ruleAfterRemoval,
} from '@curfew/domain'
import {
  type Change,
  type Database,
  findEventNames,
  findIssuer,
  findIssuerNetworkRule,
  type IssuerQuotas,
  type IssuerRecord,
  listIssuers,
  putIssuer,
  removeIssuer,
  type StoredSettings,
} from '@curfew/ledger'
import {
  type Credential,
  callerOf,
  type Fault,
  type HttpServer,
  hasScope,
  ProblemError,
  type RouteAccess,
} from '@curfew/runtime'
import { Type } from 'typebox'
import type { Pages } from '../http/pages.ts'
import {
  etagOf,
  isKnown,
  mayChange,
  NO_BODY,
  type Preconditions,
  preconditionFailed,
} from '../http/preconditions.ts'
import { endpointsUnder } from './channel-parts.ts'
import { beyondFaults, networkFaults, networkRank, registeredNetworks } from './networks.ts'
import type { RegistrationDeps } from './registration.ts'
import type { RelayAddresses } from './relay.ts'

const READ = { scope: 'clients:read', access: 'path' } satisfies RouteAccess<Scope>
const PATH = '/v1/issuers/:issuer'
const WRITE = { scope: 'clients:write', access: 'path' } satisfies RouteAccess<Scope>

export const IssuerParams = Type.Object({
  issuer: Type.String({
    pattern: '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$',
    description: 'Short name of the issuer.',
  }),
})

export interface IssuersDeps extends Pick<RegistrationDeps, 'targetFault' | 'ceiling' | 'relay'> {
  readonly db: Database
  readonly pages: Pages
}

/** `/v1/issuers`: the OpenID Providers. */
export function registerIssuers(
  server: HttpServer,
  { db, ceiling, pages, targetFault, relay }: IssuersDeps,
): void {
  const viewOf = (issuer: IssuerRecord) => issuerView(issuer, relay)
  server.put(
    PATH,
    {
      config: WRITE,
      schema: {
        operationId: 'putIssuer',
        tags: ['Issuers'],
        summary: 'Register an issuer, or change its SLA and defaults.',
        params: IssuerParams,
        body: IssuerInput,
        response: { 200: Issuer, 201: Issuer },
      },
    },
    async (request, reply) => {
      const { iss, sla, sid_supported: sidSupported = true, defaults = {} } = request.body
      const { session_index: sessionIndex = 'partial' } = request.body
      const rank = networkRank(callerOf(request))
      const rule = await findIssuerNetworkRule(db, request.params.issuer)
      const networks = registeredNetworks(defaults.allowed_networks, { rank, rule })
      const networkRule =
        rank === 'admin' ? ruleAfter(rule, { rank, asked: defaults.allowed_networks }) : undefined
      const faults = issuerFaults(request.body, {
        ofNetworks: defaultsFaults(defaults.allowed_networks, { rank, rule, ceiling }),
        access: issuerNetworkAccess({
          chosen: networks,
          rule: networkRule === undefined ? rule : networkRule,
        }),
        targetFault,
      })
      if (faults.length > 0) throw invalidIssuer(faults)
      const quotas = await quotasFor(db, request)
      const guard = guardOf(request, viewOf)
      const result = await putIssuer(
        db,
        {
          name: request.params.issuer as IssuerName,
          iss: iss as Iss,
          slaWithinMs: sla?.within_ms ?? 5_000,
          slaObjective: sla?.objective ?? 0.999,
          slaWindowDays: sla?.window_days ?? 30,
          sidSupported,
          sessionIndex,
          subjectType: request.body.subject_type ?? 'public',
          relay: {
            jwksUri: request.body.jwks_uri ?? null,
            lenient: request.body.lenient_logout_tokens ?? false,
            widen: request.body.widen ?? false,
          },
          cutoffs: {
            maxTokenTtlS: request.body.max_token_ttl ?? 3_600,
            widenToSubject: request.body.widen_to_subject ?? false,
          },
          strategy: request.body.strategy ?? null,
          ...(quotas !== null && { quotas }),
          defaults: {
            ...(defaults as StoredSettings),
            ...(networks !== undefined && { allowed_networks: networks }),
          },
          ...(networkRule !== undefined && { networkRule }),
        },
        { ...guard, endpointsOf: endpointsUnder },
      )
      if (result.ok) {
        return reply
          .code(result.created ? 201 : 200)
          .header('etag', etagOf(result.issuer))
          .send(viewOf(result.issuer))
      }
      if (result.conflict === 'stale') throw guard.failed()
      throw new ProblemError({
        status: 409,
        title: 'Issuer conflict',
        detail:
          result.conflict === 'iss_changed'
            ? 'This name has another iss, which its history and keys belong to. Register the new iss under a new name.'
            : 'Another name has this iss, or had it before it was removed. Register the iss under that name.',
        errors: [{ pointer: '/iss', detail: 'belongs to another registration' }],
      })
    },
  )

  server.get(
    PATH,
    {
      config: READ,
      schema: {
        operationId: 'getIssuer',
        tags: ['Issuers'],
        summary: 'Get an issuer.',
        params: IssuerParams,
        response: { 200: Issuer },
      },
    },
    async (request, reply) => {
      const issuer = await issuerOr404(db, request.params.issuer)
      reply.header('etag', etagOf(issuer))
      if (isKnown(request.headers, issuer)) return reply.code(304 as 200).send(NO_BODY)
      return viewOf(issuer)
    },
  )

  server.delete(
    PATH,
    {
      config: WRITE,
      schema: {
        operationId: 'deleteIssuer',
        tags: ['Issuers'],
        summary: 'Remove an issuer that has no relying parties. Its history and keys stay.',
        params: IssuerParams,
        response: { 200: Issuer },
      },
    },
    async (request) => {
      const { issuer: name } = request.params
      const guard = guardOf(request, viewOf)
      const result = await removeIssuer(db, name, {
        ...guard,
        ruleLeft: (rule) => ruleAfterRemoval(rule, { rank: networkRank(callerOf(request)), ceiling }),
      })
      if (result.ok) return viewOf(result.issuer)
      if (result.conflict === 'stale') throw guard.failed()
      if (result.conflict !== 'in_use') throw noSuchIssuer(name)
      throw new ProblemError({
        status: 409,
        title: 'Issuer in use',
        detail: `${result.relyingParties} relying parties are registered with this issuer. Remove them first.`,
      })
    },
  )

  server.get(
    '/v1/issuers',
    {
      config: { ...READ, access: 'handler' },
      schema: {
        operationId: 'listIssuers',
        tags: ['Issuers'],
        summary: 'List the issuers that the credential may see.',
        querystring: PageQuery,
        response: { 200: page(Issuer) },
      },
    },
    async (request) => {
      const { limit, cursor } = request.query
      const { issuer: only, clientIds } = conditionsOf(callerOf(request).access)
      const { readCursor, pageOf } = pages(request)
      const after = readCursor(cursor) ?? ''
      // A credential that is bound to clients may not see the issuer itself.
      const issuers = clientIds === null ? await listIssuers(db, { after, limit: limit + 1, only }) : []
      return pageOf(issuers, limit, ({ name }) => name, viewOf)
    },
  )
}

/** The faults of an issuer. @param access the networks after the change, if they have no faults. */
function issuerFaults(
  { iss, jwks_uri: jwksUri = null }: IssuerInput,
  {
    ofNetworks,
    access,
    targetFault,
  }: { ofNetworks: readonly Fault[]; access: NetworkAccess } & Pick<IssuersDeps, 'targetFault'>,
): readonly Fault[] {
  const faults = [...ofNetworks]
  if (!URL.canParse(iss)) faults.push({ pointer: '/iss', detail: 'is not a URL' })
  const ofKeys = jwksUri === null || ofNetworks.length > 0 ? null : targetFault(jwksUri, access)
  if (ofKeys !== null) faults.push({ pointer: '/jwks_uri', detail: ofKeys })
  return faults
}

function invalidIssuer(errors: readonly Fault[]): ProblemError {
  return new ProblemError({
    status: 400,
    title: 'Invalid issuer',
    detail: 'Nothing was changed. Correct the faults in errors and send the request again.',
    errors,
  })
}

/** The faults of the default networks of an issuer's relying parties. */
function defaultsFaults(
  networks: readonly string[] | undefined,
  where: { rank: NetworkRank; rule: NetworkRule | null; ceiling: readonly string[] },
): Fault[] {
  const pointer = '/defaults/allowed_networks'
  const faults = networkFaults(networks, pointer)
  return faults.length > 0
    ? faults
    : beyondFaults(networks, pointer, { ...where, issuer: { chosen: undefined, rule: null } })
}

/**
 * The quotas that a request changes; null if it changes none. Only an unbound admin may change them. Other callers may send the
 * present quotas, so that they can put back what they read.
 *
 * @throws a 403 problem if another caller changes them.
 */
async function quotasFor(
  db: Database,
  request: {
    readonly body: IssuerInput
    readonly params: { readonly issuer: string }
    readonly credential: Credential | null
  },
): Promise<Partial<IssuerQuotas> | null> {
  const { sessions, relying_parties: relyingParties } = request.body.quotas ?? {}
  const asked = {
    ...(sessions !== undefined && { sessions }),
    ...(relyingParties !== undefined && { relyingParties }),
  }
  const caller = callerOf(request)
  if (caller.access.kind === 'everything' && hasScope(caller, 'admin')) return asked
  const before = (await findIssuer(db, request.params.issuer))?.quotas
  const others = Object.entries(asked).filter(
    ([name, quota]) => quota !== (before?.[name as keyof IssuerQuotas] ?? null),
  )
  // Equal quotas are not written, because an admin may change them at the same time.
  if (others.length === 0) return null
  throw new ProblemError({
    status: 403,
    detail: 'Nothing was changed. Omit quotas, or ask an unbound admin to change them.',
    errors: [
      {
        pointer: '/quotas',
        detail: 'can be changed only by a credential with the scope admin that is not bound to an issuer',
      },
    ],
  })
}

/** The preconditions of a change of an issuer, and its audit entry. */
function guardOf(
  request: { readonly headers: Preconditions; readonly credential: Credential | null },
  viewOf: (issuer: IssuerRecord) => Issuer,
) {
  let found: IssuerRecord | null = null
  return {
    expected(before: IssuerRecord | null) {
      found = before
      return mayChange(request.headers, before)
    },
    audit: issuerChange(callerOf(request).name, viewOf),
    failed: () => preconditionFailed(request.headers, found),
  }
}

function issuerChange(credential: string, viewOf: (issuer: IssuerRecord) => Issuer): Change<IssuerRecord> {
  return (before, after) => ({
    credential,
    action: `issuer.${before === null ? 'created' : after === null ? 'deleted' : 'changed'}`,
    object: `/v1/issuers/${(after ?? before)?.name}`,
    detail: {
      before: before === null ? null : viewOf(before),
      after: after === null ? null : viewOf(after),
    },
  })
}

/** The issuer of a name. @throws a 404 problem if there is none. */
export async function issuerOr404(db: Database, name: string): Promise<IssuerRecord> {
  const issuer = await findIssuer(db, name)
  if (issuer !== null) return issuer
  throw noSuchIssuer(name)
}

/** Whether all logouts of an issuer so far name subjects and no sessions. False if there was none. */
export async function namesOnlySubjects(db: Database, { iss }: Pick<IssuerRecord, 'iss'>): Promise<boolean> {
  const { subjects, sessions } = await findEventNames(db, iss)
  return subjects && !sessions
}

export function noSuchIssuer(name: string): ProblemError {
  return new ProblemError({
    status: 404,
    title: 'No such issuer',
    detail: `No issuer is registered as ${name}.`,
  })
}

function issuerView(issuer: IssuerRecord, relay: RelayAddresses): Issuer {
  const self = `/v1/issuers/${issuer.name}`
  return {
    name: issuer.name,
    iss: issuer.iss,
    sla: {
      within_ms: issuer.slaWithinMs,
      objective: issuer.slaObjective,
      window_days: issuer.slaWindowDays,
    },
    sid_supported: issuer.sidSupported,
    session_index: issuer.sessionIndex,
    subject_type: issuer.subjectType,
    jwks_uri: issuer.relay.jwksUri,
    lenient_logout_tokens: issuer.relay.lenient,
    widen: issuer.relay.widen,
    max_token_ttl: issuer.cutoffs.maxTokenTtlS,
    widen_to_subject: issuer.cutoffs.widenToSubject,
    strategy: issuer.strategy,
    quotas: { sessions: issuer.quotas.sessions, relying_parties: issuer.quotas.relyingParties },
    defaults: issuer.defaults as Issuer['defaults'],
    created_at: issuer.createdAt.toISOString(),
    updated_at: issuer.updatedAt.toISOString(),
    links: {
      self,
      jwks: `/issuers/${issuer.name}/jwks.json`,
      relying_parties: `${self}/relying-parties`,
      relay: relay.template(issuer.name),
    },
  }
}
