import { IntrospectionError } from './errors.ts'
import { assertSecure, messageOf, readText } from './feed/http.ts'

export interface IntrospectorOptions {
  /** The `introspection_endpoint` of the authorization server. */
  readonly endpoint: string | URL
  /** The client by which this resource server authenticates there, with `client_secret_basic`. */
  readonly clientId: string
  readonly clientSecret: string
  /** The time for an answer, in milliseconds. Default 3,000. */
  readonly timeoutMs?: number | undefined
  /** Allows plain http to hosts other than this machine. Default false. */
  readonly allowInsecureHttp?: boolean | undefined
  readonly fetch?: typeof globalThis.fetch | undefined
}

const BYTES_MAX = 64 * 1_024

/**
 * Asks an authorization server about tokens (RFC 7662). Concurrent questions about one token are one request. Nothing is kept longer.
 *
 * @returns a function that resolves to `active`, and rejects with an {@link IntrospectionError} if there is no usable answer.
 * @throws {TypeError} if an option is wrong.
 */
export function introspector(options: IntrospectorOptions): (token: string) => Promise<boolean> {
  const { clientId, clientSecret, timeoutMs = 3_000, fetch = globalThis.fetch } = options
  const url = assertSecure('endpoint', options.endpoint, options.allowInsecureHttp ?? false)
  if (!clientId || !clientSecret) throw new TypeError('clientId or clientSecret is missing')
  // The parts are form-encoded first (RFC 6749 2.3.1).
  const credentials = [clientId, clientSecret].map((part) =>
    new URLSearchParams({ '': part }).toString().slice(1),
  )
  const authorization = `Basic ${Buffer.from(credentials.join(':')).toString('base64')}`
  const pending = new Map<string, Promise<boolean>>()

  async function ask(token: string): Promise<boolean> {
    try {
      const response = await fetch(url, {
        method: 'POST',
        headers: { accept: 'application/json', authorization },
        body: new URLSearchParams({ token, token_type_hint: 'access_token' }),
        redirect: 'manual',
        signal: AbortSignal.timeout(timeoutMs),
      })
      if (response.status !== 200) {
        await response.body?.cancel()
        throw new Error(`it answered ${response.status}`)
      }
      const { active } = Object(JSON.parse(await readText(response, BYTES_MAX)))
      if (typeof active !== 'boolean') throw new Error('its answer has no active')
      return active
    } catch (cause) {
      throw new IntrospectionError(`${url} cannot be asked: ${messageOf(cause)}`, { cause })
    }
  }

  return (token) => {
    const asked = pending.get(token) ?? ask(token).finally(() => pending.delete(token))
    pending.set(token, asked)
    return asked
  }
}
