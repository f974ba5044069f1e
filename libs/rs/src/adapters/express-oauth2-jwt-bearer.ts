import { DeniedError } from '../errors.ts'
import { type GuardOptions, tokenGuard } from '../guard.ts'
import type { TokenClaims } from '../rule.ts'

/** The used members of Express's `Request` after `auth()`. */
export interface AuthorizedRequestLike {
  readonly auth?: { readonly payload: object; readonly token: string } | undefined
}

/**
 * A middleware after `auth()` of express-oauth2-jwt-bearer: `app.use(auth(), notRevoked({ revocations }))`. A request without a
 * verified token is denied, unless `optional` is set, as after `auth({ authRequired: false })`.
 */
export function notRevoked<Request extends AuthorizedRequestLike = AuthorizedRequestLike>({
  optional = false,
  ...options
}: GuardOptions<Request> & { readonly optional?: boolean | undefined }): (
  request: Request,
  response: unknown,
  next: (error?: unknown) => void,
) => void {
  const guard = tokenGuard(options)
  return (request, _response, next) => {
    const { auth } = request
    if (auth === undefined) return next(optional ? undefined : new DeniedError('claims'))
    const { token, payload } = auth
    guard({ request, claims: payload as TokenClaims, token }).then(() => next(), next)
  }
}
