import { chunksOf, readText } from './bounded.ts'

export interface FetchJsonOptions {
  readonly fetch: typeof fetch
  /** Default false: only `https:` is asked. */
  readonly allowHttp: boolean
}

const BYTES_MAX = 256 * 1024
const TIMEOUT_MS = 5_000

/**
 * GETs a JSON object. Redirects are not followed: they could lead from https to http, or anywhere else.
 *
 * @throws {Error} that names the URL and says what is wrong with it or its answer.
 */
export async function fetchJson(
  url: string,
  { fetch, allowHttp }: FetchJsonOptions,
): Promise<Record<string, unknown>> {
  try {
    assertAskable(url, allowHttp)
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
      throw new Error('it is no JSON object')
    return value as Record<string, unknown>
  } catch (error) {
    throw new Error(`${url}: ${error instanceof Error ? error.message : String(error)}`, { cause: error })
  }
}

/** @throws {TypeError} when it is no absolute URL, or one that may not be asked. */
export function assertAskable(url: string, allowHttp: boolean): void {
  const protocol = URL.canParse(url) ? new URL(url).protocol : ''
  if (protocol === 'https:' || (allowHttp && protocol === 'http:')) return
  throw new TypeError(
    protocol === 'http:'
      ? `${url} is not https (allowInsecureHttp is for development)`
      : `${url} is no https URL`,
  )
}
