import type { Socket } from 'node:net'
import type { Answer } from '@curfew/domain'
import { afterEach, describe, expect, test } from 'vitest'
import { openCertificateMaker } from '../../../test/support/certificates.ts'
import { cleanUp, client, https, send, tcp } from './relying-parties.fixture.ts'

// Goal: an answer that curl and node:http take is an answer, and no answer is taken for that of another request. (RFC 9110, RFC 9112.)
// Method: servers that write raw bytes. curl and node:http were run against the same bytes when the tables were written.

afterEach(cleanUp)

const OK = 'HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n'
const CONTINUE = 'HTTP/1.1 100 Continue\r\n\r\n'
const withHeaders = (headers: string, body = '') => `HTTP/1.1 200 OK\r\n${headers}\r\n\r\n${body}`
const kibOfHeaders = (kib: number) =>
  Array.from({ length: kib }, (_, n) => `x-${n}: ${'y'.repeat(1_015)}`).join('\r\n')

/** The answer of a server that reads a request and writes raw bytes. */
async function answerOf(raw: string | readonly string[] | ((socket: Socket) => void)): Promise<Answer> {
  const port = await tcp((socket) =>
    socket.once('data', async () => {
      if (typeof raw === 'function') return raw(socket)
      for (const part of typeof raw === 'string' ? [raw] : raw) {
        await new Promise((written) => socket.write(part, 'latin1', written))
        await new Promise(setImmediate)
      }
    }),
  )
  return send(client(), port, { timeoutMs: 5_000 })
}

