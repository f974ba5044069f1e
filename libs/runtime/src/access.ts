import { admits } from '@curfew/domain'
import type { FastifyRequest } from 'fastify'
import { type Authenticate, type Credential, hasScope } from './credentials.ts'
import type { BodyType } from './json-body.ts'
import { ProblemError } from './problem.ts'
import { type RequestLimits, sizeUnits, unitsOfBytes, unitsOfElements } from './request-limits.ts'

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
  readonly access: 'path' | 'handler' | 'unbound'
  /**
   * How much of its work is done at once. Default `read` where it is a GET that is not public, else `own`.
   * `read`: as `ReadLimits` have it. `own`: the route sees to it.
   */
  readonly load?: 'read' | 'own'
  /** What a body may be sent as. Default `application/json` alone. */
  readonly accepts?: readonly BodyType[]
  /** Most elements of a body that is an array. A longer array is refused before it is parsed. Default: no limit of its own. */
  readonly elementsMax?: number
  /** The budget that requests are paid from. Default `reads` for GET and HEAD, else `changes`. */
  readonly budget?: string
  /**
   * What a request costs. `body`, the default: by the size and elements of its body, and 1 at least. `late`: the same, but 1 until
   * the body is read, for a route that refuses some requests before. `handler`: 1, what the route itself charges for, and the
   * size of the body beyond 1 KiB and 32 members for each element. A number: that much, for work that no body shows.
   */
  readonly cost?: 'body' | 'late' | 'handler' | number
}

/** What a caller may spend. */
export interface Spending {
  /** See `RequestLimits.pay`. @throws a 429 problem where the budget is overdrawn. */
  pay(budget: string, units: number): void
  /** See `RequestLimits.charge`. */
  charge(budget: string, units: number, owedS?: number): void
}

/** The budgets of one credential. */
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

/** Pays at the door for what a request says of itself. @throws a 429 problem. */
export function payAtTheDoor(request: FastifyRequest, spending: Spending): void {
  spending.pay(budgetOf(request), atTheDoor(request))
}

/** What each element of a body has free where the route charges for its elements. */
const FREE = { bytes: 1_024, values: 32 }
/** Longest that a body beyond that holds up the next requests of a credential, in seconds. */
const OWED_S = 5

/**
 * Charges for a body by its size before it is parsed, beyond what was paid at the door.
 *
 * @param size `elements` is how many the route will charge for: 0 if the body is refused.
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
  const door = atTheDoor(request)
  request.bodyUnits = Math.max(door, sizeUnits(bodyBytes, values))
  if (request.bodyUnits > door) spending?.charge(budgetOf(request), request.bodyUnits - door)
}

/** Charges for the elements of a body, beyond what was paid for its size. */
export function chargeForElements(request: FastifyRequest): void {
  const { cost = 'body' } = request.routeOptions.config
  if ((cost !== 'body' && cost !== 'late') || request.spending === null) return
  const elements = Array.isArray(request.body) ? request.body.length : 1
  const more = unitsOfElements(elements) - Math.max(atTheDoor(request), request.bodyUnits)
  if (more > 0) request.spending.charge(budgetOf(request), more)
}

function atTheDoor({ headers, routeOptions: { config } }: FastifyRequest): number {
  const { cost = 'body' } = config
  if (typeof cost === 'number') return cost
  const bytes = Number(headers['content-length'] ?? 0)
  return cost === 'body' && Number.isFinite(bytes) ? unitsOfBytes(bytes) : 1
}

function budgetOf({ method, routeOptions: { config } }: FastifyRequest): string {
  return config.budget ?? (method === 'GET' || method === 'HEAD' ? 'reads' : 'changes')
}

/** Who calls, if they may do what the route needs. @param pay is called once it is known who calls. @throws a 401, 403 or 429 problem. */
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
  if (!hasScope(credential, scope)) {
    throw refuse(403, `This needs the scope ${scope}.`, ` error="insufficient_scope", scope="${scope}"`)
  }
  return credential
}

/** Keeps a bound credential from all that is not its own. @throws a 403 or 404 problem. */
export function confine(request: FastifyRequest, { access }: Credential): void {
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
  // The same whether it is there or not.
  throw new ProblemError({ status: 404, detail: 'There is nothing here that this credential may see.' })
}
