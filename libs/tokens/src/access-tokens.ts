import { errors, type JWTPayload, jwtVerify } from 'jose'
import { createKeySets, type FetchJwks, withAliases } from './key-sets.ts'
import { isAccessToken } from './token-type.ts'

/** An authorization server whose JWT access tokens Curfew accepts (RFC 9068), and the rules for what they grant. */
export interface AuthorizationServer {
  /** Its `iss`, compared byte for byte. */
  readonly issuer: string
  /** The value that `aud` must contain. */
  readonly audience: string
  readonly jwksUri: string
  /** JWS algorithms that it may sign with; asymmetric ones only. */
  readonly algorithms: readonly string[]
  /** The clock difference to tolerate, in seconds. */
  readonly clockSkewS: number
  /** Accepts a token whose `typ` is not `at+jwt`, as older servers send it. RFC 9068 4 would reject it. */
  readonly anyType: boolean
  /** The claim that lists what the bearer may do: an array, or a string separated by spaces as `scope` is (RFC 8693 4.2). */
  readonly scopeClaim: string
  /** Maps values of that claim to Curfew's scopes. Null: the values are Curfew's scopes. */
  readonly scopeOf: Readonly<Record<string, readonly string[]>> | null
  /**
   * The issuer and clients that every token of this server is bound to. `issuerClaim` and `clientsClaim` read them from the token
   * instead.
   */
  readonly boundTo: { readonly issuer: string; readonly clients: readonly string[] | null } | null
  readonly issuerClaim: string | null
  readonly clientsClaim: string | null
}

/** The access that a token grants. */
export interface AccessTokenGrant {
  /** For logs and audit. */
  readonly name: string
  readonly scopes: ReadonlySet<string>
  readonly issuer: string | null
  readonly clients: readonly string[] | null
  readonly expiresAt: Date
}

export interface AccessTokensDeps {
  readonly servers: readonly AuthorizationServer[]
  readonly fetchJwks: FetchJwks
  /** The scopes that exist. A grant drops all others. */
  readonly scopes: ReadonlySet<string>
  readonly now: () => Date
}

/**
 * Creates a verifier of JWT access tokens: signature, issuer, audience, times, type and algorithm (RFC 9068 4, RFC 8725).
 *
 * @returns a function that resolves to the token's grant, or to null if the token is not valid. It rejects with an
 *   `AuthorizationServerUnavailableError` if the keys of the token's server have never been fetched.
 */
export function createAccessTokenVerifier({
  servers,
  fetchJwks,
  scopes,
  now,
}: AccessTokensDeps): (token: string) => Promise<AccessTokenGrant | null> {
  const keySets = createKeySets({ fetchJwks, now })

  async function verify(token: string, server: AuthorizationServer): Promise<JWTPayload | null> {
    try {
      return await keySets.use(server, async (keys) => {
        const { payload, protectedHeader } = await jwtVerify(token, keys, {
          issuer: server.issuer,
          audience: server.audience,
          algorithms: withAliases(server.algorithms),
          requiredClaims: ['exp', 'iat', 'sub'],
          clockTolerance: server.clockSkewS,
          currentDate: now(),
        })
        if (typeof payload.sub !== 'string' || payload.sub === '') return null
        // A token from the future: either the server's clock or the token is wrong.
        if (Number(payload.iat) > now().getTime() / 1_000 + server.clockSkewS) return null
        return isAccessToken(payload, protectedHeader.typ, server) ? payload : null
      })
    } catch (error) {
      if (error instanceof errors.JOSEError) return null
      throw error
    }
  }

  return async (token) => {
    const iss = issuerOf(token)
    const server = servers.find(({ issuer }) => issuer === iss)
    const payload = server === undefined ? null : await verify(token, server)
    return server === undefined || payload === null ? null : grantOf(payload, server, scopes)
  }
}

/** Reads `iss` from a token that is not verified yet, only to choose the keys to verify it with. */
function issuerOf(token: string): string | null {
  try {
    const payload: unknown = JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString('utf8'))
    const { iss }: { iss?: unknown } = Object(payload)
    return typeof iss === 'string' ? iss : null
  } catch {
    // The payload is not JSON.
    return null
  }
}

/** The end of the year 9999, the last that a time of RFC 3339 can name, in seconds. */
const EXP_MAX_S = 253_402_300_799

function grantOf(
  payload: JWTPayload,
  server: AuthorizationServer,
  known: ReadonlySet<string>,
): AccessTokenGrant | null {
  const { scopeOf, boundTo, issuerClaim, clientsClaim } = server
  const values = textsOf(claimOf(payload, server.scopeClaim)) ?? []
  const scopes = values.flatMap((value) =>
    scopeOf === null ? [value] : Object.hasOwn(scopeOf, value) ? (scopeOf[value] ?? []) : [],
  )
  // If a configured claim is missing, the token's bounds are unknown: reject it.
  const issuer = issuerClaim === null ? (boundTo?.issuer ?? null) : textOf(claimOf(payload, issuerClaim))
  if (issuerClaim !== null && issuer === null) return null
  const clients = clientsClaim === null ? (boundTo?.clients ?? null) : textsOf(claimOf(payload, clientsClaim))
  if (clientsClaim !== null && clients === null) return null
  // A client belongs to one issuer, so clients without an issuer mean nothing.
  if (clients !== null && issuer === null) return null
  return {
    name: `${payload.sub}@${server.issuer}`,
    scopes: new Set(scopes.filter((scope) => known.has(scope))),
    issuer,
    clients,
    // `verify` requires `exp`.
    expiresAt: new Date(Math.min(Number(payload.exp), EXP_MAX_S) * 1_000),
  }
}

/** Finds a claim by its name or, if no claim has that name, by a dotted path such as `realm_access.roles`. */
function claimOf(payload: JWTPayload, name: string): unknown {
  if (Object.hasOwn(payload, name)) return payload[name]
  let value: unknown = payload
  for (const part of name.split('.')) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, part)) return undefined
    value = (value as Record<string, unknown>)[part]
  }
  return value
}

function textOf(value: unknown): string | null {
  return typeof value === 'string' && value !== '' ? value : null
}

function textsOf(value: unknown): readonly string[] | null {
  if (typeof value === 'string') return value.split(' ').filter((part) => part !== '')
  return Array.isArray(value) && value.every((item) => typeof item === 'string') ? value : null
}
