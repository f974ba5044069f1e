import type { NetworkAccess } from '@curfew/domain'
import { afterEach, expect, test } from 'vitest'
import { createIssuerPost, fetchJson } from './json.ts'
import { cleanUp, client, http } from './relying-parties.fixture.ts'

// Goal: key sets and discovery documents come through the same guard as everything else, and what is wrong with one is said.

afterEach(cleanUp)

test('fetches a document', async () => {
  const port = await http((request, response) => {
    response.end(JSON.stringify({ method: request.method, url: request.url, accept: request.headers.accept }))
  })
  expect(await fetchJson(client(), `http://127.0.0.1:${port}/keys?a=b`)).toEqual({
    ok: true,
    value: { method: 'GET', url: '/keys?a=b', accept: 'application/json, application/jwk-set+json' },
  })
})

test('a document larger than any answer to a logout', async () => {
  const keys = Array.from({ length: 2_000 }, (_, kid) => ({ kid, kty: 'EC' }))
  const port = await http((_request, response) => void response.end(JSON.stringify({ keys })))
  expect(await fetchJson(client(), `http://127.0.0.1:${port}/`)).toEqual({ ok: true, value: { keys } })
})

test.each([
  ['a redirect', 302, '', 'answered 302, not 200'],
  ['an error', 500, '{}', 'answered 500, not 200'],
  ['no JSON', 200, '<html>', 'is not JSON, or longer than 524288 bytes'],
  ['more than is read', 200, JSON.stringify('x'.repeat(600_000)), 'is not JSON, or longer than 524288 bytes'],
])('%s is said', async (_what, status, body, detail) => {
  const port = await http((_request, response) => {
    response.writeHead(status, { location: 'http://127.0.0.1:1/' }).end(body)
  })
  expect(await fetchJson(client(), `http://127.0.0.1:${port}/`)).toEqual({ ok: false, detail })
})

test('an address that is not allowed is not asked', async () => {
  let asked = false
  const port = await http((_request, response) => {
    asked = true
    response.end('{}')
  })
  const fetched = await fetchJson(client({ allowedNetworks: [] }), `http://127.0.0.1:${port}/`)
  expect(fetched).toMatchObject({ ok: false })
  expect(asked).toBe(false)
})

test('the signer of an issuer is asked where its issuer may live, and nowhere else', async () => {
  const port = await http((_request, response) => void response.end('{}'))
  const ask = (access: NetworkAccess | Error) =>
    createIssuerPost(client(), async (_issuer: string) => {
      if (access instanceof Error) throw access
      return access
    })({ issuer: 'main', uri: `http://127.0.0.1:${port}/`, headers: {}, body: '{}' })
  expect(await ask({ allowedNetworks: null })).toEqual({ ok: true, value: {} })
  expect(await ask({ allowedNetworks: [] })).toMatchObject({ ok: false })
  expect(await ask(new Error('the ledger is away'))).toEqual({ ok: false, detail: 'the ledger is away' })
})
