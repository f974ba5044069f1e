import type { RevocationsEvent } from './events.ts'
import { assertSecure } from './feed/http.ts'
import type { TokenTime } from './rule.ts'

export interface RevocationsOptions {
  /** The URL of the feed: `https://curfew.example/v1/issuers/main/revocations`. */
  readonly feed: string | URL
  /** The `iss` of the tokens, byte for byte. The answers of the feed have the same. */
  readonly issuer: string
  /** The API key of the registered resource server, with the scope `revocations:read`. A function is asked for each request. */
  readonly key: string | (() => string | Promise<string>)
  /** The URL of the keys that sign the answers. Default: `/issuers/{issuer}/jwks.json`, where Curfew serves them beside the feed. */
  readonly jwks?: string | URL | undefined
  /** The name of this process among those of the resource server. Default: a random one. */
  readonly reader?: string | undefined
  /** The claim with which the time of a logout is compared. With `auth_time`, a refresh makes no token live again. Default `iat`. */
  readonly since?: TokenTime | undefined
  /** Shortens the time that the feed may be silent, in milliseconds, from 2,000. Default: as the feed says (30 s). */
  readonly maxStalenessMs?: number | undefined
  /** Reads the feed over plain http from hosts other than this machine. Default false. */
  readonly allowInsecureHttp?: boolean | undefined
  /** `answerMs`: how long an answer may take beyond its wait. Default 5,000. `snapshotMs`: how long a snapshot may. Default 60,000. */
  readonly timeouts?:
    | { readonly answerMs?: number | undefined; readonly snapshotMs?: number | undefined }
    | undefined
  /** Gets what happens. Default: `console.warn` of what a person must act on. */
  readonly onEvent?: ((event: RevocationsEvent) => void) | undefined
  readonly fetch?: typeof globalThis.fetch | undefined
  /** A monotonic clock in milliseconds. Default `performance.now`. */
  readonly now?: (() => number) | undefined
  /** The wall clock in milliseconds since 1970, only to report that it is off. Default `Date.now`. */
  readonly wall?: (() => number) | undefined
}

const FEED_PATH = /\/v1\/issuers\/([^/]+)\/revocations$/
const READER = /^[\x21-\x7e]{1,128}$/
const STALENESS_MS_MIN = 2_000

/** @throws {TypeError} that names the wrong option. */
export function urlsOf(options: RevocationsOptions): { readonly feed: URL; readonly jwks: URL } {
  const { issuer, key, reader, maxStalenessMs, allowInsecureHttp = false } = options
  if (!issuer) throw new TypeError('issuer is missing')
  if (!key) throw new TypeError('key is missing')
  if (reader !== undefined && !READER.test(reader))
    throw new TypeError('reader must be 1 to 128 visible ASCII characters')
  if (maxStalenessMs !== undefined && !(maxStalenessMs >= STALENESS_MS_MIN))
    throw new TypeError(`maxStalenessMs must be at least ${STALENESS_MS_MIN}`)
  const feed = assertSecure('feed', options.feed, allowInsecureHttp)
  const [, name] = FEED_PATH.exec(feed.pathname) ?? []
  if (name === undefined && options.jwks === undefined)
    throw new TypeError('feed does not end with /v1/issuers/{issuer}/revocations; set jwks, too')
  const jwks = options.jwks ?? new URL(`../../../issuers/${name}/jwks.json`, feed)
  return { feed, jwks: assertSecure('jwks', jwks, allowInsecureHttp) }
}
