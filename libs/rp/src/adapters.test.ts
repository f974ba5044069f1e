import { once } from 'node:events'
import { createServer, type RequestListener, type Server, request as send } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { pipeline } from 'node:stream/promises'
import express from 'express'
import fastify, { type FastifyInstance } from 'fastify'
import { Hono } from 'hono'
import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { expressLogoutHandler } from './express.ts'
import { fastifyLogout } from './fastify.ts'
import { honoLogoutHandler } from './hono.ts'
import { CLIENT_ID, createKey, ISSUER, jwksOf, NOW, type SigningKey } from './issuer.fixture.ts'
import { nodeLogoutHandler } from './node.ts'
import { createLogoutReceiver, type Logout, type LogoutReceiver } from './receiver.ts'

// Goal: the endpoint answers the same in every framework, after any body parser.
// Method: real frameworks on real ports; each setup gets the same requests.

const PATH = '/backchannel-logout'
const FORM = 'application/x-www-form-urlencoded'

let key: SigningKey
beforeAll(async () => {
  key = await createKey('k1')
})

let logouts: Logout[]
let receiver: LogoutReceiver
const cleanups: (() => Promise<unknown>)[] = []
beforeEach(() => {
  logouts = []
  receiver = createLogoutReceiver({
    issuer: ISSUER,
    clientId: CLIENT_ID,
    jwks: jwksOf(key),
    now: () => NOW,
    onLogout: (logout) => logouts.push(logout),
  })
})
afterEach(async () => {
  for (const cleanup of cleanups.splice(0)) await cleanup()
})

async function listen(server: Server): Promise<string> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  cleanups.push(async () => {
    const closed = once(server, 'close')
    server.close()
    server.closeAllConnections()
    await closed
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}${PATH}`
}

async function listenExpress(set: (app: express.Express) => void): Promise<string> {
  const app = express()
  set(app)
  app.all(PATH, expressLogoutHandler(receiver))
  return listen(createServer(app as RequestListener))
}

async function listenFastify(set: (app: FastifyInstance) => void = () => undefined): Promise<string> {
  const app = fastify()
  set(app)
  app.register(fastifyLogout, { receiver, path: PATH })
  app.post('/json', async (request) => request.body)
  await app.listen({ port: 0, host: '127.0.0.1' })
  cleanups.push(() => app.close())
  return `http://127.0.0.1:${(app.server.address() as AddressInfo).port}${PATH}`
}

/** Serves Hono on a real port, as its server for Node.js does. */
async function listenHono(set: (app: Hono) => void = () => undefined): Promise<string> {
  const app = new Hono()
  set(app)
  app.all(PATH, honoLogoutHandler(receiver))
  return listen(
    createServer(async (request, response) => {
      const { method = '', url = '', headers } = request
      const body = method === 'GET' ? null : (Readable.toWeb(request) as ReadableStream<Uint8Array>)
      const init = { method, headers: headers as Record<string, string>, body, duplex: 'half' } as const
      const answer = await app.fetch(new Request(`http://localhost${url}`, init))
      response.writeHead(answer.status, Object.fromEntries(answer.headers))
      response.end(await answer.text())
    }),
  )
}

const SETUPS: [string, () => Promise<string>][] = [
  ['node:http', () => listen(createServer(nodeLogoutHandler(receiver)))],
  ['Express without a parser', () => listenExpress(() => undefined)],
  [
    'Express after urlencoded',
    () => listenExpress((app) => app.use(express.urlencoded({ extended: false }))),
  ],
  [
    'Express after urlencoded, extended',
    () => listenExpress((app) => app.use(express.urlencoded({ extended: true }))),
  ],
  ['Express after json', () => listenExpress((app) => app.use(express.json()))],
  ['Express after text', () => listenExpress((app) => app.use(express.text({ type: '*/*' })))],
  ['Express after raw', () => listenExpress((app) => app.use(express.raw({ type: '*/*' })))],
  ['Fastify', () => listenFastify()],
  [
    'Fastify with a form parser',
    () =>
      listenFastify((app) =>
        app.addContentTypeParser(FORM, { parseAs: 'string' }, (_request, body, done) =>
          done(null, Object.fromEntries(new URLSearchParams(String(body)))),
        ),
      ),
  ],
  ['Hono', () => listenHono()],
  [
    'Hono after parseBody',
    () =>
      listenHono((app) =>
        app.use(async ({ req }, next) => {
          await req.parseBody()
          await next()
        }),
      ),
  ],
  [
    'Hono after text',
    () =>
      listenHono((app) =>
        app.use(async ({ req }, next) => {
          await req.text()
          await next()
        }),
      ),
  ],
]

