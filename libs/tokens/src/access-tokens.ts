import { AuthorizationServerUnavailableError } from '@curfew/domain'
import { createLocalJWKSet, errors, type JSONWebKeySet, type JWTPayload, jwtVerify } from 'jose'

/** An authorization server whose JWT access tokens are taken (RFC 9068), and what they grant. */
export interface AuthorizationServer {
  /** Its `iss`, compared byte for byte. */
  readonly issuer: string
  /** What `aud` must name. */
  readonly audience: string
  readonly jwksUri: string
  /** JWS algorithms that it signs with; asymmetric ones only. */
  readonly algorithms: readonly string[]
  /** By how much clocks may differ, in seconds. */
  readonly clockSkewS: number
  /** Take a token whose `typ` is not `at+jwt`, as older servers send them (RFC 9068 4 would refuse it). */
  readonly anyType: boolean
  /** The claim that says what its bearer may do: a list, or a text with spaces, as `scope` is (RFC 8693 4.2). */
  readonly scopeClaim: string
  /** What values of that claim mean, as scopes of ours; null: they are our scopes as they stand. */
  readonly scopeOf: Readonly<Record<string, readonly string[]>> | null
  /** What every token of this server is bound to; `issuerClaim` and `clientsClaim` name claims that say so for each. */
  readonly boundTo: { readonly issuer: string; readonly clients: readonly string[] | null } | null
  readonly issuerClaim: string | null
  readonly clientsClaim: string | null
}

/** What a token grants. */
export interface AccessTokenGrant {
  /** For logs and audit. */
  readonly name: string
  readonly scopes: ReadonlySet<string>
  readonly issuer: string | null
  readonly clients: readonly string[] | null
}

export interface AccessTokensDeps {
  readonly servers: readonly AuthorizationServer[]
  /** Fetches a key set, through the guarded client. */
  fetchJwks(
    uri: string,
  ): Promise<{ readonly ok: true; readonly value: unknown } | { readonly ok: false; readonly detail: string }>
  /** Scopes that there are; others are left out of what a token grants. */
  readonly scopes: ReadonlySet<string>
  readonly now: () => Date
}

/** How long a key set is good for, and the least time between two fetches, in milliseconds. */
const KEYS_FRESH_MS = 10 * 60_000
const FETCH_PAUSE_MS = 30_000
/** Claims of other kinds of token, which must not pass as an access token where `typ` does not tell (RFC 8725 3.11, 3.12). */
const CLAIMS_OF_OTHERS = ['nonce', 'at_hash', 'events']

interface Keys {
  readonly set: ReturnType<typeof createLocalJWKSet>
  readonly fetchedAtMs: number
}

/**
 * Checks JWT access tokens: signature, issuer, audience, time, type, algorithm (RFC 9068 4, RFC 8725).
 *
 * @returns for each token what it grants, or null where it is none that may be believed.
 * @throws {AuthorizationServerUnavailableError} where its server's keys were never had.
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

  /** Fetches anew, but not too often; what was known stays where nothing better comes. */
  function refresh({ jwksUri }: AuthorizationServer): Promise<Keys | null> {
    const under = fetching.get(jwksUri)
    if (under !== undefined) return under
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
      // Nobody waits for what is only getting old.
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
        algorithms: [...server.algorithms],
        requiredClaims: ['exp', 'iat', 'sub'],
        clockTolerance: server.clockSkewS,
        currentDate: now(),
      })
      if (typeof payload.sub !== 'string' || payload.sub === '') return null
      // Issued in the future: its clock, or its issuer, cannot be relied on.
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
    // Its keys may have been rotated since.
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
    return createLocalJWKSet(value as JSONWebKeySet)
  } catch (error) {
    if (error instanceof errors.JOSEError) return null
    throw error
  }
}

/** Who says to have signed it: only to know whose keys to check it with. */
function issuerOf(token: string): string | null {
  try {
    const payload: unknown = JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString('utf8'))
    const { iss }: { iss?: unknown } = Object(payload)
    return typeof iss === 'string' ? iss : null
  } catch {
    // No JSON, no issuer.
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
  // Where a claim is to say what a token is bound to and is not there, it is bound to nothing that we know: it is refused.
  const issuer = issuerClaim === null ? (boundTo?.issuer ?? null) : textOf(claimOf(payload, issuerClaim))
  if (issuerClaim !== null && issuer === null) return null
  const clients = clientsClaim === null ? (boundTo?.clients ?? null) : textsOf(claimOf(payload, clientsClaim))
  if (clientsClaim !== null && clients === null) return null
  // Whoever may see some clients of everybody: there is no such thing.
  if (clients !== null && issuer === null) return null
  return {
    name: `${payload.sub}@${server.issuer}`,
    scopes: new Set(scopes.filter((scope) => known.has(scope))),
    issuer,
    clients,
  }
}

/** A claim by its name, or by a path with dots where there is none of that name, as in `realm_access.roles`. */
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
  return Array.isArray(value) && value.every((each) => typeof each === 'string') ? value : null
}
