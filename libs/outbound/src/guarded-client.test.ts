import { once } from 'node:events'
import { createServer as createTcp } from 'node:net'
import { gzipSync } from 'node:zlib'
import type { Answer } from '@curfew/domain'
import { afterEach, describe, expect, test } from 'vitest'
import { cleanUp, client, http, listening, send, tcp } from './relying-parties.fixture.ts'

// Goal: no relying party makes the client wait longer or read more than its limits, and each kind of fault has its own answer.
// (STANDARDS S7, S8, NET-03, NET-04.)
// Method: real servers on loopback, and raw sockets where HTTP libraries behave too well.

afterEach(cleanUp)

describe('a request (BCL-01, BCL-02)', () => {
  test('has a form of one field, and the query byte for byte', async () => {
    const seen: { method?: string; url?: string; type?: string; body: string }[] = []
    const port = await http(async (request, response) => {
      let body = ''
      for await (const chunk of request) body += String(chunk)
      const { method, url, headers } = request
      seen.push({
        ...(method && { method }),
        ...(url && { url }),
        ...(headers['content-type'] && { type: headers['content-type'] }),
        body,
      })
      response.end()
    })
    const uri = `http://127.0.0.1:${port}/a%2Fb;x/../logout?tenant=%C3%A4&q=a+b&&=`
    expect(await send(client(), port, { uri })).toMatchObject({ kind: 'response', status: 200 })
    expect(seen).toEqual([
      {
        method: 'POST',
        url: '/a%2Fb;x/../logout?tenant=%C3%A4&q=a+b&&=',
        type: 'application/x-www-form-urlencoded',
        body: 'logout_token=a.b.c',
      },
    ])
  })

  test('reuses the kept connection', async () => {
    const sockets = new Set<unknown>()
    const port = await http((request, response) => {
      sockets.add(request.socket)
      response.end()
    })
    const guarded = client()
    for (let n = 0; n < 50; n++) await send(guarded, port)
    // A request may start while the previous connection is still being returned to the pool.
    expect(sockets.size).toBeLessThanOrEqual(2)
  })
})

test('a request that gets no answer is reported with its class, and an answer is not', async () => {
  const failures: string[] = []
  const guarded = client({ onFailure: (failure) => failures.push(failure) })
  const port = await http((_request, response) => response.writeHead(500).end())
  await send(guarded, port)
  expect(failures).toEqual([])
  await send(guarded, await tcp((socket) => socket.destroy()))
  await send(guarded, port, { uri: 'http://10.0.0.1/' })
  await guarded.get({
    uri: `https://127.0.0.1:${port}/`,
    headers: {},
    timeoutMs: 5_000,
    allowedNetworks: null,
  })
  expect(failures).toEqual(['connection_reset', 'not_allowed', 'tls'])
})

describe('an answer', () => {
  test.each(['99999', '1000', '65536', '-1', '0x200', '2'])(
    'with the invalid status %s never yields a number that the ledger cannot store',
    async (status) => {
      const port = await tcp((socket) =>
        socket.once('data', () => socket.end(`HTTP/1.1 ${status} Odd\r\ncontent-length: 0\r\n\r\n`)),
      )
      const answer = await send(client(), port)
      expect(answer.kind === 'failure' || (answer.kind === 'response' && answer.status <= 999)).toBe(true)
    },
  )

  test.each([200, 204, 400, 500, 503])('of status %i keeps body and Retry-After', async (status) => {
    const port = await http((_request, response) => {
      response.writeHead(status, { 'retry-after': '7' })
      response.end(status === 204 ? undefined : '{"error":"x"}')
    })
    expect(await send(client(), port)).toEqual({
      kind: 'response',
      status,
      retryAfter: '7',
      body: status === 204 ? '' : '{"error":"x"}',
    })
  })

  test.each([301, 302, 303, 307, 308])(
    'that redirects (%i) to a private address is not followed (NET-03)',
    async (status) => {
      let reached = 0
      const target = await http((_request, response) => {
        reached += 1
        response.end()
      })
      const port = await http((_request, response) => {
        response.writeHead(status, { location: `http://127.0.0.1:${target}/` }).end()
      })
      expect(await send(client(), port)).toMatchObject({ kind: 'response', status })
      expect(reached).toBe(0)
    },
  )

  test('keeps its status when its body breaks off', async () => {
    const port = await tcp((socket) =>
      socket.once('data', () => {
        socket.write('HTTP/1.1 503 Service Unavailable\r\ncontent-length: 1000\r\n\r\nso far', () =>
          socket.resetAndDestroy(),
        )
      }),
    )
    expect(await send(client(), port)).toMatchObject({ kind: 'response', status: 503 })
  })

  test('may follow an interim answer', async () => {
    const port = await http((_request, response) => {
      response.writeProcessing()
      response.writeHead(204).end()
    })
    expect(await send(client(), port)).toMatchObject({ kind: 'response', status: 204 })
  })
})

