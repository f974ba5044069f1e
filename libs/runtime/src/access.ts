import { reaches } from '@curfew/domain'
import type { FastifyRequest } from 'fastify'
import { type Authenticate, type Credential, hasScope } from './credentials.ts'
import type { BodyType } from './json-body.ts'
import { ProblemError } from './problem.ts'
import type { RequestLimits } from './request-limits.ts'

/** The scope of what everybody may call. */
export const PUBLIC = 'public'

/** What a route asks of its callers. */
export interface RouteAccess<Scope extends string = string> {
  /** The scope that a caller needs, or `public`. Every route says one. */
  readonly scope: Scope
  /**
   * How a credential that is bound to an issuer or to clients is confined; every route that is not public says one way.
   * `path`: what `:issuer` and `:client_id` name must lie within its reach, or it is a 404, there or not.
   * `handler`: the route itself answers with nothing else.
   * `unbound`: such a credential is refused.
   */
  readonly reach: 'path' | 'handler' | 'unbound'
  /**
   * How much of its work is done at once. Default `read` where it is a GET that is not public, else `own`.
   * `read`: as `ReadLimits` have it. `own`: the route sees to it.
   */
  readonly load?: 'read' | 'own'
  /** What a body may be sent as. Default `application/json` alone. */
  readonly accepts?: readonly BodyType[]
}

/** Who calls, if they may do what the route needs. @throws a 401, 403 or 429 problem. */
export async function authorize(
  request: FastifyRequest,
  scope: string,
  { authenticate, limits }: { authenticate: Authenticate; limits: RequestLimits },
): Promise<Credential> {
  const refuse = (status: 401 | 403, detail: string, challenge: string) =>
    new ProblemError({ status, detail, headers: { 'www-authenticate': `Bearer${challenge}` } })
  const { authorization } = request.headers
  if (authorization === undefined) {
    throw refuse(401, 'Give an API key or access token: Authorization: Bearer ….', '')
  }
  const token = /^Bearer +([\w\-.~+/]+=*) *$/i.exec(authorization)?.[1]
  if (token === undefined) throw refuse(401, 'The Authorization header is not of the form Bearer ….', '')
  const credential = await authenticate(token)
  if (credential === null) throw refuse(401, 'This key or token is not valid.', ' error="invalid_token"')
  const waitMs = limits.take(credential)
  if (waitMs > 0) {
    throw new ProblemError({
      status: 429,
      detail: 'This credential has made too many requests in the last seconds.',
      headers: { 'retry-after': String(Math.ceil(waitMs / 1_000)) },
    })
  }
  if (!hasScope(credential, scope)) {
    throw refuse(403, `This needs the scope ${scope}.`, ` error="insufficient_scope", scope="${scope}"`)
  }
  return credential
}

/** Keeps a bound credential from all that is not its own. @throws a 403 or 404 problem. */
export function confine(request: FastifyRequest, { reach }: Credential): void {
  const { reach: how } = request.routeOptions.config
  if (reach.kind === 'everything' || how === 'handler') return
  if (how !== 'path') {
    throw new ProblemError({
      status: 403,
      detail: 'This needs a credential that is bound neither to an issuer nor to clients.',
    })
  }
  const { issuer = '', client_id: clientId = null } = request.params as Record<string, string | undefined>
  if (reaches(reach, { issuer, clientId })) return
  // The same whether it is there or not.
  throw new ProblemError({ status: 404, detail: 'There is nothing here that this credential may see.' })
}
