import { once } from 'node:events'
import { connect } from 'node:net'
import {
  afterAll,
  afterEach,
  beforeAll,
  beforeEach,
  describe,
  expect,
  type MockInstance,
  test,
  vi,
} from 'vitest'
import { type Curfew, ISS, openCurfew } from '../support/curfew.ts'

// Goal: a large body uses up the budget of its own client, and costs the process little.
// Method: the real services over HTTP with a low rate. A spy on JSON.parse counts its calls and does not replace it.

const LARGE = 64 * 1024
const MANY_MEMBERS = `{${Array.from({ length: 90_000 }, (_, index) => `"k${index}":1`).join(',')}}`
const MANY_ELEMENTS = `[${Array.from({ length: 500_000 }, () => '1').join(',')}]`
const NOT_JSON = `{"iss":"${'x'.repeat(500_000)}"`

let curfew: Curfew
let parse: MockInstance<typeof JSON.parse>
beforeAll(async () => {
  curfew = await openCurfew({ workers: 0, requestsPerSecond: 1 })
})
afterAll(() => curfew.stop())
beforeEach(() => {
  parse = vi.spyOn(JSON, 'parse')
})
afterEach(() => parse.mockRestore())

const largeParsed = () => parse.mock.calls.filter(([text]) => text.length > LARGE).length
let clients = 0
/** A key with budgets of its own. Budgets belong to the name of the credential, which is made of its scopes. */
const key = () => {
  clients += 1
  return curfew.keyFor('sessions:write', ...Array<'events:write'>(clients).fill('events:write'))
}
const client = () => {
  const authorization = `Bearer ${key()}`
  return async (path: string, body: unknown) => curfew.call('POST', path, body, { authorization })
}
const logout = { iss: ISS, sub: 'alice' }
const problemOf = async (answer: Response) => (await answer.json()) as { title: string; detail: string }

describe('a request without a route', () => {
  test.each(['/nowhere', '/v1/nowhere', '/healthz'])(
    'is answered before its body arrives: POST %s',
    async (path) => {
      const { port, hostname } = new URL(curfew.url)
      const socket = connect(Number(port), hostname)
      socket.write(
        `POST ${path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 1000000\r\n\r\n`,
      )
      const [answer] = await once(socket, 'data')
      expect(String(answer)).toMatch(path === '/healthz' ? /^HTTP\/1.1 405 / : /^HTTP\/1.1 404 /)
      socket.destroy()
    },
  )

  test('is answered without parsing its body', async () => {
    for (const path of ['/nowhere', '/healthz']) {
      const answer = await fetch(curfew.url + path, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: MANY_ELEMENTS,
      })
      expect(answer.status).toBe(path === '/healthz' ? 405 : 404)
    }
    expect(largeParsed()).toBe(0)
  })
})

describe.each(['/v1/logout-events', '/v1/sessions'])('a hostile body for %s', (path) => {
  test.each([
    ['an object of 90,000 members', MANY_MEMBERS, 'more than 30000 members and elements', 0],
    ['an array of 500,000 elements', MANY_ELEMENTS, 'must have 1 to 1000 elements; this one has 500000', 0],
    ['an object that does not end', NOT_JSON, 'is not JSON', 1],
  ])('%s is refused, parsed at most once and charged by its bytes', async (_what, body, detail, parsed) => {
    const [post, other] = [client(), client()]
    const answer = await post(path, body)
    expect(answer.status).toBe(400)
    expect((await problemOf(answer)).detail).toContain(detail)
    expect(largeParsed()).toBe(parsed)
    expect((await post(path, logout)).status).toBe(429)
    expect((await other('/v1/logout-events', logout)).status).toBe(202)
    if (path === '/v1/sessions') expect((await post('/v1/logout-events', logout)).status).toBe(202)
  })
})

test('a body without a length that is not JSON is charged by its bytes', async () => {
  const headers = {
    authorization: `Bearer ${key()}`,
    'content-type': 'application/json',
  }
  const post = (body: string | ReadableStream) =>
    fetch(`${curfew.url}/v1/sessions`, { method: 'POST', headers, body, duplex: 'half' })
  expect((await post(ReadableStream.from([Buffer.from(NOT_JSON)]))).status).toBe(400)
  expect((await post('{}')).status).toBe(429)
})

test('a logout with a body above 1 KiB is accepted, and delays the next logout by seconds at most', async () => {
  const post = client()
  const clients = Array.from({ length: 1_000 }, (_, index) => `${'c'.repeat(250)}${index}`)
  expect((await post('/v1/logout-events', { ...logout, clients })).status).toBe(202)
  const refused = await post('/v1/logout-events', logout)
  expect(refused.status).toBe(429)
  expect(Number(refused.headers.get('retry-after'))).toBeLessThanOrEqual(6)
})

test('a logout of ordinary size costs 1 unit, and a quarter of that in an array', async () => {
  const post = client()
  const long = { ...logout, sub: 'a'.repeat(250), initiator: 'b'.repeat(250), clients: ['c'.repeat(250)] }
  // The burst is 20 units, and an array of 40 costs 10.
  expect((await post('/v1/logout-events', Array(40).fill(long))).status).toBe(202)
  for (let request = 0; request < 10; request++)
    expect((await post('/v1/logout-events', long)).status).toBe(202)
})

test('many small members cost more than their bytes', async () => {
  const post = client()
  // By its bytes alone, a body of 30 KiB would cost 4 of the 20 units of the burst.
  const body = `{${Array.from({ length: 3_500 }, (_, index) => `"${index}":1`)}}`
  expect((await post('/v1/sessions', body)).status).toBe(400)
  expect((await post('/v1/sessions', {})).status).toBe(429)
})