describe('an answer counts', () => {
  test.each<[string, number, string | readonly string[]]>([
    ['after an unasked 100 Continue', 200, CONTINUE + OK],
    ['after several of them', 200, CONTINUE.repeat(3) + OK],
    ['after one with headers', 200, `HTTP/1.1 100 Continue\r\nserver: x\r\n\r\n${OK}`],
    ['after one without a reason', 200, `HTTP/1.1 100\r\n\r\n${OK}`],
    ['after one that arrives alone', 200, [CONTINUE, OK]],
    [
      'after a 100, a 102 and a 103',
      200,
      `${CONTINUE}HTTP/1.1 102 P\r\n\r\nHTTP/1.1 103 E\r\nlink: </x>\r\n\r\n${OK}`,
    ],
    [
      'after 40 KiB of early hints, twice',
      200,
      `HTTP/1.1 103 E\r\n${kibOfHeaders(40)}\r\n\r\n`.repeat(2) + OK,
    ],
    ['without a reason', 200, 'HTTP/1.1 200\r\ncontent-length: 0\r\n\r\n'],
    ['with a reason in latin-1', 200, 'HTTP/1.1 200 Sch\xf6n\r\ncontent-length: 0\r\n\r\n'],
    [
      'in HTTP/1.0 with keep-alive',
      200,
      'HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 0\r\n\r\n',
    ],
    ['after empty lines', 200, `\r\n\r\n${OK}`],
    [
      'with an offer of HTTP/2',
      200,
      withHeaders('upgrade: h2,h2c\r\nconnection: upgrade\r\ncontent-length: 0'),
    ],
    ['with 200 headers', 200, withHeaders(`${'set-cookie: a=b\r\n'.repeat(200)}content-length: 0`)],
    ['with 63 KiB of headers', 200, withHeaders(`${kibOfHeaders(63)}\r\ncontent-length: 0`)],
    ['with one header of 63 KiB', 200, withHeaders(`x: ${'y'.repeat(63 * 1024)}\r\ncontent-length: 0`)],
    [
      'with odd names and values',
      200,
      withHeaders("x!#$%&'*+-.^_`|~:a\r\ny:\r\nz: sch\xf6n\r\ncontent-length: 0"),
    ],
    [
      'with chunks, an extension and a trailer',
      200,
      withHeaders('transfer-encoding: chunked', 'A;x="y"\r\n0123456789\r\n0\r\nx: y\r\n\r\n'),
    ],
    ['with a broken chunk', 200, withHeaders('transfer-encoding: chunked', 'zz\r\n')],
    ['of status 204 with a length', 204, 'HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\n'],
    ['of status 204 with a body', 204, 'HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\nhello'],
    ['of status 304 with a body', 304, 'HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\nhello'],
    ['with more body than its length', 200, withHeaders('content-length: 1', 'hello')],
    ['with a broken gzip', 200, withHeaders('content-encoding: gzip\r\ncontent-length: 2', 'ok')],
    ['of an unknown status', 999, 'HTTP/1.1 999 X\r\ncontent-length: 0\r\n\r\n'],
  ])('%s', async (_, status, raw) => {
    expect(await answerOf(raw)).toMatchObject({ kind: 'response', status })
  })

  test.each<[string, (socket: Socket) => void]>([
    ['when it ends with the connection', (socket) => socket.end('HTTP/1.0 200 OK\r\n\r\nok')],
    [
      'when the connection ends before the last chunk',
      (socket) => socket.end(withHeaders('transfer-encoding: chunked', '2\r\nok\r\n')),
    ],
    ['when a reset follows it', (socket) => socket.write(OK, () => socket.resetAndDestroy())],
    [
      'when a reset cuts its body',
      (socket) => socket.write(withHeaders('content-length: 9', 'ok'), () => socket.resetAndDestroy()),
    ],
  ])('%s', async (_, answer) => {
    expect(await answerOf(answer)).toMatchObject({ kind: 'response', status: 200 })
  })

  test('at the deadline, if its body has no length and does not end', async () => {
    const port = await tcp((socket) => socket.once('data', () => socket.write('HTTP/1.1 200 OK\r\n\r\nok')))
    expect(await send(client(), port, { timeoutMs: 300 })).toMatchObject({ status: 200, body: 'ok' })
  })

  test('when it comes before the request is read', async () => {
    const port = await tcp((socket) => socket.end('HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n'))
    expect(await send(client(), port)).toMatchObject({ kind: 'response', status: 413 })
  })

  test('wherever the network splits it and the 100 Continue before it', async () => {
    const raw = CONTINUE + CONTINUE + OK
    for (let at = 1; at < raw.length; at++) {
      const answer = await answerOf([raw.slice(0, at), raw.slice(at)])
      expect(answer, `split at ${at}`).toMatchObject({ kind: 'response', status: 200 })
    }
    expect(await answerOf([...raw])).toMatchObject({ kind: 'response', status: 200 })
  })

  test('after an unasked 100 Continue over TLS', async () => {
    await using certificates = await openCertificateMaker()
    const certificate = await certificates.selfSigned('IP:127.0.0.1')
    const port = await https(certificate, ({ socket }) => socket.write(CONTINUE))
    const guarded = client({ ca: [certificate.cert] })
    const answer = await send(guarded, port, { uri: `https://127.0.0.1:${port}/` })
    expect(answer).toMatchObject({ kind: 'response', status: 200 })
  })

  test('with the first of two Retry-After', async () => {
    const raw = 'HTTP/1.1 503 X\r\nretry-after: 5\r\nretry-after: 9\r\ncontent-length: 0\r\n\r\n'
    expect(await answerOf(raw)).toMatchObject({ status: 503, retryAfter: '5' })
  })
})

