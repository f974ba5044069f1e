import { Issuer, IssuerInput, PageQuery, page, type Scope } from '@curfew/client'
import type { Issuer as Iss, IssuerName } from '@curfew/domain'
import {
  type Database,
  findIssuer,
  type IssuerRecord,
  listIssuers,
  putIssuer,
  type StoredSettings,
} from '@curfew/ledger'
import { type Fault, type HttpServer, isCidr, ProblemError, type RouteAccess } from '@curfew/runtime'
import { Type } from 'typebox'
import { pageOf, readCursor } from './pages.ts'

const READ = { scope: 'clients:read', reach: 'path' } satisfies RouteAccess<Scope>
const WRITE = { scope: 'clients:write', reach: 'path' } satisfies RouteAccess<Scope>

export const IssuerParams = Type.Object({
  issuer: Type.String({
    pattern: '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$',
    description: 'Short name of the issuer.',
  }),
})

/** `/v1/issuers`: the OpenID Providers whose sessions end. */
export function registerIssuers(server: HttpServer, { db }: { db: Database }): void {
  server.put(
    '/v1/issuers/:issuer',
    {
      config: WRITE,
      schema: {
        summary: 'Register an issuer, or change its SLA and defaults.',
        params: IssuerParams,
        body: IssuerInput,
        response: { 200: Issuer, 201: Issuer },
      },
    },
    async (request, reply) => {
      const { iss, sla, defaults = {} } = request.body
      const faults = networkFaults(defaults.allowed_networks, '/defaults/allowed_networks')
      if (!URL.canParse(iss)) faults.push({ pointer: '/iss', detail: 'is not a URL' })
      if (faults.length > 0) {
        throw new ProblemError({
          status: 400,
          title: 'Invalid issuer',
          detail: 'Nothing was changed.',
          errors: faults,
        })
      }
      const result = await putIssuer(db, {
        name: request.params.issuer as IssuerName,
        iss: iss as Iss,
        slaWithinMs: sla?.within_ms ?? 5_000,
        slaObjective: sla?.objective ?? 0.999,
        defaults: defaults as StoredSettings,
      })
      if (!result.ok) {
        throw new ProblemError({
          status: 409,
          title: 'Issuer conflict',
          detail:
            result.conflict === 'iss_changed'
              ? 'This name has another iss, which its history and keys hang on. Register the new iss under a new name.'
              : 'Another name has this iss already.',
          errors: [{ pointer: '/iss', detail: 'belongs to another registration' }],
        })
      }
      return reply.code(result.created ? 201 : 200).send(issuerView(result.issuer))
    },
  )

  server.get(
    '/v1/issuers/:issuer',
    { config: READ, schema: { summary: 'An issuer.', params: IssuerParams, response: { 200: Issuer } } },
    async (request) => issuerView(await issuerOr404(db, request.params.issuer)),
  )

  server.get(
    '/v1/issuers',
    {
      config: { ...READ, reach: 'unbound' },
      schema: { summary: 'All issuers.', querystring: PageQuery, response: { 200: page(Issuer) } },
    },
    async ({ query: { limit, cursor } }) => {
      const issuers = await listIssuers(db, { after: readCursor(cursor) ?? '', limit: limit + 1 })
      return pageOf(issuers, limit, ({ name }) => name, issuerView)
    },
  )
}

/** The issuer of this name. @throws a 404 problem. */
export async function issuerOr404(db: Database, name: string): Promise<IssuerRecord> {
  const issuer = await findIssuer(db, name)
  if (issuer !== null) return issuer
  throw new ProblemError({
    status: 404,
    title: 'No such issuer',
    detail: `No issuer is registered as ${name}.`,
  })
}

function issuerView(issuer: IssuerRecord): Issuer {
  const self = `/v1/issuers/${issuer.name}`
  return {
    name: issuer.name,
    iss: issuer.iss,
    sla: { within_ms: issuer.slaWithinMs, objective: issuer.slaObjective },
    defaults: issuer.defaults as Issuer['defaults'],
    created_at: issuer.createdAt.toISOString(),
    updated_at: issuer.updatedAt.toISOString(),
    links: { self, jwks: `/issuers/${issuer.name}/jwks.json`, relying_parties: `${self}/relying-parties` },
  }
}

/** What is wrong with a list of CIDRs. */
export function networkFaults(networks: readonly string[] | undefined, pointer: string): Fault[] {
  return (networks ?? []).flatMap((network, index) =>
    isCidr(network)
      ? []
      : [{ pointer: `${pointer}/${index}`, detail: 'must be a CIDR such as 10.0.0.0/8 or fd00::/8' }],
  )
}