describe('bodies (NET-04)', () => {
  test('an endless body is cut at the cap, and its status counts', async () => {
    const closed = Promise.withResolvers<number>()
    const port = await http((request, response) => {
      const block = Buffer.alloc(64 * 1024)
      const pump = () => {
        while (!response.destroyed && response.write(block));
      }
      response.on('drain', pump)
      response.on('close', () => closed.resolve(request.socket.bytesWritten))
      pump()
    })
    const answer = await send(client({ responseBytesMax: 1_000 }), port)
    expect(answer).toMatchObject({ kind: 'response', status: 200 })
    expect(answer.kind === 'response' && answer.body.length).toBe(1_000)
    // The buffers of two sockets hold less than this; the server has more to send.
    expect(await closed.promise).toBeLessThan(16 * 1024 * 1024)
  })

  test('a body with a Content-Length of 10 GB is cut at the cap', async () => {
    const closed = Promise.withResolvers<number>()
    const port = await http((request, response) => {
      response.writeHead(400, { 'content-length': 10 * 1024 ** 3 })
      const block = Buffer.alloc(64 * 1024, 'x')
      const pump = () => {
        while (!response.destroyed && response.write(block));
      }
      response.on('drain', pump)
      response.on('close', () => closed.resolve(request.socket.bytesWritten))
      pump()
    })
    const answer = await send(client(), port)
    expect(answer).toEqual({ kind: 'response', status: 400, retryAfter: null, body: 'x'.repeat(16 * 1024) })
    expect(await closed.promise).toBeLessThan(16 * 1024 * 1024)
  })

  test('a body of one byte a second ends at the deadline, and its status counts', async () => {
    const closed = Promise.withResolvers<void>()
    const port = await tcp((socket) => {
      socket.write('HTTP/1.1 400 Bad Request\r\ncontent-length: 1000\r\n\r\n')
      const timer = setInterval(() => socket.write('x'), 1_000)
      socket.resume().on('close', () => {
        clearInterval(timer)
        closed.resolve()
      })
    })
    const startedMs = performance.now()
    const answer = await send(client(), port, { timeoutMs: 2_500 })
    expect(answer).toMatchObject({ kind: 'response', status: 400, body: expect.stringMatching(/^x{1,3}$/) })
    expect(performance.now() - startedMs).toBeGreaterThan(2_400)
    await closed.promise
  })

  test('a decompression bomb is not inflated', async () => {
    // It would inflate a thousandfold, to 10 MiB.
    const bomb = gzipSync(Buffer.alloc(10 * 1024 * 1024))
    const port = await http((_request, response) => {
      response.writeHead(400, { 'content-encoding': 'gzip', 'content-length': bomb.length }).end(bomb)
    })
    expect(bomb.length).toBeLessThan(16 * 1024)
    expect(await send(client(), port)).toMatchObject({
      kind: 'response',
      status: 400,
      body: bomb.toString('utf8'),
    })
  })
})

