import type { NetworkAccess } from '@curfew/domain'
import { afterEach, expect, test } from 'vitest'
import { createIssuerPost, fetchJson } from './json.ts'
import { cleanUp, client, http } from './relying-parties.fixture.ts'

// Goal: key sets and discovery documents are fetched through the same guard as all else, and a fault is explained.
// Method: real servers on loopback.

afterEach(cleanUp)

test('a document is fetched', async () => {
  const port = await http((request, response) => {
    response.end(JSON.stringify({ method: request.method, url: request.url, accept: request.headers.accept }))
  })
  expect(await fetchJson(client(), `http://127.0.0.1:${port}/keys?a=b`)).toEqual({
    ok: true,
    value: { method: 'GET', url: '/keys?a=b', accept: 'application/json, application/jwk-set+json' },
  })
})

test('a document may be larger than an answer to a logout', async () => {
  const keys = Array.from({ length: 2_000 }, (_, kid) => ({ kid, kty: 'EC' }))
  const port = await http((_request, response) => void response.end(JSON.stringify({ keys })))
  expect(await fetchJson(client(), `http://127.0.0.1:${port}/`)).toEqual({ ok: true, value: { keys } })
})

test.each([
  ['a redirect', 302, '', 'answered 302, not 200'],
  ['an error', 500, '{}', 'answered 500, not 200'],
  ['a page that is not JSON', 200, '<html>', 'is not JSON, or longer than 524288 bytes'],
  [
    'a document beyond the limit',
    200,
    JSON.stringify('x'.repeat(600_000)),
    'is not JSON, or longer than 524288 bytes',
  ],
])('%s is explained', async (_what, status, body, detail) => {
  const port = await http((_request, response) => {
    response.writeHead(status, { location: 'http://127.0.0.1:1/' }).end(body)
  })
  expect(await fetchJson(client(), `http://127.0.0.1:${port}/`)).toEqual({ ok: false, detail })
})

test('an address that is not allowed receives no request', async () => {
  let requested = false
  const port = await http((_request, response) => {
    requested = true
    response.end('{}')
  })
  const fetched = await fetchJson(client({ allowedNetworks: [] }), `http://127.0.0.1:${port}/`)
  expect(fetched).toMatchObject({ ok: false })
  expect(requested).toBe(false)
})

test("a request to an issuer's signer goes only to the issuer's networks", async () => {
  const port = await http((_request, response) => void response.end('{}'))
  const ask = (access: NetworkAccess | Error) =>
    createIssuerPost(client(), async (_issuer: string) => {
      if (access instanceof Error) throw access
      return access
    })({ issuer: 'main', uri: `http://127.0.0.1:${port}/`, headers: {}, body: '{}' })
  expect(await ask({ allowedNetworks: null })).toEqual({ ok: true, value: {} })
  expect(await ask({ allowedNetworks: [] })).toMatchObject({ ok: false })
  expect(await ask(new Error('the ledger is unavailable'))).toEqual({
    ok: false,
    detail: 'the ledger is unavailable',
  })
})