describe('an answer is refused, with a reason and a remedy,', () => {
  test.each<[string, RegExp, string]>([
    [
      'if it names two lengths',
      /two Content-Length/,
      withHeaders('content-length: 2\r\ncontent-length: 3', 'okk'),
    ],
    [
      'if it has a length beside chunks',
      /Transfer-Encoding/,
      withHeaders('content-length: 2\r\ntransfer-encoding: chunked', '0\r\n\r\n'),
    ],
    ['if its lines end in LF', /CR LF/, 'HTTP/1.1 200 OK\ncontent-length: 0\n\n'],
    ['if a 100 Continue before it ends in LF', /CR LF/, `HTTP/1.1 100 Continue\n\n${OK}`],
    [
      'if a 100 Continue before it is endless',
      /100 Continue/,
      `HTTP/1.1 100 Continue\r\n${kibOfHeaders(20)}\r\n\r\n${OK}`,
    ],
    ['if a space precedes a colon', /not valid HTTP\/1\.1/, withHeaders('x : y\r\ncontent-length: 0')],
    ['if it is not HTTP', /did not answer in HTTP\/1\.1/, 'SSH-2.0-OpenSSH_9.9\r\n'],
    ['if its status is 000', /status/, 'HTTP/1.1 000 X\r\ncontent-length: 0\r\n\r\n'],
    ['if its status has four digits', /three digits/, 'HTTP/1.1 2000 X\r\ncontent-length: 0\r\n\r\n'],
    [
      'if it has more than 64 KiB of headers',
      /more than 64 KiB/,
      withHeaders(`${kibOfHeaders(66)}\r\ncontent-length: 0`),
    ],
    [
      'if it is an unasked 101',
      /101 Switching Protocols/,
      'HTTP/1.1 101 S\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n',
    ],
  ])('%s', async (_, words, raw) => {
    expect(await answerOf(raw)).toMatchObject({
      kind: 'failure',
      failure: 'invalid_response',
      detail: expect.stringMatching(words),
    })
  })
})

describe('a reused connection', () => {
  const numbered = (n: number | string) => withHeaders(`content-length: ${String(n).length}`, String(n))

  test.each([
    ['a second answer', numbered('stale')],
    ['a 100 Continue and a second answer', CONTINUE + numbered('stale')],
    ['the beginning of an answer', 'HTTP/1.1 2'],
    ['the beginning of a 100 Continue', 'HTTP/1.1 1'],
    ['bytes that are not HTTP', 'junk'],
  ])('gives no request %s that came before it', async (_, stale) => {
    let requests = 0
    const sockets: Socket[] = []
    const port = await tcp((socket) => {
      sockets.push(socket)
      socket.on('data', () => socket.write(numbered(++requests)))
    })
    const guarded = client({ connectionsPerOrigin: 1 })
    expect(await send(guarded, port)).toMatchObject({ body: '1' })
    await new Promise((written) => sockets[0]?.write(stale, written))
    expect(await send(guarded, port)).toMatchObject({ kind: 'response', body: '2' })
    expect(sockets).toHaveLength(2)
  })

  test.each([
    ['a second answer', numbered('stale')],
    ['a 100 Continue', CONTINUE],
    ['bytes that are not HTTP', 'junk'],
  ])('is not kept if %s follows an answer at once', async (_, more) => {
    let requests = 0
    const port = await tcp((socket) => socket.on('data', () => socket.write(numbered(++requests) + more)))
    const guarded = client({ connectionsPerOrigin: 1 })
    const answers = await Promise.all(Array.from({ length: 10 }, () => send(guarded, port)))
    expect(answers.map((answer) => answer.kind === 'response' && answer.body)).toEqual(
      Array.from({ length: 10 }, (_, n) => String(n + 1)),
    )
  })

  test('gives no request the body of a 204 before it', async () => {
    const hidden = numbered('stale')
    const port = await tcp((socket) =>
      socket.on('data', () =>
        socket.write(`HTTP/1.1 204 No Content\r\ncontent-length: ${hidden.length}\r\n\r\n${hidden}`),
      ),
    )
    const guarded = client({ connectionsPerOrigin: 1 })
    const answers = await Promise.all(Array.from({ length: 10 }, () => send(guarded, port)))
    expect(answers.map((answer) => answer.kind === 'response' && answer.status)).toEqual(Array(10).fill(204))
  })
})
