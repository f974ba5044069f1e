/** Reads a body as UTF-8 text. @throws {Error} if it has more than `bytesMax` bytes; the rest is not read. */
export async function readText(response: Response, bytesMax: number): Promise<string> {
  const reader = response.body?.getReader()
  if (reader === undefined) return ''
  const decoder = new TextDecoder()
  let bytes = 0
  let text = ''
  try {
    for (;;) {
      const { done, value } = await reader.read()
      if (done) return text + decoder.decode()
      bytes += value.length
      if (bytes > bytesMax) throw new Error(`the answer has more than ${bytesMax} bytes`)
      text += decoder.decode(value, { stream: true })
    }
  } finally {
    // Releases the connection. A body that has failed already cannot be cancelled, which does no harm.
    reader.cancel().catch(() => undefined)
  }
}

const LOOPBACK = /^(localhost|127(\.\d+){3}|\[::1\])$/

/** @throws {TypeError} if a credential or a key must not travel to or from this URL. `name` says which option has it. */
export function assertSecure(name: string, url: string | URL, allowInsecureHttp: boolean): URL {
  if (!URL.canParse(String(url))) throw new TypeError(`${name} is not an absolute URL`)
  const parsed = new URL(url)
  if (parsed.username || parsed.password) throw new TypeError(`${name} contains a credential`)
  if (parsed.protocol === 'https:') return parsed
  if (parsed.protocol === 'http:' && (allowInsecureHttp || LOOPBACK.test(parsed.hostname))) return parsed
  throw new TypeError(
    parsed.protocol === 'http:'
      ? `${name} is not an https URL; set allowInsecureHttp to use http inside a network that you trust`
      : `${name} is not an https URL`,
  )
}

/** The message of an error, with that of its cause: `fetch` says only there why it failed. */
export function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  return error.cause instanceof Error ? `${error.message}: ${error.cause.message}` : error.message
}
