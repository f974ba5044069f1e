import { ApiError, type Client, createClient } from '@curfew/client'
import { readEnvironment, readOrExit } from '@curfew/runtime/environment'
import { flag, text, UsageError } from '../terminal/arguments.ts'

const HEADING = 'Global options:'

/** The option of commands that can print their result for programs. */
export const JSON_OPTION = { json: { ...flag('print JSON'), heading: HEADING } } as const

/** The options of commands that call the API. */
export const CONNECTION_OPTIONS = {
  url: {
    ...text('URL', 'the address of Curfew (default: CURFEW_URL, or http://127.0.0.1:8480)'),
    heading: HEADING,
  },
  key: { ...text('KEY', 'the API key (default: CURFEW_KEY)'), heading: HEADING },
  ...JSON_OPTION,
} as const

const DEFAULT_URL = 'http://127.0.0.1:8480'

/**
 * A client for `--url` and `--key`, or `CURFEW_URL` and `CURFEW_KEY`.
 *
 * @throws {UsageError} if the key is missing, or the key or the URL is malformed.
 */
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
    throw new UsageError(`--url: ${url} is not an http(s) URL.`)
  if (key === null) throw new UsageError('Give an API key: --key, or CURFEW_KEY.')
  // The HTTP client would refuse it as a header, with an error that quotes the key.
  if (!/^[\x21-\x7e]+$/.test(key.trim()))
    throw new UsageError(
      '--key, or CURFEW_KEY, has characters that no API key has. Give the key as it was shown.',
    )
  return createClient({ url, key })
}

/**
 * The statuses of answers to an invalid or too large request. Other refusals are not faults of the command line: the object does
 * not exist, the key lacks the right, or the state does not allow it.
 */
const INVALID_REQUEST: readonly number[] = [400, 413, 414, 422]

/** A failed call of the API. Its message is for a person. */
export class CallFailed extends Error {
  /** Whether the same call may succeed later. */
  readonly passing: boolean

  constructor(message: string, { passing, cause }: { passing: boolean; cause: unknown }) {
    super(message, { cause })
    this.passing = passing
  }
}

/**
 * The answer to a call. This function decides whether a failure is a fault of the command line.
 *
 * @throws {UsageError} if the request is invalid. The message names the member. If the server found the fault, the cause is an
 * `ApiError`. @throws {CallFailed} if the call failed for another reason.
 */
export async function answered<Answer>(call: Promise<Answer>): Promise<Answer> {
  try {
    return await call
  } catch (error) {
    if (error instanceof UsageError || error instanceof CallFailed) throw error
    if (error instanceof ApiError) {
      const { status } = error
      const message = `Curfew answered ${status}: ${error.message}`
      if (INVALID_REQUEST.includes(status)) throw new UsageError(message, { cause: error })
      throw new CallFailed(message, {
        passing: status === 429 || status >= 500,
        cause: error,
      })
    }
    const { cause } = Object(error) as { readonly cause?: unknown }
    const { code } = Object(cause) as { readonly code?: unknown }
    // Messages of OpenSSL name its source files, so its code is shown in their place.
    const message = typeof code === 'string' && code.startsWith('ERR_SSL_') ? null : Object(cause).message
    const reason = cause instanceof Error ? message || code : Object(error).message
    throw new CallFailed(
      `Curfew does not answer: ${reason}. Check that it runs, and that --url or CURFEW_URL is its address.`,
      { passing: true, cause: error },
    )
  }
}
