import type { Answer } from '@curfew/domain'
import { AddressNotAllowedError } from './connector.ts'
import { networkFailure } from './network-failures.ts'

/** Node has some forty codes for a certificate that does not verify. OpenSSL has its own for a handshake that fails. */
const TLS_CODE =
  /^(?:EPROTO$|HOSTNAME_MISMATCH$|ERR_TLS_|ERR_SSL_|ERR_OSSL_|CERT_|CRL_|ERROR_IN_C|UNABLE_TO_|SELF_SIGNED_|DEPTH_ZERO_|INVALID_CA|INVALID_PURPOSE|PATH_LENGTH_)/

/**
 * Maps an error from undici, node:net, node:tls or node:dns to an answer. An unknown error counts as a broken connection.
 *
 * @param host the host that was to be reached, with its port.
 */
export function failed(error: unknown, host: string): Answer {
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
  if (network !== null) return { kind: 'failure', ...network }
  if (TLS_CODE.test(code)) return { kind: 'failure', failure: 'tls', detail: cause.message }
  return { kind: 'failure', failure: 'connection_reset', detail: unknown }
}

function nameOf(cause: unknown): string {
  return cause instanceof Error ? cause.name : typeof cause
}

/** The error that counts. When several addresses were tried, that is the error of the first one. */
function decisive(error: unknown): unknown {
  return error instanceof AggregateError && error.errors.length > 0 ? decisive(error.errors[0]) : error
}
