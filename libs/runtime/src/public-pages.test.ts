import { expect, onTestFinished, test, vi } from 'vitest'
import { log, open, problemFrom, READER } from './http-server.fixture.ts'
import { createMetrics } from './metrics.ts'
import { metricsServices } from './metrics-service.ts'

// Goal: routes that need no credential cost next to nothing, however often they are called.
// Method: a real server, and floods of requests.

async function listen(...given: Parameters<typeof open>) {
  const server = await open(...given)
  onTestFinished(() => server.close())
  return server.listen({ host: '127.0.0.1', port: 0 })
}

test('the OpenAPI document has an ETag, and a caller that has it gets 304', async () => {
  const url = await listen()
  const first = await fetch(`${url}/openapi.json`)
  const etag = first.headers.get('etag') ?? ''
  expect([first.status, first.headers.get('content-type')]).toEqual([200, 'application/json; charset=utf-8'])
  expect(etag).toMatch(/^"[\w-]{43}"$/)
  expect(((await first.json()) as { openapi: string }).openapi).toBe('3.1.0')
  const again = await fetch(`${url}/openapi.json`, { headers: { 'if-none-match': etag } })
  expect([again.status, await again.text()]).toEqual([304, ''])
})

test.each(['/openapi.json', '/metrics'])('%s refuses an address with too many requests', async (path) => {
  const url = await listen()
  const answers = await Promise.all(Array.from({ length: 40 }, () => fetch(`${url}${path}`)))
  const refused = answers.filter(({ status }) => status === 429)
  expect(answers.filter(({ status }) => status === 200).length).toBeGreaterThanOrEqual(20)
  expect(refused.length).toBeGreaterThan(10)
  const [one] = refused
  expect(one?.headers.get('retry-after')).toBe('1')
  expect((await problemFrom(one as Response)).status).toBe(429)
  expect((await fetch(`${url}/healthz`)).status).toBe(200)
})

test('a positive readiness is reused for a moment', async () => {
  let runs = 0
  const url = await listen({ ledger: async () => void runs++ })
  for (let n = 0; n < 5; n++) expect((await fetch(`${url}/readyz`)).status).toBe(200)
  expect(runs).toBe(1)
})

test('metrics with a separate listener are served only there', async () => {
  const url = await listen({}, { metricsApart: true })
  expect((await fetch(`${url}/metrics`)).status).toBe(404)

  const { promise: listening, resolve: onListening } = Promise.withResolvers<string>()
  const metrics = createMetrics()
  metrics.counter('things_total', 'Things.').inc()
  const [service] = metricsServices({ metrics, host: '127.0.0.1', port: 0, log, onListening })
  const stopping = new AbortController()
  const running = service?.run({
    stopping: stopping.signal,
    abandoning: new AbortController().signal,
    ready: () => undefined,
  })
  const own = await listening
  const answer = await fetch(`${own}/metrics`)
  expect(answer.headers.get('content-type')).toContain('text/plain')
  expect(await answer.text()).toContain('curfew_things_total 1')
  expect((await problemFrom(await fetch(`${own}/healthz`))).status).toBe(404)
  expect((await problemFrom(await fetch(`${own}/metrics`, { method: 'POST' }))).status).toBe(405)
  const flood = await Promise.all(Array.from({ length: 40 }, () => fetch(`${own}/metrics`)))
  expect(flood.filter(({ status }) => status === 429).length).toBeGreaterThan(10)
  stopping.abort()
  await running
  await expect(fetch(`${own}/metrics`)).rejects.toThrow()
  expect(metricsServices({ metrics, host: '127.0.0.1', port: null, log })).toEqual([])
})

test('a flood of public reads, from one /64 or from many addresses, takes no place of credentials', async () => {
  const server = await open()
  onTestFinished(() => server.close())
  const { promise: released, resolve: release } = Promise.withResolvers<void>()
  let begun = 0
  server.get('/pages', { config: { scope: 'public', load: 'read' } }, async () => {
    begun += 1
    await released
    return {}
  })
  server.get('/own', { config: { scope: 'things:read', access: 'handler' } }, async () => ({}))
  const flood = (remoteAddress: (n: number) => string, count: number) =>
    Array.from({ length: count }, (_, n) => server.inject({ url: '/pages', remoteAddress: remoteAddress(n) }))
  const ofOne = flood((n) => `2001:db8::${(n + 1).toString(16)}`, 19)
  // Two run and sixteen wait for the whole /64, whichever of its addresses they come from.
  expect((await Promise.race(ofOne)).statusCode).toBe(429)
  const ofMany = flood((n) => `203.0.113.${n}`, 20)
  await vi.waitFor(() => expect(begun).toBe(3))
  expect((await server.inject({ url: '/own', headers: READER })).statusCode).toBe(200)
  release()
  await Promise.all([...ofOne, ...ofMany])
})