describe('a failure', () => {
  const expectFailure = (answer: Answer, failure: string) =>
    expect(answer).toMatchObject({ kind: 'failure', failure })

  test('is a timeout when headers trickle beyond the deadline', async () => {
    const port = await tcp((socket) => {
      socket.write('HTTP/1.1 200 OK\r\nx: ')
      const timer = setInterval(() => socket.write('y'), 20)
      socket.on('close', () => clearInterval(timer))
    })
    expectFailure(await send(client(), port, { timeoutMs: 200 }), 'timeout')
  })

  test('is a timeout when the server is silent until the deadline', async () => {
    const closed = Promise.withResolvers<void>()
    const port = await tcp((socket) => socket.resume().on('close', () => closed.resolve()))
    expectFailure(await send(client(), port, { timeoutMs: 100 }), 'timeout')
    await closed.promise
  })

  test('is invalid_response when the server does not speak HTTP', async () => {
    const port = await tcp((socket) => socket.end('SSH-2.0-OpenSSH_9.9\r\n'))
    expectFailure(await send(client(), port), 'invalid_response')
  })

  test('is a timeout when only an unasked 100 Continue comes', async () => {
    const port = await tcp((socket) =>
      socket.once('data', () => socket.write('HTTP/1.1 100 Continue\r\n\r\n')),
    )
    expectFailure(await send(client(), port, { timeoutMs: 200 }), 'timeout')
  })

  test('is invalid_response when the headers are endless', async () => {
    const port = await tcp((socket) => socket.write(`HTTP/1.1 200 OK\r\nx: ${'y'.repeat(100_000)}\r\n\r\n`))
    expectFailure(await send(client(), port), 'invalid_response')
  })

  test('is connection_reset on a reset', async () => {
    const port = await tcp((socket) => socket.once('data', () => socket.resetAndDestroy()))
    expectFailure(await send(client(), port), 'connection_reset')
  })

  test('is connection_reset when only an interim answer comes', async () => {
    const port = await tcp((socket) =>
      socket.once('data', () => socket.end('HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n')),
    )
    expectFailure(await send(client(), port), 'connection_reset')
  })

  test('is connection_reset when the server closes without an answer', async () => {
    const port = await tcp((socket) => socket.once('data', () => socket.end()))
    expectFailure(await send(client(), port), 'connection_reset')
  })

  test('is connection_reset when the server closes a reused connection, without a second try', async () => {
    let requests = 0
    const port = await tcp((socket) =>
      socket.on('data', () => {
        requests += 1
        if (requests === 1) socket.write('HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n')
        else socket.resetAndDestroy()
      }),
    )
    const guarded = client({ connectionsPerOrigin: 1 })
    expect(await send(guarded, port)).toMatchObject({ status: 200 })
    expectFailure(await send(guarded, port), 'connection_reset')
    expect(requests).toBe(2)
  })

  test('is connect_timeout when the name server does not answer', async () => {
    const guarded = client({ lookup: () => undefined, connectTimeoutMs: 50 })
    expectFailure(await send(guarded, 0, { uri: 'https://rp.example/' }), 'connect_timeout')
  })

  test('is a timeout when the lookup ends after the deadline, and the late connection sends nothing', async () => {
    const closed = Promise.withResolvers<number>()
    const port = await tcp((socket) => {
      socket.resume().on('close', () => closed.resolve(socket.bytesRead))
    })
    const answer = Promise.withResolvers<void>()
    const guarded = client({
      lookup: (_name, callback) =>
        void answer.promise.then(() => callback(null, [{ address: '127.0.0.1', family: 4 }])),
    })
    expectFailure(await send(guarded, port, { uri: `http://rp.example:${port}/`, timeoutMs: 50 }), 'timeout')
    answer.resolve()
    expect(await closed.promise).toBe(0)
  })

  test('is connection_refused when no server listens', async () => {
    const server = createTcp()
    const port = await listening(server)
    server.close()
    await once(server, 'close')
    expectFailure(await send(client(), port), 'connection_refused')
  })

  test('is dns when the name does not exist', async () => {
    const guarded = client({
      lookup: (_name, callback) => callback(Object.assign(new Error('not found'), { code: 'ENOTFOUND' }), []),
    })
    expectFailure(await send(guarded, 0, { uri: 'https://rp.example/logout' }), 'dns')
  })
})
