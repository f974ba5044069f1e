import { errors, type JWTPayload, type JWTVerifyGetKey, type JWTVerifyOptions, jwtVerify } from 'jose'
import { DeniedError } from '../errors.ts'
import { type GuardOptions, tokenGuard } from '../guard.ts'
import type { Staleness } from '../revocations.ts'
import type { TokenClaims } from '../rule.ts'

export interface TokenVerifierOptions extends Omit<GuardOptions, 'whenStale'> {
  /** Finds the key of a token: `createRemoteJWKSet(new URL(jwks_uri))`. */
  readonly key: JWTVerifyGetKey
  /** The claims that the token must have. The issuer is that of the revocations by default. */
  readonly verify: JWTVerifyOptions & { readonly issuer: string; readonly audience: string | string[] }
  /** How a token is decided while logouts may be missing. Default `deny`. */
  readonly whenStale?: Staleness | undefined
}

/**
 * Creates a function that verifies an access token with jose and then asks for logouts.
 *
 * @returns a function that resolves to the claims. It rejects with a {@link DeniedError}, or with another error if the keys cannot be
 * read. A call may have a policy of its own.
 */
export function createTokenVerifier({
  key,
  verify,
  whenStale = 'deny',
  ...options
}: TokenVerifierOptions): (token: string, policy?: Staleness) => Promise<JWTPayload> {
  const guard = tokenGuard<Staleness>({ ...options, whenStale: (policy) => policy })
  if (whenStale === 'introspect' && options.introspect === undefined)
    throw new TypeError('whenStale is introspect, and there is no function introspect')
  return async (token, policy = whenStale) => {
    const { payload } = await jwtVerify(token, key, verify).catch((cause: unknown) => {
      // An error of jose carries the claims, and errors are logged.
      throw isFaultOfToken(cause) ? new DeniedError('invalid', { cause: new Error(cause.message) }) : cause
    })
    await guard({ request: policy, claims: payload as TokenClaims, token })
    return payload
  }
}

/** Whether the token is at fault, and not the keys or the connection to them. */
function isFaultOfToken(error: unknown): error is errors.JOSEError {
  const { JWKSTimeout, JWKSInvalid, JWKInvalid } = errors
  const isOfKeys = [JWKSTimeout, JWKSInvalid, JWKInvalid].some((kind) => error instanceof kind)
  // The plain error of jose is that the answer with the keys was not 200.
  return error instanceof errors.JOSEError && error.code !== 'ERR_JOSE_GENERIC' && !isOfKeys
}
