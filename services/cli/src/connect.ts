import { ApiError, type Client, createClient } from '@curfew/client'
import { readEnvironment, readOrExit } from '@curfew/runtime/environment'
import { UsageError } from './arguments.ts'

/** Options of every command that speaks to a running Curfew. */
export const CONNECTION_OPTIONS = { url: { type: 'string' }, key: { type: 'string' } } as const

const DEFAULT_URL = 'http://127.0.0.1:8480'

/** A client for `--url` and `--key`, or `CURFEW_URL` and `CURFEW_KEY`. @throws {UsageError} without a key, or for what is none, or no URL. */
export function connect(given: {
  readonly url?: string | undefined
  readonly key?: string | undefined
}): Client {
  const fromEnvironment = readOrExit((env) =>
    readEnvironment(env, (read) => ({
      url: read.url('CURFEW_URL', { protocols: ['http:', 'https:'] }),
      key: read.optional('CURFEW_KEY'),
    })),
  )
  const url = given.url ?? fromEnvironment.url ?? DEFAULT_URL
  const key = given.key ?? fromEnvironment.key
  if (!/^https?:$/.test(URL.parse(url)?.protocol ?? ''))
    throw new UsageError(`--url: ${url} is no http(s) URL.`)
  if (key === null) throw new UsageError('Give an API key: --key, or CURFEW_KEY.')
  // As a header it would come to nothing, in words that quote it.
  if (!/^[\x21-\x7e]+$/.test(key.trim()))
    throw new UsageError('--key, or CURFEW_KEY, holds characters that no API key has.')
  return createClient({ url, key })
}

/**
 * What the server answers where what it was given is wrong: not as it must be, or more than it takes. Whatever else it refuses
 * was asked well: there is no such thing, this key may not, or it is not the time.
 */
const ASKED_WRONGLY: readonly number[] = [400, 413, 414, 422]

/** A call that came to nothing, in words for a person. */
export class CallFailed extends Error {
  /** Whether the same call may succeed later. */
  readonly passing: boolean

  constructor(message: string, { passing, cause }: { passing: boolean; cause: unknown }) {
    super(message, { cause })
    this.passing = passing
  }
}

/**
 * What a call answers: here it is decided whether a failure is that of who asks.
 *
 * @throws {UsageError} where it was asked wrongly; the message names the member, and the cause is an `ApiError` where the server
 * found it. @throws {CallFailed} where it was not.
 */
export async function answered<Answer>(call: Promise<Answer>): Promise<Answer> {
  try {
    return await call
  } catch (error) {
    if (error instanceof UsageError || error instanceof CallFailed) throw error
    if (error instanceof ApiError) {
      const { status } = error
      const message = `Curfew answered ${status}: ${error.message}`
      if (ASKED_WRONGLY.includes(status)) throw new UsageError(message, { cause: error })
      throw new CallFailed(message, {
        passing: status === 429 || status >= 500,
        cause: error,
      })
    }
    const { cause } = Object(error) as { readonly cause?: unknown }
    const { code } = Object(cause) as { readonly code?: unknown }
    // What OpenSSL says of itself names its source files.
    const said = typeof code === 'string' && code.startsWith('ERR_SSL_') ? null : Object(cause).message
    const reason = cause instanceof Error ? said || code : Object(error).message
    throw new CallFailed(`Curfew does not answer: ${reason}`, { passing: true, cause: error })
  }
}
