import { afterEach, expect, test } from 'vitest'
import { createGuardedFetch } from './fetch.ts'
import { cleanUp, client, http } from './relying-parties.fixture.ts'

// Goal: a library that takes a `fetch` makes its requests through the guard.
// Method: real servers on loopback.

afterEach(cleanUp)
const LIMITS = { timeoutMs: 5_000, responseBytesMax: 1_000 }

test('a request has its method, headers and body, and the answer its status, headers and body', async () => {
  const port = await http((request, response) => {
    response.writeHead(201, { etag: '"7"' })
    response.write(`${request.method} ${request.headers['x-a']} `)
    request.pipe(response)
  })
  const answer = await createGuardedFetch(client(), LIMITS)(new URL(`http://127.0.0.1:${port}/`), {
    method: 'post',
    headers: { 'X-A': 'b' },
    body: new URLSearchParams({ token: 'c' }),
  })
  expect([answer.status, answer.headers.get('etag'), await answer.text()]).toEqual([
    201,
    '"7"',
    'POST b token=c',
  ])
})

test('an answer without a body is accepted, and a redirect is not followed', async () => {
  const port = await http((request, response) => {
    response.writeHead(request.url === '/same' ? 304 : 302, { location: '/elsewhere' }).end()
  })
  const fetch = createGuardedFetch(client(), LIMITS)
  expect((await fetch(`http://127.0.0.1:${port}/same`)).status).toBe(304)
  expect((await fetch(`http://127.0.0.1:${port}/`)).status).toBe(302)
})

test('an address that is not allowed is an error, and receives no request', async () => {
  let requests = 0
  const port = await http((_request, response) => {
    requests++
    response.end()
  })
  const fetch = createGuardedFetch(client({ allowedNetworks: [] }), LIMITS)
  await expect(fetch(`http://127.0.0.1:${port}/`)).rejects.toThrow(TypeError)
  expect(requests).toBe(0)
})

test('an abort ends the wait for an answer', async () => {
  const asked = Promise.withResolvers<void>()
  const port = await http(() => asked.resolve())
  const stop = new AbortController()
  const answer = createGuardedFetch(client(), LIMITS)(`http://127.0.0.1:${port}/`, { signal: stop.signal })
  await asked.promise
  stop.abort(new Error('stopped'))
  await expect(answer).rejects.toThrow('stopped')
})