const post = (url: string, body: string, type = FORM) =>
  fetch(url, { method: 'POST', headers: { 'content-type': type }, body })

describe.each(SETUPS)('%s', (_name, open) => {
  test('a logout reaches the app, and the answer is an empty 200 with no-store', async () => {
    const response = await post(await open(), `other=1&logout_token=${await key.sign()}`)
    expect([response.status, await response.text()]).toEqual([200, ''])
    expect(response.headers.get('cache-control')).toBe('no-store')
    expect(logouts).toMatchObject([{ subject: 'alice', sessionId: 'session-1' }])
  })

  test('a wrong request is a 400 that describes the fault', async () => {
    const url = await open()
    const token = await key.sign()
    for (const [body, type, description] of [
      ['logout_token=a.b.c', FORM, 'the token is malformed'],
      [`logout_token=${token}&logout_token=${token}`, FORM, 'logout_token is present more than once'],
      ['', FORM, 'logout_token is missing'],
      [JSON.stringify({ logout_token: token }), 'application/json', `the body is not ${FORM}`],
      [`logout_token=${token}`, 'text/plain', `the body is not ${FORM}`],
    ] as const) {
      const response = await post(url, body, type)
      expect(response.status).toBe(400)
      expect(response.headers.get('content-type')).toMatch(/^application\/json/)
      expect(response.headers.get('cache-control')).toBe('no-store')
      expect(await response.json()).toEqual({ error: 'invalid_request', error_description: description })
    }
    expect(logouts).toEqual([])
  })

  test('another method is a 405 that names POST', async () => {
    const url = await open()
    for (const method of ['GET', 'DELETE']) {
      const response = await fetch(url, { method })
      expect([response.status, response.headers.get('allow')]).toEqual([405, 'POST'])
    }
  })
})

// A parser of the app has its own limits, so setups with one are left out.
test.each(SETUPS.filter(([name]) => !/after|Hono/.test(name)))(
  '%s: a body that never ends is refused',
  async (_name, open) => {
    const request = send(await open(), { method: 'POST', headers: { 'content-type': FORM } })
    const answered = once(request, 'response')
    const chunk = 'x'.repeat(16 * 1024)
    const endless = Readable.from(
      (async function* () {
        for (;;) yield chunk
      })(),
    )
    const sending = pipeline(endless, request).catch(() => undefined)
    const [response] = await answered
    expect(response.statusCode).toBe(400)
    expect(JSON.parse(await text(response))).toMatchObject({ error: 'invalid_request' })
    request.destroy()
    await sending
  },
)

test.each(['before', 'while'])(
  'the handler returns if the request is cut off %s it is read',
  async (when) => {
    let ended = false
    const handle = nodeLogoutHandler(receiver)
    const server = createServer(async (request, response) => {
      if (when === 'before') await once(request, 'close').catch(() => undefined)
      await handle(request, response)
      ended = true
    })
    const url = new URL(await listen(server))
    const socket = connect(Number(url.port), url.hostname)
    await once(socket, 'connect')
    socket.write(
      `POST ${PATH} HTTP/1.1\r\nhost: x\r\ncontent-type: ${FORM}\r\ncontent-length: 100\r\n\r\nlogout_`,
    )
    await once(server, 'request')
    socket.resetAndDestroy()
    await expect.poll(() => ended).toBe(true)
    expect(logouts).toEqual([])
  },
)

test('Fastify: the plugin does not change the parsers of other routes', async () => {
  const url = await listenFastify()
  const response = await post(url.replace(PATH, '/json'), '{"a":1}', 'application/json')
  expect(await response.json()).toEqual({ a: 1 })
  expect((await post(url.replace(PATH, '/json'), 'a=1')).status).toBe(415)
})
