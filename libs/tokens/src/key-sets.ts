import { AuthorizationServerUnavailableError } from '@curfew/domain'
import { createLocalJWKSet, errors, type JSONWebKeySet } from 'jose'

/** The keys of a JWK Set, for `jwtVerify` of jose. */
export type KeySet = ReturnType<typeof createLocalJWKSet>

/** Fetches a JWK Set through the guarded HTTP client. Never rejects. */
export type FetchJwks = (
  uri: string,
) => Promise<{ readonly ok: true; readonly value: unknown } | { readonly ok: false; readonly detail: string }>

/** An issuer of tokens, and where its keys are. */
export interface KeySource {
  readonly issuer: string
  readonly jwksUri: string
}

/** The JWK Sets of issuers. They are fetched when the first token needs them. */
export interface KeySets {
  /**
   * Runs a check with the keys of an issuer. If none of them matches the token, the issuer may have rotated its keys: the keys are
   * fetched again, and the check runs once more.
   *
   * @param check rejects with an error of jose if the token is not valid.
   * @returns its result. It rejects with the error of `check`, or with an `AuthorizationServerUnavailableError` if the keys have
   *   never been fetched.
   */
  use<Result>(source: KeySource, check: (keys: KeySet) => Promise<Result>): Promise<Result>
}

/** The age at which a JWK Set is refreshed, in milliseconds. */
const KEYS_FRESH_MS = 10 * 60_000
/** The least time between two fetches of a known JWK Set, in milliseconds: a stranger can invent a `kid`. */
const FETCH_PAUSE_MS = 30_000
/** The same while no keys are known, when no token can be verified. */
const FIRST_FETCH_PAUSE_MS = 1_000

interface Keys {
  readonly set: KeySet
  readonly fetchedAtMs: number
}

export function createKeySets({
  fetchJwks,
  now,
}: {
  readonly fetchJwks: FetchJwks
  readonly now: () => Date
}): KeySets {
  const known = new Map<string, Keys>()
  const fetching = new Map<string, Promise<Keys | null>>()
  const askedAtMs = new Map<string, number>()
  const failures = new Map<string, string>()

  /** Fetches the keys, at most once per pause. If the fetch fails, the known keys stay. */
  function refresh({ jwksUri }: KeySource): Promise<Keys | null> {
    const running = fetching.get(jwksUri)
    if (running !== undefined) return running
    const nowMs = now().getTime()
    const pauseMs = known.has(jwksUri) ? FETCH_PAUSE_MS : FIRST_FETCH_PAUSE_MS
    if (nowMs - (askedAtMs.get(jwksUri) ?? Number.NEGATIVE_INFINITY) < pauseMs)
      return Promise.resolve(known.get(jwksUri) ?? null)
    askedAtMs.set(jwksUri, nowMs)
    const fetched = load(jwksUri).finally(() => fetching.delete(jwksUri))
    fetching.set(jwksUri, fetched)
    return fetched
  }

  async function load(jwksUri: string): Promise<Keys | null> {
    const answer = await fetchJwks(jwksUri)
    const set = answer.ok ? keySetOf(answer.value) : null
    if (set !== null) known.set(jwksUri, { set, fetchedAtMs: now().getTime() })
    else failures.set(jwksUri, answer.ok ? 'the answer is no JWK Set' : answer.detail)
    return known.get(jwksUri) ?? null
  }

  async function keysOf(source: KeySource): Promise<Keys> {
    const keys = known.get(source.jwksUri)
    if (keys !== undefined) {
      // Old keys are refreshed in the background: no caller waits.
      if (now().getTime() - keys.fetchedAtMs >= KEYS_FRESH_MS) void refresh(source)
      return keys
    }
    const first = await refresh(source)
    if (first !== null) return first
    throw new AuthorizationServerUnavailableError(
      `the keys of ${source.issuer} cannot be fetched: ${failures.get(source.jwksUri)}`,
    )
  }

  return {
    async use(source, check) {
      const keys = await keysOf(source)
      try {
        return await check(keys.set)
      } catch (error) {
        if (!(error instanceof errors.JWKSNoMatchingKey)) throw error
        const newer = await refresh(source)
        if (newer === null || newer === keys) throw error
        return check(newer.set)
      }
    },
  }
}

function keySetOf(value: unknown): KeySet | null {
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

/** The algorithms with both names of Ed25519, if they have one of them. */
export function withAliases(algorithms: readonly string[]): string[] {
  const rest = algorithms.filter((algorithm) => !EITHER.includes(algorithm))
  return rest.length === algorithms.length ? rest : [...rest, ...EITHER]
}
