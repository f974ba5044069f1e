import { bearerOf, type GuardOptions, tokenGuard } from '../guard.ts'
import type { TokenClaims } from '../rule.ts'

/** The used members of `FastifyRequest`. */
export interface FastifyRequestLike {
  readonly headers: { readonly authorization?: string | undefined }
}

export interface FastifyJwtOptions<Request> extends GuardOptions<Request> {
  /** Finds the token for `introspect`, as `extractToken` of @fastify/jwt does. Default: the `Authorization` header. */
  readonly getToken?: ((request: Request) => string | null | undefined) | undefined
}

/**
 * The hook `trusted` of @fastify/jwt: `app.register(fastifyJwt, { secret, trusted: fastifyJwtTrusted({ revocations }) })`. It rejects
 * with a {@link DeniedError} instead of returning false, because the error of @fastify/jwt has no `WWW-Authenticate` header.
 */
export function fastifyJwtTrusted<Request extends FastifyRequestLike = FastifyRequestLike>(
  options: FastifyJwtOptions<Request>,
): (request: Request, decoded: { readonly [member: string]: unknown }) => Promise<true> {
  const guard = tokenGuard(options)
  const { getToken = ({ headers }) => bearerOf(headers.authorization) } = options
  return async (request, decoded) => {
    // With the option `complete`, the claims are one level down.
    const claims = 'signature' in decoded && 'payload' in decoded ? decoded.payload : decoded
    await guard({ request, claims: Object(claims) as TokenClaims, token: getToken(request) ?? null })
    return true
  }
}
