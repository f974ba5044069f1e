import { DeniedError } from '../errors.ts'
import { createGuard, type GuardOptions } from '../guard.ts'
import type { TokenClaims } from '../rule.ts'

export interface SessionGuardOptions<Request, Response> extends Omit<GuardOptions<Request>, 'introspect'> {
  /**
   * The claims of the login that the session cookie carries: `iss`, `sub`, `sid` and `iat` of the ID token, as it was at the login. Null:
   * there is no login.
   */
  readonly claimsOf: (
    request: Request,
    response: Response,
  ) => TokenClaims | null | Promise<TokenClaims | null>
  /** Deletes the cookie, and goes on or answers. The request must not be treated as that of a user. */
  readonly onEnded: (
    request: Request,
    response: Response,
    next: (error?: unknown) => void,
  ) => void | Promise<void>
  /** Asks whether the session of these claims lives, for the policy `introspect`. */
  readonly introspect?: ((claims: TokenClaims) => Promise<boolean>) | undefined
}

/**
 * A middleware for session cookies that no server stores, in Express, Connect and `node:http`. Put it behind the middleware that opens
 * the cookie. `max_token_ttl` of the issuer must be at least the life of the cookie.
 */
export function sessionGuard<Request = unknown, Response = unknown>({
  claimsOf,
  onEnded,
  introspect,
  ...options
}: SessionGuardOptions<Request, Response>): (
  request: Request,
  response: Response,
  next: (error?: unknown) => void,
) => void {
  const guard = createGuard<Request>({
    ...options,
    introspect: introspect && (({ claims }) => introspect(claims)),
  })

  async function hasEnded(request: Request, claims: TokenClaims): Promise<boolean> {
    try {
      await guard({ request, claims, token: null })
      return false
    } catch (error) {
      if (error instanceof DeniedError) return true
      throw error
    }
  }

  async function check(request: Request, response: Response, next: (error?: unknown) => void): Promise<void> {
    const claims = await claimsOf(request, response)
    if (claims !== null && (await hasEnded(request, claims))) return onEnded(request, response, next)
    next()
  }
  return (request, response, next) => {
    check(request, response, next).catch(next)
  }
}
