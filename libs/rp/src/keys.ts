import { createLocalJWKSet, errors, type JSONWebKeySet, type JWTVerifyGetKey } from 'jose'
import { assertFetchable, fetchJson } from './fetch-json.ts'

export interface IssuerKeysOptions {
  readonly issuer: string
  /** The issuer's keys. If they are given, nothing is fetched. */
  readonly jwks?: JSONWebKeySet | undefined
  /** The URL of the keys. If it is given, discovery is not fetched. */
  readonly jwksUri?: string | undefined
  readonly allowInsecureHttp: boolean
  readonly fetch: typeof fetch
  readonly now: () => Date
  /** Gets the failure of a refresh while older keys stay usable. */
  readonly onError: (error: unknown) => void
}

/**
 * Finds the public key for the header of a token. Rejects with a {@link KeysUnavailableError} if the issuer's keys are unavailable,
 * and with the error of `keysOf` if none of them matches.
 */
export type IssuerKeys = JWTVerifyGetKey

/**
 * Finds keys in a JWK Set.
 *
 * @throws {errors.JWKSInvalid} if it is no JWK Set.
 */
export function keysOf(jwks: unknown): IssuerKeys {
  const { keys } = Object(jwks) as { readonly keys?: unknown }
  const set = Array.isArray(keys) ? { ...Object(jwks), keys: keys.map(withoutAlias) } : jwks
  return createLocalJWKSet(set as JSONWebKeySet)
}

/**
 * Removes the `alg` of an Ed25519 key. `EdDSA` and `Ed25519` name the same signature (RFC 9864), and the issuer may write one in
 * its key and the other in its tokens.
 */
function withoutAlias(key: unknown): unknown {
  const { crv, alg, ...members } = Object(key) as Record<string, unknown>
  return crv === 'Ed25519' && (alg === 'EdDSA' || alg === 'Ed25519') ? { crv, ...members } : key
}

/** The issuer's keys are unavailable, so a token can be neither accepted nor refused. */
export class KeysUnavailableError extends Error {
  override name = 'KeysUnavailableError'
}

/** The age at which keys are refreshed. It limits how long a withdrawn key is trusted. */
const FRESH_MS = 10 * 60_000
/**
 * The age up to which keys stay usable if the issuer does not answer: sessions must end while its discovery is unavailable, too.
 */
const STALE_MS = 24 * 3_600_000
/** The least time between two refreshes for unknown keys, because a stranger can invent a `kid`. */
const COOLDOWN_MS = 30_000
/** The pause after a failed fetch while no keys are known. */
const RETRY_WITHOUT_KEYS_MS = 1_000
/** The pause after a failed fetch while older keys are usable. */
const RETRY_WITH_KEYS_MS = 30_000

interface Known {
  readonly select: IssuerKeys
  readonly atMs: number
}

/**
 * Creates a function that finds the public key for a token's header among the issuer's keys. The first token fetches the keys
 * through discovery (OpenID Connect Discovery 4). They are refreshed after ten minutes, and once for a token that names an
 * unknown key. Concurrent callers share one fetch.
 *
 * @returns a function for jose, which rejects with a {@link KeysUnavailableError} if there are no usable keys.
 * @throws {TypeError} if `jwks` is not a JWK Set, or a URL must not be fetched.
 */
export function createIssuerKeys(options: IssuerKeysOptions): IssuerKeys {
  if (options.jwks !== undefined) return keysOf(options.jwks)
  const { issuer, jwksUri, allowInsecureHttp, fetch, now, onError } = options
  const fetchOptions = { fetch, allowHttp: allowInsecureHttp }
  assertFetchable(jwksUri ?? issuer, allowInsecureHttp)
  let known: Known | null = null
  let failedMs = Number.NEGATIVE_INFINITY
  let failure: unknown
  let pending: Promise<void> | null = null

  return async (header, token) => {
    await refreshIfOld()
    const { select, atMs } = usable()
    try {
      return await select(header, token)
    } catch (error) {
      if (!(error instanceof errors.JWKSNoMatchingKey) || nowMs() - atMs < COOLDOWN_MS) throw error
      // If a refresh has finished since, use its keys without another fetch.
      if (known?.atMs === atMs) await refresh()
      if (known?.atMs === atMs) throw unavailable()
      return usable().select(header, token)
    }
  }

  function nowMs(): number {
    return now().getTime()
  }

  async function refreshIfOld(): Promise<void> {
    if (known === null || nowMs() - known.atMs >= FRESH_MS) await refresh()
  }

  /** Never rejects. The result is in `known` or `failure`. */
  async function refresh(): Promise<void> {
    const pauseMs = known === null ? RETRY_WITHOUT_KEYS_MS : RETRY_WITH_KEYS_MS
    if (pending === null && nowMs() - failedMs < pauseMs) return
    pending ??= load().finally(() => {
      pending = null
    })
    await pending
  }

  async function load(): Promise<void> {
    try {
      const { keys } = await fetchJson(jwksUri ?? (await discover()), fetchOptions)
      known = { select: keysOf({ keys }), atMs: nowMs() }
      failedMs = Number.NEGATIVE_INFINITY
    } catch (error) {
      failedMs = nowMs()
      failure = error
      if (known !== null) onError(error)
    }
  }

  async function discover(): Promise<string> {
    const url = `${issuer.replace(/\/$/, '')}/.well-known/openid-configuration`
    const metadata = await fetchJson(url, fetchOptions)
    if (metadata.issuer !== issuer) throw new Error(`${url}: its issuer is not ${issuer}, byte for byte`)
    if (typeof metadata.jwks_uri !== 'string') throw new Error(`${url}: its jwks_uri is missing`)
    return metadata.jwks_uri
  }

  function usable(): Known {
    if (known !== null && nowMs() - known.atMs < STALE_MS) return known
    throw unavailable()
  }

  function unavailable(): KeysUnavailableError {
    return new KeysUnavailableError(`the keys of ${issuer} are unavailable`, { cause: failure })
  }
}
