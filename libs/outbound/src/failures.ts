import type { Answer, TransportFailure } from '@curfew/domain'
import { AddressNotAllowedError } from './connector.ts'
import { tlsFailure } from './tls-failures.ts'

const FAILURES: Readonly<Record<string, TransportFailure>> = {
  ENOTFOUND: 'dns',
  ENODATA: 'dns',
  EAI_AGAIN: 'dns',
  EAI_FAIL: 'dns',
  EAI_NODATA: 'dns',
  EAI_NONAME: 'dns',
  ECONNREFUSED: 'connection_refused',
  EHOSTUNREACH: 'connection_refused',
  ENETUNREACH: 'connection_refused',
  EADDRNOTAVAIL: 'connection_refused',
  UND_ERR_CONNECT_TIMEOUT: 'connect_timeout',
  ETIMEDOUT: 'connect_timeout',
  ECONNRESET: 'connection_reset',
  EPIPE: 'connection_reset',
  UND_ERR_SOCKET: 'connection_reset',
  UND_ERR_HEADERS_OVERFLOW: 'invalid_response',
  UND_ERR_RES_CONTENT_LENGTH_MISMATCH: 'invalid_response',
}

/**
 * Maps an error from undici, node:net, node:tls or node:dns to an answer. An unknown error counts as a broken connection.
 *
 * @param url the address that was to be reached.
 */
export function failed(error: unknown, url: URL): Answer {
  const cause = decisive(error)
  if (cause instanceof AddressNotAllowedError) return { kind: 'not_allowed', detail: cause.message }
  if (!(cause instanceof Error)) {
    return { kind: 'failure', failure: 'connection_reset', detail: String(cause) }
  }
  const code = 'code' in cause && typeof cause.code === 'string' ? cause.code : ''
  // undici refused the request itself, so another attempt cannot succeed.
  if (code === 'UND_ERR_INVALID_ARG')
    return { kind: 'not_allowed', detail: `cannot be sent: ${cause.message}` }
  const tls = tlsFailure(cause, code, url)
  const failure = failureOf(cause, code) ?? (tls === null ? 'connection_reset' : 'tls')
  return { kind: 'failure', failure, detail: tls ?? cause.message }
}

function failureOf({ name, message }: Error, code: string): TransportFailure | null {
  // By name, because the parser does not always set a code.
  if (name === 'HTTPParserError') return 'invalid_response'
  // `bad response`, `bad upgrade`: a 100 or 101 that we did not ask for.
  if (code === 'UND_ERR_SOCKET' && message.startsWith('bad ')) return 'invalid_response'
  return FAILURES[code] ?? null
}

/** The error that counts. When several addresses were tried, that is the error of the first one. */
function decisive(error: unknown): unknown {
  return error instanceof AggregateError && error.errors.length > 0 ? decisive(error.errors[0]) : error
}
