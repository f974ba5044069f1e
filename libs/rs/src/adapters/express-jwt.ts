import { bearerOf, type GuardOptions, tokenGuard } from '../guard.ts'
import type { TokenClaims } from '../rule.ts'

/** The used members of Express's `Request`. */
export interface ExpressRequestLike {
  readonly headers: { readonly authorization?: string | undefined }
}

export interface ExpressJwtOptions<Request> extends GuardOptions<Request> {
  /** Finds the token for `introspect`, as `getToken` of express-jwt does. Default: the `Authorization` header. */
  readonly getToken?: ((request: Request) => string | null | undefined) | undefined
}

/**
 * The hook `isRevoked` of express-jwt: `expressjwt({ secret, algorithms, isRevoked: expressJwtIsRevoked({ revocations }) })`. It rejects
 * with a {@link DeniedError} instead of returning true, because the error of express-jwt has no `WWW-Authenticate` header.
 */
export function expressJwtIsRevoked<Request extends ExpressRequestLike = ExpressRequestLike>(
  options: ExpressJwtOptions<Request>,
): (request: Request, token: { readonly payload: unknown } | undefined) => Promise<false> {
  const guard = tokenGuard(options)
  const { getToken = ({ headers }) => bearerOf(headers.authorization) } = options
  return async (request, token) => {
    const claims = Object(token?.payload) as TokenClaims
    await guard({ request, claims, token: getToken(request) ?? null })
    return false
  }
}
