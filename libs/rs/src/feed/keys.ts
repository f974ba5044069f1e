import { createLocalJWKSet, errors, type JSONWebKeySet, type JWTVerifyGetKey } from 'jose'
import { FeedUnavailableError } from '../errors.ts'
import { messageOf, readText } from './http.ts'

/** Finds the public key for the header of an answer. Rejects with a {@link FeedUnavailableError} if the keys are unavailable. */
export type FeedKeys = JWTVerifyGetKey

/** The age at which keys are read again. It limits how long a withdrawn key is trusted. */
const FRESH_MS = 10 * 60_000
/** The age up to which keys stay usable while they cannot be read: a logout must arrive then, too. */
const STALE_MS = 24 * 3_600_000
/** The least time between two requests for keys. */
const COOLDOWN_MS = 10_000
const BYTES_MAX = 256 * 1_024
const TIMEOUT_MS = 5_000

/** Reads the key set of the feed when the first answer needs it, every ten minutes, and for an unknown key. */
export function createFeedKeys({
  url,
  fetch,
  now,
}: {
  readonly url: URL
  readonly fetch: typeof globalThis.fetch
  /** A monotonic clock in milliseconds. */
  readonly now: () => number
}): FeedKeys {
  let known: { readonly select: JWTVerifyGetKey; readonly atMs: number } | null = null
  let triedMs = Number.NEGATIVE_INFINITY
  let failure: unknown

  async function read(): Promise<void> {
    triedMs = now()
    try {
      known = { select: createLocalJWKSet(await load()), atMs: now() }
    } catch (error) {
      failure = error
    }
  }

  async function load(): Promise<JSONWebKeySet> {
    const signal = AbortSignal.timeout(TIMEOUT_MS)
    const response = await fetch(url, { headers: { accept: 'application/json' }, redirect: 'manual', signal })
    if (response.status !== 200) {
      await response.body?.cancel()
      throw new Error(`it answered ${response.status}`)
    }
    return JSON.parse(await readText(response, BYTES_MAX))
  }

  const cooledDown = () => known === null || now() - triedMs >= COOLDOWN_MS
  return async (header, token) => {
    if (known === null || (now() - known.atMs >= FRESH_MS && cooledDown())) await read()
    if (known === null || now() - known.atMs >= STALE_MS)
      throw new FeedUnavailableError(`the keys at ${url} cannot be read: ${messageOf(failure)}`, {
        cause: failure,
      })
    try {
      return await known.select(header, token)
    } catch (error) {
      if (!(error instanceof errors.JWKSNoMatchingKey) || !cooledDown()) throw error
      await read()
      return known.select(header, token)
    }
  }
}
