import { AuthorizationServerUnavailableError } from '@curfew/domain'
import { createLocalJWKSet, errors, type JSONWebKeySet, type JWTPayload, jwtVerify } from 'jose'

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
  /** Fetches a JWK Set through the guarded HTTP client. */
  fetchJwks(
    uri: string,
  ): Promise<{ readonly ok: true; readonly value: unknown } | { readonly ok: false; readonly detail: string }>
  /** The scopes that exist. A grant drops all others. */
  readonly scopes: ReadonlySet<string>
  readonly now: () => Date
}

/** The age at which a JWK Set is refreshed, in milliseconds. */
const KEYS_FRESH_MS = 10 * 60_000
/** The least time between two fetches of one JWK Set, in milliseconds. */
const FETCH_PAUSE_MS = 30_000
/** Claims that mark other kinds of token. They are refused if `typ` does not identify an access token (RFC 8725 3.11, 3.12). */
const CLAIMS_OF_OTHERS = ['nonce', 'at_hash', 'events']

interface Keys {
  readonly set: ReturnType<typeof createLocalJWKSet>
  readonly fetchedAtMs: number
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
  const known = new Map<string, Keys>()
  const fetching = new Map<string, Promise<Keys | null>>()
  const askedAtMs = new Map<string, number>()

  /** Fetches the keys, at most once per pause. If the fetch fails, the known keys stay. */
  function refresh({ jwksUri }: AuthorizationServer): Promise<Keys | null> {
    const running = fetching.get(jwksUri)
    if (running !== undefined) return running
    const nowMs = now().getTime()
    if (nowMs - (askedAtMs.get(jwksUri) ?? Number.NEGATIVE_INFINITY) < FETCH_PAUSE_MS)
      return Promise.resolve(known.get(jwksUri) ?? null)
    askedAtMs.set(jwksUri, nowMs)
    const fetched = (async () => {
      const answer = await fetchJwks(jwksUri)
      const set = answer.ok ? keySetOf(answer.value) : null
      if (set !== null) known.set(jwksUri, { set, fetchedAtMs: now().getTime() })
      return known.get(jwksUri) ?? null
    })().finally(() => fetching.delete(jwksUri))
    fetching.set(jwksUri, fetched)
    return fetched
  }

  async function keysOf(server: AuthorizationServer): Promise<Keys> {
    const keys = known.get(server.jwksUri)
    if (keys !== undefined) {
      // Old keys are refreshed in the background: no caller waits.
      if (now().getTime() - keys.fetchedAtMs >= KEYS_FRESH_MS) void refresh(server)
      return keys
    }
    const first = await refresh(server)
    if (first === null)
      throw new AuthorizationServerUnavailableError(`the keys of ${server.issuer} cannot be fetched`)
    return first
  }

  async function verify(token: string, server: AuthorizationServer): Promise<JWTPayload | null> {
    const check = async ({ set }: Keys) => {
      const { payload, protectedHeader } = await jwtVerify(token, set, {
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
    }
    const keys = await keysOf(server)
    try {
      return await check(keys)
    } catch (error) {
      if (!(error instanceof errors.JOSEError)) throw error
      if (!(error instanceof errors.JWKSNoMatchingKey)) return null
    }
    // The server may have rotated its keys since the last fetch.
    const newer = await refresh(server)
    if (newer === null || newer === keys) return null
    try {
      return await check(newer)
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

function keySetOf(value: unknown): Keys['set'] | null {
  try {
    const { keys } = Object(value) as { readonly keys?: unknown }
    const set = Array.isArray(keys) ? { keys: keys.map(withoutAlias) } : value
    return createLocalJWKSet(set as JSONWebKeySet)
  } catch (error) {
    if (error instanceof errors.JOSEError) return null
    throw error
  }
}

// `EdDSA` and `Ed25519` are the same signature (RFC 9864). A server may write one in its key and the other in its tokens.
const EITHER = ['EdDSA', 'Ed25519']

function withoutAlias(key: unknown): unknown {
  const { crv, alg, ...members } = Object(key) as Record<string, unknown>
  return crv === 'Ed25519' && EITHER.includes(String(alg)) ? { crv, ...members } : key
}

function withAliases(algorithms: readonly string[]): string[] {
  const rest = algorithms.filter((algorithm) => !EITHER.includes(algorithm))
  return rest.length === algorithms.length ? rest : [...rest, ...EITHER]
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

function isAccessToken(
  payload: JWTPayload,
  typ: string | undefined,
  { anyType }: AuthorizationServer,
): boolean {
  if (typ !== undefined && /^(?:application\/)?at\+jwt$/i.test(typ)) return true
  return anyType && !CLAIMS_OF_OTHERS.some((claim) => claim in payload)
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
