import { FeedUnavailableError } from '../errors.ts'
import { messageOf, readText } from './http.ts'

/** `jws`: an answer that is not verified yet. `unchanged`: the snapshot with this `ETag` is the newest. `gone`: take a snapshot. */
export type Fetched =
  | { readonly kind: 'jws'; readonly jws: string; readonly etag: string | null }
  | { readonly kind: 'unchanged' }
  | { readonly kind: 'gone' }

export interface Question {
  /** The number that is applied; null to ask for a snapshot. */
  readonly after: number | null
  /** How long the answer may wait for news, in whole seconds. */
  readonly waitS: number
  /** The `ETag` of a known snapshot. */
  readonly etag: string | null
  /** Whether this process stops, so that its resource server no longer waits for it. */
  readonly leaving?: boolean
  readonly signal: AbortSignal
}

export interface FeedRequestOptions {
  readonly feed: URL
  readonly key: string | (() => string | Promise<string>)
  readonly reader: string
  readonly fetch: typeof globalThis.fetch
  /** The time for an answer beyond its wait, and for a snapshot, in milliseconds. */
  readonly timeouts: { readonly answerMs: number; readonly snapshotMs: number }
}

/** A snapshot of 1,000,000 entries has 51 MB. */
const BYTES_MAX = 256 * 1_024 * 1_024
const RETRY_AFTER_MS_MAX = 30_000

/** Asks the feed. The function throws a {@link FeedUnavailableError} if there is no usable answer. */
export function createFeedRequest({
  feed,
  key,
  reader,
  fetch,
  timeouts,
}: FeedRequestOptions): (question: Question) => Promise<Fetched> {
  return async ({ after, waitS, etag, leaving = false, signal }) => {
    const url = new URL(feed)
    url.searchParams.set('reader', reader)
    if (after !== null) {
      url.searchParams.set('after', String(after))
      url.searchParams.set('wait', String(waitS))
      if (leaving) url.searchParams.set('leaving', 'true')
    }
    const timeoutMs = after === null ? timeouts.snapshotMs : waitS * 1_000 + timeouts.answerMs
    try {
      const response = await fetch(url, {
        headers: {
          accept: 'application/jose',
          authorization: `Bearer ${typeof key === 'string' ? key : await key()}`,
          'cache-control': 'no-cache',
          ...(etag !== null && after === null && { 'if-none-match': etag }),
        },
        // A redirect could send the credential elsewhere.
        redirect: 'manual',
        signal: AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]),
      })
      return await read(response, { after, etag })
    } catch (error) {
      if (error instanceof FeedUnavailableError) throw error
      throw new FeedUnavailableError(`${feed} cannot be read: ${messageOf(error)}`, { cause: error })
    }
  }

  async function read(
    response: Response,
    { after, etag }: Pick<Question, 'after' | 'etag'>,
  ): Promise<Fetched> {
    if (response.status === 200)
      return { kind: 'jws', jws: await readText(response, BYTES_MAX), etag: response.headers.get('etag') }
    await response.body?.cancel()
    if (response.status === 304 && etag !== null) return { kind: 'unchanged' }
    if (response.status === 410 && after !== null) return { kind: 'gone' }
    const retryAfterS = Number(response.headers.get('retry-after') ?? Number.NaN)
    throw new FeedUnavailableError(`${feed} answered ${response.status}${hintOf(response.status)}`, {
      retryAfterMs: retryAfterS > 0 ? Math.min(retryAfterS * 1_000, RETRY_AFTER_MS_MAX) : null,
    })
  }
}

function hintOf(status: number): string {
  if (status === 401) return ': the key is not accepted'
  if (status === 403) return ': the key lacks the scope revocations:read'
  if (status === 404) return ': there is no such issuer, or the key is one of another issuer'
  if (status >= 300 && status < 400) return ': a redirect is not followed'
  return ''
}
