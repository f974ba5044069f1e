import { describe, expect, test } from 'vitest'
import { failed } from './failures.ts'

// Goal: the text of a failure is Curfew's own, and names the fault, the host and the remedy.
// Method: the errors that Node and undici make, with their codes and messages.

const HOST = 'rp.example:8443'
const RP = new URL(`http://${HOST}/logout`)
const error = (code: string, message: string, members: object = {}) =>
  Object.assign(new Error(message), { code, ...members })

describe('a failure without an answer', () => {
  test.each([
    ['ENOTFOUND', 'getaddrinfo ENOTFOUND rp.example', 'dns', /was not found: correct the name/],
    ['EAI_AGAIN', 'getaddrinfo EAI_AGAIN rp.example', 'dns', /name servers of Curfew's machine/],
    [
      'ECONNREFUSED',
      'connect ECONNREFUSED',
      'connection_refused',
      /refused the connection: start the server/,
    ],
    ['EHOSTUNREACH', 'connect EHOSTUNREACH', 'connection_refused', /no route leads to/],
    ['ENETUNREACH', 'connect ENETUNREACH', 'connection_refused', /no route leads to the network/],
    ['ETIMEDOUT', 'connect ETIMEDOUT', 'connect_timeout', /firewall/],
    ['UND_ERR_CONNECT_TIMEOUT', 'Connect Timeout Error', 'connect_timeout', /made in time/],
    ['ECONNRESET', 'read ECONNRESET', 'connection_reset', /closed the connection before it answered/],
    ['EPIPE', 'write EPIPE', 'connection_reset', /closed the connection before it answered/],
    ['UND_ERR_SOCKET', 'other side closed', 'connection_reset', /closed the connection before it answered/],
    ['UND_ERR_DESTROYED', 'The client is destroyed', 'connection_reset', /Curfew closed the connection/],
    ['UND_ERR_HEADERS_OVERFLOW', 'Headers Overflow Error', 'invalid_response', /64 KiB of headers/],
    ['EMFILE', 'connect EMFILE', 'local', /Curfew's machine has no free file descriptor/],
    ['EADDRNOTAVAIL', 'connect EADDRNOTAVAIL', 'local', /Curfew's machine has no free port or address/],
    ['EACCES', 'connect EACCES', 'local', /Curfew's machine may not connect/],
  ])('%s has its own words, not those of Node', (code, message, failure, words) => {
    const answer = failed(error(code, message), RP)
    expect(answer).toEqual({ kind: 'failure', failure, detail: expect.stringMatching(words) })
    const { detail } = answer as { detail: string }
    expect(detail).toContain(HOST)
    expect(detail).not.toContain(message)
    expect(detail).not.toMatch(/\.$/)
  })

  test('names the address that was dialled', () => {
    const refused = error('ECONNREFUSED', 'connect ECONNREFUSED', { address: '203.0.113.5' })
    expect(failed(refused, RP)).toMatchObject({
      detail: expect.stringContaining('rp.example:8443 (203.0.113.5)'),
    })
    expect(failed(refused, new URL('http://203.0.113.5:443/'))).toMatchObject({
      detail: expect.stringMatching(/^203\.0\.113\.5:443 refused/),
    })
  })

  test('of several addresses is that of the first one', () => {
    const both = new AggregateError([error('EHOSTUNREACH', 'one'), error('ECONNREFUSED', 'other')])
    expect(failed(both, RP)).toMatchObject({ detail: expect.stringContaining('no route leads to') })
  })

  test.each([
    [
      error('ESOMETHING', 'the words of Node'),
      'the request to rp.example:8443 failed, with the code ESOMETHING',
    ],
    [
      error('constructor', 'the words of Node'),
      'the request to rp.example:8443 failed, with the code constructor',
    ],
    [
      new TypeError('the words of Node'),
      'the request to rp.example:8443 failed, with the unknown error TypeError',
    ],
    ['text', 'the request to rp.example:8443 failed, with the unknown error string'],
  ])('is named by its code if that is unknown', (unknown, detail) => {
    expect(failed(unknown, RP)).toEqual({ kind: 'failure', failure: 'connection_reset', detail })
  })

  test('is not allowed if undici refuses to send the request', () => {
    expect(failed(error('UND_ERR_INVALID_ARG', 'invalid request path'), RP)).toMatchObject({
      kind: 'not_allowed',
      detail: expect.stringContaining('cannot be sent: its path or a header'),
    })
  })
})
