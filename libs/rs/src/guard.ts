import { ClaimsError, DeniedError } from './errors.ts'
import type { Decision, Revocations, Staleness } from './revocations.ts'
import type { TokenClaims } from './rule.ts'

export interface GuardOptions<Request = unknown> {
  readonly revocations: Pick<Revocations, 'decide'>
  /** How requests are decided while logouts may be missing, for all of them or for each by its route. Default `deny`. */
  readonly whenStale?: Staleness | ((request: Request) => Staleness) | undefined
  /** Asks the authorization server whether a token is active. Needed for `introspect`. */
  readonly introspect?: ((token: string) => Promise<boolean>) | undefined
}

export interface Presented<Request> {
  readonly request: Request
  /** The claims of the token, which is verified. */
  readonly claims: TokenClaims
  /** The token itself; null if it is not known. Then it cannot be introspected. */
  readonly token: string | null
}

/** Resolves if the request may pass. Rejects with a {@link DeniedError} if not. */
export type Guard<Request> = (presented: Presented<Request>) => Promise<void>

/** A guard of requests with a token. @throws {TypeError} if a policy needs `introspect` and there is none. */
export function tokenGuard<Request>({ introspect, ...options }: GuardOptions<Request>): Guard<Request> {
  return createGuard({
    ...options,
    introspect:
      introspect &&
      (async ({ token }) => {
        if (token === null) throw new TypeError('the token was not found in the request; set getToken')
        return introspect(token)
      }),
  })
}

/** A guard of requests, with any way to ask whether a login is alive. @throws {TypeError} as `tokenGuard`. */
export function createGuard<Request>({
  revocations,
  whenStale = 'deny',
  introspect,
}: Pick<GuardOptions<Request>, 'revocations' | 'whenStale'> & {
  readonly introspect: ((presented: Presented<Request>) => Promise<boolean>) | undefined
}): Guard<Request> {
  if (whenStale === 'introspect' && introspect === undefined)
    throw new TypeError('whenStale is introspect, and there is no function introspect')

  function decide(claims: TokenClaims, policy: Staleness): Decision {
    try {
      return revocations.decide(claims, policy)
    } catch (cause) {
      if (cause instanceof ClaimsError) throw new DeniedError('claims', { cause })
      throw cause
    }
  }

  return async (presented) => {
    const policy = typeof whenStale === 'function' ? whenStale(presented.request) : whenStale
    const decision = decide(presented.claims, policy)
    if (decision === 'live') return
    if (decision === 'revoked') throw new DeniedError('revoked')
    if (decision === 'stale_denied') throw new DeniedError('stale')
    let active: boolean
    try {
      if (introspect === undefined) throw new TypeError('there is no function introspect')
      active = await introspect(presented)
    } catch (cause) {
      throw new DeniedError('introspection_failed', { cause })
    }
    if (active !== true) throw new DeniedError('inactive')
  }
}

/** The token of an `Authorization` header (RFC 6750 2.1); null without one. */
export function bearerOf(authorization: string | undefined): string | null {
  return /^Bearer +([\w.~+/-]+=*)$/i.exec(authorization ?? '')?.[1] ?? null
}
