import { accessName, type Issuer, type NetworkAccess } from '@curfew/domain'
import { discoverKeySet, type FetchedJson } from '@curfew/outbound'
import { type IssuerKeys, KeysUnavailableError, keysOf } from '@curfew/rp'
import { sleep, within } from '@curfew/runtime'

/** Where the keys of an issuer are published. */
export interface KeySource {
  readonly iss: Issuer
  /** The URL of its JWK Set. Null: its discovery document names it. */
  readonly jwksUri: string | null
  /** The networks that the key set may be in. */
  readonly networks: NetworkAccess
}

export interface IssuerKeyStoreDeps {
  /** Fetches a JSON document. Never rejects. */
  readonly fetch: (uri: string, networks: NetworkAccess) => Promise<FetchedJson>
  readonly nowMs: () => number
  /** Longest time that a token waits for a fetch, in milliseconds. The fetch goes on without it. */
  readonly patienceMs: number
  /** Called with each failed fetch. */
  readonly onFailed: (source: KeySource, detail: string) => void
}

/** The keys of many issuers, shared by all verifiers of an issuer. */
export interface IssuerKeyStore {
  /** The keys of an issuer. They are fetched when the first token needs them. */
  keysFor(source: KeySource): SharedKeys
}

export interface SharedKeys {
  readonly find: IssuerKeys
  /** The number of fetches that have begun. */
  readonly fetches: number
  /**
   * Fetches the keys again, unless a fetch has failed a moment ago.
   *
   * @param since the number of fetches that had begun when the token arrived.
   * @returns whether the keys are of a later fetch.
   */
  renew(since: number): Promise<boolean>
}

/** The age at which keys are fetched again, in the background, in milliseconds. */
const FRESH_MS = 10 * 60_000
/** How long keys stay in use while their issuer does not answer, in milliseconds. */
const STALE_MS = 24 * 3_600_000
/**
 * Least time between two fetches because of unknown keys, in milliseconds: a stranger can invent a `kid`. A token waits for the next
 * fetch, because without it a token of a stranger would be stored unverified. So the time is less than the patience of a token.
 */
const PAUSE_MS = 1_000
/** Pause after a failed fetch while keys are known, in milliseconds. */
const COOLDOWN_MS = 10_000
/** Pause after a failed fetch while no keys are known, in milliseconds. */
const RETRY_MS = 1_000
/** Most issuers whose keys are kept. The least recently used one is dropped first. */
const KEPT_MAX = 1_000

/** The code of jose's error when no key of a set matches a token. */
const NO_MATCH = 'ERR_JWKS_NO_MATCHING_KEY'

interface Known {
  readonly find: IssuerKeys
  /** When the fetch of these keys began: keys that the issuer published later may be missing. */
  readonly startedMs: number
  /** The number of that fetch. It orders fetches and tokens, because the clock may be set back. */
  readonly number: number
}

export function createIssuerKeyStore(deps: IssuerKeyStoreDeps): IssuerKeyStore {
  const kept = new Map<string, SharedKeys>()
  return {
    keysFor(source) {
      const name = JSON.stringify([source.iss, source.jwksUri, accessName(source.networks)])
      const keys = kept.get(name) ?? createSharedKeys(source, deps)
      kept.delete(name)
      kept.set(name, keys)
      const [oldest] = kept.keys()
      if (kept.size > KEPT_MAX && oldest !== undefined) kept.delete(oldest)
      return keys
    },
  }
}

function createSharedKeys(source: KeySource, deps: IssuerKeyStoreDeps): SharedKeys {
  const { nowMs, patienceMs } = deps
  const fetcher = createFetcher(source, deps)

  async function current(): Promise<Known> {
    if (usable() === null && fetcher.mayFetch(RETRY_MS)) await within(fetcher.fetch(), patienceMs, undefined)
    const known = usable()
    if (known === null)
      throw new KeysUnavailableError(`the keys of ${source.iss} are unavailable: ${fetcher.failure}`)
    if (nowMs() - known.startedMs >= FRESH_MS && fetcher.mayFetch(COOLDOWN_MS)) void fetcher.fetch()
    return known
  }

  function usable(): Known | null {
    const { known } = fetcher
    return known !== null && nowMs() - known.startedMs < STALE_MS ? known : null
  }

  async function renew(since: number): Promise<boolean> {
    const renewed = () => fetcher.known !== null && fetcher.known.number > since
    if (!renewed() && (fetcher.answers || fetcher.mayFetch(COOLDOWN_MS)))
      await within(fetcher.fetchNext(), patienceMs, undefined)
    return renewed()
  }

  return {
    renew,
    get fetches() {
      return fetcher.begun
    },
    async find(header, token) {
      const since = fetcher.begun
      const { find, number } = await current()
      try {
        return await find(header, token)
      } catch (error) {
        if (!isNoMatch(error) || number > since) throw error
        // The issuer may have published the key since. Without newer keys the token may be genuine.
        if (await renew(since)) return (await current()).find(header, token)
        throw new KeysUnavailableError(
          `the keys of ${source.iss} have no key for the token, and newer keys are unavailable`,
          { cause: error },
        )
      }
    },
  }
}

