import type { TransportFailure } from '@curfew/domain'

/** Most bytes that are read of an answer's headers. */
export const HEADERS_BYTES_MAX = 64 * 1024

/** A failure of the network, or an answer that is not HTTP, in Curfew's words. They name the fault, the host and the remedy. */
export interface NetworkFailure {
  readonly failure: TransportFailure
  readonly detail: string
}

type Words = readonly [TransportFailure, (host: string) => string]

const NOT_FOUND: Words = [
  'dns',
  (host) => `the name of ${host} was not found: correct the name, or publish its address in DNS`,
]
const NO_NAME_SERVER: Words = [
  'dns',
  (host) => `no name server answered for ${host}: check the name servers of Curfew's machine`,
]
const RESET: Words = [
  'connection_reset',
  (host) => `${host} closed the connection before it answered: look in its log, or in that of its proxy`,
]
const CLOSING: Words = [
  'connection_reset',
  (host) => `Curfew closed the connection to ${host}, because it was stopping`,
]
const NO_FILES: Words = [
  'local',
  (host) => `Curfew's machine has no free file descriptor to reach ${host}: raise the limit of open files`,
]
const NO_MEMORY: Words = ['local', (host) => `Curfew's machine has no memory to reach ${host}: give it more`]
const FORBIDDEN: Words = [
  'local',
  (host) => `Curfew's machine may not connect to ${host}: correct its firewall or security policy`,
]

const WORDS: Readonly<Record<string, Words>> = {
  ENOTFOUND: NOT_FOUND,
  ENODATA: NOT_FOUND,
  EAI_NODATA: NOT_FOUND,
  EAI_NONAME: NOT_FOUND,
  EAI_AGAIN: NO_NAME_SERVER,
  EAI_FAIL: NO_NAME_SERVER,
  ECONNREFUSED: [
    'connection_refused',
    (host) => `${host} refused the connection: start the server there, or correct the address`,
  ],
  EHOSTUNREACH: [
    'connection_refused',
    (host) => `no route leads to ${host}: start its machine, or correct the routes and firewalls on the way`,
  ],
  ENETUNREACH: [
    'connection_refused',
    (host) => `no route leads to the network of ${host}: correct the routes of Curfew's machine`,
  ],
  ETIMEDOUT: [
    'connect_timeout',
    (host) => `${host} did not respond to TCP: check that it runs, and that no firewall drops the connection`,
  ],
  UND_ERR_CONNECT_TIMEOUT: [
    'connect_timeout',
    (host) =>
      `no connection to ${host} was made in time: check that it runs, and that no firewall drops the connection`,
  ],
  ECONNRESET: RESET,
  ECONNABORTED: RESET,
  EPIPE: RESET,
  UND_ERR_SOCKET: RESET,
  UND_ERR_DESTROYED: CLOSING,
  UND_ERR_CLOSED: CLOSING,
  EMFILE: NO_FILES,
  ENFILE: NO_FILES,
  ENOBUFS: NO_MEMORY,
  ENOMEM: NO_MEMORY,
  EACCES: FORBIDDEN,
  EPERM: FORBIDDEN,
  EADDRNOTAVAIL: [
    'local',
    (host) =>
      `Curfew's machine has no free port or address to reach ${host}: widen its range of local ports, or check its addresses`,
  ],
  EAFNOSUPPORT: [
    'local',
    (host) =>
      `Curfew's machine lacks the address family of ${host}: enable IPv6 there, or publish another address`,
  ],
  UND_ERR_HEADERS_OVERFLOW: [
    'invalid_response',
    (host) => `${host} sent more than ${HEADERS_BYTES_MAX / 1024} KiB of headers: make it send fewer`,
  ],
  UND_ERR_RES_CONTENT_LENGTH_MISMATCH: [
    'invalid_response',
    (host) =>
      `${host} sent headers that are not valid HTTP/1.1, such as two Content-Length, or one beside Transfer-Encoding: correct them`,
  ],
  // undici asserts that a status is 100 at least, and that a 101 has an Upgrade.
  ERR_ASSERTION: [
    'invalid_response',
    (host) => `${host} answered with a status that no answer has, such as 000 or 101: correct the status`,
  ],
}

/** How the messages of undici's parser begin or what they contain. It sets no codes. The first match counts. */
const PARSER_WORDS: readonly (readonly [RegExp, (host: string) => string])[] = [
  [
    /Expected HTTP|Expected dot|HTTP version|Expected space/,
    (host) => `${host} did not answer in HTTP/1.1: check that the address is that of an HTTP server`,
  ],
  [/status/i, (host) => `${host} answered with an invalid status: make it answer with three digits`],
  [
    /\b(?:CR|LF)\b/,
    (host) => `${host} ended a line of its headers without CR LF: make it end each line with CR LF`,
  ],
]
const INVALID_HEADERS = (host: string) =>
  `${host} sent headers that are not valid HTTP/1.1: remove spaces, line breaks and control characters from them`

/**
 * Describes an error of node:net, node:dns or undici. Their own messages do not reach the reader.
 *
 * @param host the host that was to be reached, with its port.
 * @returns null if the code is unknown.
 */
export function networkFailure(
  { name, message, ...error }: Error & { readonly address?: unknown },
  code: string,
  host: string,
): NetworkFailure | null {
  if (name === 'HTTPParserError') {
    const words = PARSER_WORDS.find(([pattern]) => pattern.test(message))?.[1] ?? INVALID_HEADERS
    return { failure: 'invalid_response', detail: words(host) }
  }
  if (code === 'UND_ERR_SOCKET' && message === 'bad response')
    return {
      failure: 'invalid_response',
      detail: `${host} sent an invalid 100 Continue: remove or correct it`,
    }
  if (code === 'UND_ERR_SOCKET' && message === 'bad upgrade')
    return {
      failure: 'invalid_response',
      detail: `${host} answered 101 Switching Protocols, which Curfew did not ask for: make it answer in HTTP/1.1`,
    }
  const known = Object.hasOwn(WORDS, code) ? WORDS[code] : undefined
  if (known === undefined) return null
  const { address } = error
  const reached = typeof address === 'string' && !host.includes(address) ? `${host} (${address})` : host
  return { failure: known[0], detail: known[1](reached) }
}
