import { admits } from '@curfew/domain'
import type { FastifyRequest } from 'fastify'
import { type Authenticate, type Credential, hasScope } from './credentials.ts'
import type { BodyType } from './json-body.ts'
import { ProblemError } from './problem.ts'
import { type RequestLimits, sizeUnits, unitsOfBytes, unitsOfElements } from './request-limits.ts'

/** The scope of routes that need no credential. */
export const PUBLIC = 'public'

/** The scope of routes that need a valid credential, with any scopes. */
export const ANY = 'any'

/** The access rules of a route. */
export interface RouteAccess<Scope extends string = string> {
  /** The scope that a caller needs, or `any`, or `public`. Every route declares one. */
  readonly scope: Scope
  /**
   * How a credential that is bound to an issuer or to clients is limited. Every route that is not public declares one way.
   * `path`: the credential must cover `:issuer` and `:client_id`. Otherwise the answer is 404, whether they exist or not.
   * `handler`: the route itself answers only with what the credential may see.
   * `unbound`: the route refuses such a credential.
   */
  readonly access: 'path' | 'handler' | 'unbound'
  /**
   * How the route's concurrent work is limited. Default `read` for a GET that is not public, otherwise `own`.
   * `read`: by `ReadLimits`. `own`: by the route itself.
   */
  readonly load?: 'read' | 'own'
  /** The media types that a body may have. Default `application/json` alone. */
  readonly accepts?: readonly BodyType[]
  /** Most elements of a body that is an array. A longer array is refused before it is parsed. Default: no limit. */
  readonly elementsMax?: number
  /** The budget that pays for a request. Default `reads` for GET and HEAD, otherwise `changes`. */
  readonly budget?: string
  /**
   * The cost of a request, in units.
   * `body` (the default): by the size and the elements of its body, at least 1.
   * `late`: the same, but 1 until the body is read. For a route that refuses some requests before that.
   * `handler`: 1, plus what the route itself charges, plus the size of the body. 1 KiB and 32 members of each element are free.
   * A number: this cost, for work that the body does not show.
   */
  readonly cost?: 'body' | 'late' | 'handler' | number
}

/** Spends the budgets of one caller. */
export interface Spending {
  /** See `RequestLimits.pay`. @throws a 429 problem when the budget is overdrawn. */
  pay(budget: string, units: number): void
  /** See `RequestLimits.charge`. */
  charge(budget: string, units: number, owedS?: number): void
}

/** Spends the budgets of one credential. */
export function spendingOf(credential: Credential, limits: RequestLimits): Spending {
  return {
    pay(budget, units) {
      const waitMs = limits.pay(credential, budget, units)
      if (waitMs > 0) throw overdrawn(budget, units, waitMs)
    },
    charge: (budget, units, owedS) => limits.charge(credential, budget, units, owedS),
  }
}

function overdrawn(budget: string, units: number, waitMs: number): ProblemError {
  const seconds = Math.ceil(waitMs / 1_000)
  return new ProblemError({
    status: 429,
    title: 'Too much at once',
    detail: `This credential has used up its budget for ${budget}. This request costs ${Math.ceil(units)}. Send it again in ${seconds} s.`,
    headers: { 'retry-after': String(seconds) },
  })
}

/** Pays before the body is read, by the size that the request declares. @throws a 429 problem. */
export function payUpFront(request: FastifyRequest, spending: Spending): void {
  spending.pay(budgetOf(request), upFrontUnits(request))
}

/** The free size of each element, for a route that charges for elements itself. */
const FREE = { bytes: 1_024, values: 32 }
/** Longest time that the charge beyond it delays the next requests of a credential, in seconds. */
const OWED_S = 5

/**
 * Charges for the size of a body before it is parsed, beyond the amount paid up front.
 *
 * @param size `elements` is the number that the route will charge for: 0 if the body is refused.
 */
export function chargeForSize(
  request: FastifyRequest,
  { elements, values }: { readonly elements: number; readonly values: number },
): void {
  const { spending, bodyBytes } = request
  if (request.routeOptions.config.cost === 'handler') {
    const beyond = sizeUnits(bodyBytes - elements * FREE.bytes, values - elements * FREE.values)
    if (beyond > 0) spending?.charge(budgetOf(request), beyond, OWED_S)
    return
  }
  const upFront = upFrontUnits(request)
  request.bodyUnits = Math.max(upFront, sizeUnits(bodyBytes, values))
  if (request.bodyUnits > upFront) spending?.charge(budgetOf(request), request.bodyUnits - upFront)
}

/** Charges for the elements of a body, beyond the amount paid for its size. */
export function chargeForElements(request: FastifyRequest): void {
  const { cost = 'body' } = request.routeOptions.config
  if ((cost !== 'body' && cost !== 'late') || request.spending === null) return
  const elements = Array.isArray(request.body) ? request.body.length : 1
  const more = unitsOfElements(elements) - Math.max(upFrontUnits(request), request.bodyUnits)
  if (more > 0) request.spending.charge(budgetOf(request), more)
}

function upFrontUnits({ headers, routeOptions: { config } }: FastifyRequest): number {
  const { cost = 'body' } = config
  if (typeof cost === 'number') return cost
  const bytes = Number(headers['content-length'] ?? 0)
  return cost === 'body' && Number.isFinite(bytes) ? unitsOfBytes(bytes) : 1
}

function budgetOf({ method, routeOptions: { config } }: FastifyRequest): string {
  return config.budget ?? (method === 'GET' || method === 'HEAD' ? 'reads' : 'changes')
}

/**
 * Identifies the caller and checks its scope.
 *
 * @param pay charges the caller before its scope is checked.
 * @throws a 401, 403 or 429 problem.
 */
export async function authorize(
  request: FastifyRequest,
  scope: string,
  { authenticate, pay }: { authenticate: Authenticate; pay: (credential: Credential) => void },
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
  pay(credential)
  if (scope !== ANY && !hasScope(credential, scope)) {
    throw refuse(403, `This needs the scope ${scope}.`, ` error="insufficient_scope", scope="${scope}"`)
  }
  return credential
}

/** Refuses a bound credential outside its access filter. @throws a 403 or 404 problem. */
export function enforceAccess(request: FastifyRequest, { access }: Credential): void {
  const { access: how } = request.routeOptions.config
  if (access.kind === 'everything' || how === 'handler') return
  if (how !== 'path') {
    throw new ProblemError({
      status: 403,
      detail: 'This needs a credential that is bound neither to an issuer nor to clients.',
    })
  }
  const { issuer = '', client_id: clientId = null } = request.params as Record<string, string | undefined>
  if (admits(access, { issuer, clientId })) return
  // The same answer whether the resource exists or not.
  throw new ProblemError({ status: 404, detail: 'There is nothing here that this credential may see.' })
}