/** Fetches the keys of one issuer. */
interface Fetcher {
  /** The keys of the last fetch that succeeded. */
  readonly known: Known | null
  /** Why the last fetch failed. */
  readonly failure: string
  /** Whether the last fetch succeeded. */
  readonly answers: boolean
  /** The number of fetches that have begun. */
  readonly begun: number
  /** @param pauseMs the least time since the last fetch began. */
  mayFetch(pauseMs: number): boolean
  /** Callers share a fetch under way. Never rejects. */
  fetch(): Promise<void>
  /** Makes the fetch after the one under way, at the earliest `PAUSE_MS` after it began. Callers share it until it begins. Never rejects. */
  fetchNext(): Promise<void>
}

function createFetcher(source: KeySource, { fetch, nowMs, onFailed }: IssuerKeyStoreDeps): Fetcher {
  const state = {
    ...{ known: null as Known | null, failure: 'they were not fetched yet', answers: false, begun: 0 },
  }
  let triedMs = Number.NEGATIVE_INFINITY
  let pending: Promise<void> | null = null
  let next: Promise<void> | null = null

  async function load(): Promise<void> {
    const startedMs = nowMs()
    triedMs = startedMs
    state.begun++
    const number = state.begun
    const fetched = await fetchKeys(source, fetch)
    state.answers = !('failure' in fetched)
    if ('failure' in fetched) {
      state.failure = fetched.failure
      onFailed(source, fetched.failure)
    } else {
      state.known = { find: fetched.find, startedMs, number }
    }
  }
  /** The time since the last fetch began. After the clock was set back it is unknown, and counts as long. */
  function sinceTriedMs(): number {
    const elapsedMs = nowMs() - triedMs
    return elapsedMs < 0 ? Number.POSITIVE_INFINITY : elapsedMs
  }
  function fetchNow(): Promise<void> {
    pending ??= load().finally(() => {
      pending = null
    })
    return pending
  }
  async function fetchLater(): Promise<void> {
    await pending
    const pauseMs = PAUSE_MS - sinceTriedMs()
    if (pauseMs > 0) await sleep(pauseMs, new AbortController().signal)
    next = null
    await fetchNow()
  }

  return Object.assign(state, {
    mayFetch: (pauseMs: number) => pending !== null || sinceTriedMs() >= pauseMs,
    fetch: fetchNow,
    fetchNext() {
      next ??= fetchLater()
      return next
    },
  })
}

function isNoMatch(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === NO_MATCH
}

async function fetchKeys(
  { iss, jwksUri, networks }: KeySource,
  fetch: IssuerKeyStoreDeps['fetch'],
): Promise<{ readonly find: IssuerKeys } | { readonly failure: string }> {
  const uri = jwksUri ?? (await discover(iss, networks, fetch))
  if (typeof uri !== 'string') return uri
  const answer = await fetch(uri, networks)
  if (!answer.ok) return { failure: `${uri} ${answer.detail}` }
  try {
    return { find: keysOf(answer.value) }
  } catch {
    return { failure: `${uri} is no JWK Set` }
  }
}

/** The address of an issuer's key set by discovery. */
async function discover(
  iss: Issuer,
  networks: NetworkAccess,
  fetch: IssuerKeyStoreDeps['fetch'],
): Promise<string | { readonly failure: string }> {
  const found = await discoverKeySet(iss, (uri) => fetch(uri, networks))
  if (found.ok) return found.jwksUri
  switch (found.fault) {
    case 'not_fetched':
      return { failure: `${found.address} ${found.detail}` }
    case 'other_issuer':
      return { failure: `${found.address} names another issuer than ${iss}` }
    case 'no_jwks_uri':
      return { failure: `${found.address} has no jwks_uri` }
  }
}
