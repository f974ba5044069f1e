import type { Answer } from '@curfew/domain'
import { AddressNotAllowedError } from './connector.ts'
import { networkFailure } from './network-failures.ts'
import { tlsFailure } from './tls-failures.ts'

/**
 * Maps an error from undici, node:net, node:tls or node:dns to an answer. An unknown error counts as a broken connection.
 *
 * @param url the address that was to be reached.
 */
export function failed(error: unknown, url: URL): Answer {
  const { host } = url
  const cause = decisive(error)
  if (cause instanceof AddressNotAllowedError) return { kind: 'not_allowed', detail: cause.message }
  const code = cause instanceof Error && 'code' in cause && typeof cause.code === 'string' ? cause.code : ''
  const unknown = `the request to ${host} failed, with the ${code === '' ? 'unknown error' : 'code'} ${code || nameOf(cause)}`
  if (!(cause instanceof Error)) return { kind: 'failure', failure: 'connection_reset', detail: unknown }
  // undici refused the request itself, so another attempt cannot succeed.
  if (code === 'UND_ERR_INVALID_ARG')
    return {
      kind: 'not_allowed',
      detail: `the request to ${host} cannot be sent: its path or a header has a character that HTTP forbids`,
    }
  const network = networkFailure(cause, code, host)
  // A server may refuse TLS by closing the connection: the class is then that of the connection.
  const tls = tlsFailure(cause, code, url)
  const failure = network?.failure ?? (tls === null ? 'connection_reset' : 'tls')
  return { kind: 'failure', failure, detail: tls ?? network?.detail ?? unknown }
}

function nameOf(cause: unknown): string {
  return cause instanceof Error ? cause.name : typeof cause
}

/** The error that counts. When several addresses were tried, that is the error of the first one. */
function decisive(error: unknown): unknown {
  return error instanceof AggregateError && error.errors.length > 0 ? decisive(error.errors[0]) : error
}
