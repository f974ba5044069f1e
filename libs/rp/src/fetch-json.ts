import { chunksOf, readText } from './bounded.ts'

export interface FetchJsonOptions {
  readonly fetch: typeof fetch
  /** Whether `http:` URLs may be fetched, too. */
  readonly allowHttp: boolean
}

const BYTES_MAX = 256 * 1024
const TIMEOUT_MS = 5_000

/**
 * Fetches a JSON object. It does not follow redirects, because they could lead from https to http or to another host.
 *
 * @throws {Error} that names the URL, and the fault of the URL or of its answer.
 */
export async function fetchJson(
  url: string,
  { fetch, allowHttp }: FetchJsonOptions,
): Promise<Record<string, unknown>> {
  try {
    assertFetchable(url, allowHttp)
    const response = await fetch(url, {
      headers: { accept: 'application/json' },
      redirect: 'manual',
      signal: AbortSignal.timeout(TIMEOUT_MS),
    })
    if (response.status !== 200) {
      await response.body?.cancel()
      throw new Error(`it answered ${response.status}`)
    }
    const value: unknown = JSON.parse(await readText(chunksOf(response.body), BYTES_MAX))
    if (typeof value !== 'object' || value === null || Array.isArray(value))
      throw new Error('its answer is not a JSON object')
    return value as Record<string, unknown>
  } catch (error) {
    throw new Error(`${url}: ${error instanceof Error ? error.message : String(error)}`, { cause: error })
  }
}

/** @throws {TypeError} if the text is not an absolute URL, or a URL that must not be fetched. */
export function assertFetchable(url: string, allowHttp: boolean): void {
  const protocol = URL.canParse(url) ? new URL(url).protocol : ''
  if (protocol === 'https:' || (allowHttp && protocol === 'http:')) return
  throw new TypeError(
    protocol === 'http:'
      ? `${url} is not an https URL; set allowInsecureHttp to use http in development`
      : `${url} is not an https URL`,
  )
}
