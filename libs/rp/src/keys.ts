import { createLocalJWKSet, errors, type JSONWebKeySet, type JWTVerifyGetKey } from 'jose'
import { assertAskable, fetchJson } from './fetch-json.ts'

export interface IssuerKeysOptions {
  readonly issuer: string
  /** The keys themselves: nothing is fetched. */
  readonly jwks?: JSONWebKeySet | undefined
  /** Where the keys are: discovery is left out. */
  readonly jwksUri?: string | undefined
  readonly allowInsecureHttp: boolean
  readonly fetch: typeof fetch
  readonly now: () => Date
  /** A refresh that failed while older keys could still serve. */
  readonly onError: (error: unknown) => void
}

/** The issuer's keys could not be had: nothing can be said about a token. */
export class KeysUnavailableError extends Error {
  override name = 'KeysUnavailableError'
}

/** So long keys are taken as they are, so that a key which the issuer withdrew is not trusted for longer. */
const FRESH_MS = 10 * 60_000
/** So long they serve if the issuer does not answer: sessions must end while its discovery is away, too. */
const STALE_MS = 24 * 3_600_000
/** Between two refreshes that only an unknown key asks for: anybody can make one up. */
const COOLDOWN_MS = 30_000
/** Between a fetch that failed and the next, while there are no keys at all, and while older ones serve. */
const RETRY_WITHOUT_KEYS_MS = 1_000
const RETRY_WITH_KEYS_MS = 30_000

interface Known {
  readonly select: JWTVerifyGetKey
  readonly atMs: number
}

/**
 * Finds the public key that a token's header names among the issuer's keys. They come from discovery (OpenID Connect
 * Discovery 4) at the first token, are kept for ten minutes, and are fetched anew, once, when a token names another key. At
 * most one fetch is under way, and all who need it share it.
 *
 * @returns a function for jose, which rejects with a {@link KeysUnavailableError} when there are no keys.
 * @throws {TypeError} when an option is no key set or no URL that may be asked.
 */
export function createIssuerKeys(options: IssuerKeysOptions): JWTVerifyGetKey {
  if (options.jwks !== undefined) return createLocalJWKSet(options.jwks)
  const { issuer, jwksUri, allowInsecureHttp, fetch, now, onError } = options
  const asked = { fetch, allowHttp: allowInsecureHttp }
  assertAskable(jwksUri ?? issuer, allowInsecureHttp)
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
      // Who named an unknown key while a refresh was under way is served by that one.
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

  /** Never rejects: what came of it is in `known` and `failure`. */
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
      const { keys } = await fetchJson(jwksUri ?? (await discover()), asked)
      known = { select: createLocalJWKSet({ keys } as JSONWebKeySet), atMs: nowMs() }
      failedMs = Number.NEGATIVE_INFINITY
    } catch (error) {
      failedMs = nowMs()
      failure = error
      if (known !== null) onError(error)
    }
  }

  async function discover(): Promise<string> {
    const url = `${issuer.replace(/\/$/, '')}/.well-known/openid-configuration`
    const metadata = await fetchJson(url, asked)
    if (metadata.issuer !== issuer) throw new Error(`${url}: its issuer is not ${issuer}, byte for byte`)
    if (typeof metadata.jwks_uri !== 'string') throw new Error(`${url}: it has no jwks_uri`)
    return metadata.jwks_uri
  }

  function usable(): Known {
    if (known !== null && nowMs() - known.atMs < STALE_MS) return known
    throw unavailable()
  }

  function unavailable(): KeysUnavailableError {
    return new KeysUnavailableError(`the keys of ${issuer} cannot be had`, { cause: failure })
  }
}
