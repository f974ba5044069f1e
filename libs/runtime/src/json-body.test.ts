import { once } from 'node:events'
import { connect } from 'node:net'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { lines, open, problemFrom } from './http-server.fixture.ts'
import type { HttpServer } from './http-server.ts'

// Goal: a body conforms to its schema, or is refused with the changes that it needs.
// Method: a real server, fetch, and a bare socket for requests that fetch would not send.

let server: HttpServer
let url = ''
beforeAll(async () => {
  server = await open()
  url = await server.listen({ host: '127.0.0.1', port: 0 })
})
afterAll(() => server.close())

const post = (body: string | Uint8Array<ArrayBuffer>, headers: Record<string, string> = {}) =>
  fetch(`${url}/things`, {
    method: 'POST',
    body,
    headers: { 'content-type': 'application/json', ...headers },
  })
const faultsFor = async (body: unknown) => {
  const response = await post(JSON.stringify(body))
  expect(response.status).toBe(400)
  return (await problemFrom(response)).errors
}

test('a valid body is passed on unchanged', async () => {
  const thing = { name: 'zoë 🎲', size: 3, kind: 'flat', inner: { 'a/b': true } }
  const response = await post(JSON.stringify(thing))
  expect(response.status).toBe(200)
  expect(await response.json()).toEqual(thing)
  expect(response.headers.get('cache-control')).toBe('no-store')
  expect(response.headers.get('x-content-type-options')).toBe('nosniff')
})

test('every fault is named, with a pointer to the member to change', async () => {
  expect(await faultsFor({ size: '3', kind: 'square', inner: { 'c~/d': 1 } })).toEqual([
    { pointer: '/name', detail: 'is missing' },
    { pointer: '/size', detail: 'must be a whole number' },
    { pointer: '/kind', detail: 'must be "round" or "flat"' },
    { pointer: '/inner/a~1b', detail: 'is missing' },
    { pointer: '/inner/c~0~1d', detail: 'is not a known member' },
  ])
})

test('text is not converted to a number, and an unknown member is not ignored', async () => {
  expect(await faultsFor({ name: 'x', size: '3' })).toEqual([
    { pointer: '/size', detail: 'must be a whole number' },
  ])
  expect(await faultsFor({ name: 'x', Size: 3 })).toEqual([
    { pointer: '/Size', detail: 'is not a known member' },
  ])
  expect(await faultsFor(null)).toEqual([{ pointer: '', detail: 'must be an object' }])
})

test('a body with very many faults gets a short answer', async () => {
  const members = Object.fromEntries(Array.from({ length: 20_000 }, (_, index) => [`member${index}`, 0]))
  expect(await faultsFor({ name: 'x', ...members })).toHaveLength(50)
  const [fault] = (await faultsFor({ name: 'x', ['n'.repeat(500_000)]: 0 })) ?? []
  expect(fault?.detail).toBe('has an unknown member, whose name has 500000 characters')
})

test.each([
  ['text that is not JSON', '{"name":', 'is not JSON'],
  ['an empty body', '', 'is empty'],
  ['a member named __proto__', '{"name":"x","__proto__":{"admin":true}}', 'has a member named __proto__'],
  [
    'a constructor with a prototype',
    '{"name":"x","constructor":{"prototype":{}}}',
    'has a member named __proto__',
  ],
  [
    'bytes that are not UTF-8',
    Uint8Array.from([...Buffer.from('{"name":"'), 0xe9, 0x22, 0x7d]),
    'is not UTF-8',
  ],
  [
    'an object of 30,000 members',
    `{${Array.from({ length: 30_000 }, (_, index) => `"${index}":0`)}}`,
    'has more than 30000 members and elements',
  ],
  [
    'a member named __proto__ in escapes',
    '{"name":"x","__proto\\u005f_":{"admin":true}}',
    'has a member named __proto__',
  ],
  ['very deep nesting', '['.repeat(400_000) + ']'.repeat(400_000), 'nested deeper than 64 levels'],
])('%s is refused', async (_what, body, detail) => {
  const problem = await problemFrom(await post(body))
  expect(problem).toMatchObject({ status: 400, title: 'Invalid body', instance: '/things' })
  expect(problem.errors).toHaveLength(1)
  expect(problem.errors?.[0]?.detail).toContain(detail)
})

test('commas and brackets within a string do not count as members', async () => {
  const text = '\\"[{,'.repeat(40_000)
  expect(await faultsFor({ name: text })).toEqual([
    { pointer: '/name', detail: 'must have at most 10 characters' },
  ])
})

test('large bodies are parsed one per event loop tick, so that other requests run in between', async () => {
  const payload = JSON.stringify({ name: 'x', kind: 'flat', inner: { 'a/b': true } }) + ' '.repeat(100_000)
  let round = 0
  let ticking = true
  const tick = () => {
    round += 1
    if (ticking) setImmediate(tick)
  }
  tick()
  const rounds: number[] = []
  const parse = vi.spyOn(JSON, 'parse').mockImplementation((text: string) => {
    if (text.length > 100_000) rounds.push(round)
    return {}
  })
  const headers = { 'content-type': 'application/json' }
  await Promise.all(
    Array.from({ length: 8 }, () => server.inject({ method: 'POST', url: '/things', headers, payload })),
  )
  ticking = false
  parse.mockRestore()
  expect(new Set(rounds).size).toBe(8)
})

test('strings that a database cannot store are refused, with a pointer to them', async () => {
  for (const text of ['a\\u0000', '\\ud800', '\\udc00\\ud800']) {
    const { errors } = await problemFrom(await post(`{"name":"x","inner":{"a/b":["${text}"]}}`))
    expect(errors).toEqual([{ pointer: '/inner/a~1b/0', detail: 'is not Unicode text without U+0000' }])
  }
  expect((await post('{"name":"\\ud83c\\udfb2"}')).status).toBe(200)
})

test('a body over 1 MiB is 413; another media type or content coding is 415', async () => {
  expect((await problemFrom(await post(' '.repeat(1024 * 1024 + 1)))).status).toBe(413)
  expect(
    (await problemFrom(await post('name=x', { 'content-type': 'application/x-www-form-urlencoded' }))).status,
  ).toBe(415)
  expect((await problemFrom(await post('{}', { 'content-encoding': 'gzip' }))).status).toBe(415)
})

test('a client that disconnects in the middle of its body causes no error in the log', async () => {
  lines.splice(0)
  const socket = connect(Number(new URL(url).port), '127.0.0.1')
  await once(socket, 'connect')
  const [message] = await Promise.all([
    once(server.server, 'request'),
    socket.write(
      'POST /things HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 50\r\n\r\n{"na',
    ),
  ])
  socket.resetAndDestroy()
  await once(message[1], 'close')
  expect(lines).toEqual([])
})
