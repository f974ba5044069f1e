import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer as createHttp, type RequestListener } from 'node:http'
import { createServer as createHttps } from 'node:https'
import { type AddressInfo, createServer as createTcp, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Answer } from '@curfew/domain'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { postLogoutToken } from './backchannel.ts'
import { createGuardedClient, type GuardedClient, type GuardedClientOptions } from './guarded-client.ts'

// Goal: nothing that a relying party or a name server does can turn the client against the network it runs in, hold it
// longer or make it read more than it said; and every fault is told apart. (STANDARDS S1 to S8, NET-01 to NET-05.)
// Method: real servers on loopback, raw sockets where HTTP libraries are too well-behaved.

const LOOPBACK = ['127.0.0.0/8']
const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

function client(options: Partial<GuardedClientOptions> = {}): GuardedClient {
  const created = createGuardedClient({ allowedNetworks: LOOPBACK, ...options })
  cleanups.push(() => created.close())
  return created
}

async function listening(server: Server): Promise<number> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  cleanups.push(() => server.close())
  return (server.address() as AddressInfo).port
}

async function http(listener: RequestListener): Promise<number> {
  const server = createHttp(listener)
  cleanups.push(() => server.closeAllConnections())
  return listening(server)
}

/** A server of raw bytes. */
async function tcp(onConnection: (socket: Socket) => void): Promise<number> {
  const sockets = new Set<Socket>()
  const server = createTcp((socket) => {
    sockets.add(socket)
    socket.on('error', () => socket.destroy())
    onConnection(socket)
  })
  cleanups.push(() => {
    for (const socket of sockets) socket.destroy()
  })
  return listening(server)
}

interface Overrides {
  readonly uri?: string
  readonly timeoutMs?: number
  readonly allowedNetworks?: readonly string[]
}

function send(guarded: GuardedClient, port: number, overrides: Overrides = {}): Promise<Answer> {
  return postLogoutToken(guarded, {
    token: 'a.b.c',
    binding: { uri: `http://127.0.0.1:${port}/logout`, timeoutMs: 5_000, allowedNetworks: [], ...overrides },
  })
}

describe('what is sent (BCL-01, BCL-02)', () => {
  test('a form of one field, and the query byte for byte', async () => {
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

  test('over one connection, as long as it is kept', async () => {
    const sockets = new Set<unknown>()
    const port = await http((request, response) => {
      sockets.add(request.socket)
      response.end()
    })
    const guarded = client()
    for (let n = 0; n < 50; n++) await send(guarded, port)
    // The next may be sent while the last one's connection is being put back.
    expect(sockets.size).toBeLessThanOrEqual(2)
  })
})

describe('what is answered', () => {
  test.each([200, 204, 400, 500, 503])('status %i, with body and Retry-After', async (status) => {
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

  test.each([301, 302, 303, 307, 308])('a redirect (%i) is not followed (NET-03)', async (status) => {
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
  })

  test('an interim answer is not the answer', async () => {
    const port = await http((_request, response) => {
      response.writeProcessing()
      response.writeHead(204).end()
    })
    expect(await send(client(), port)).toMatchObject({ kind: 'response', status: 204 })
  })
})

describe('bodies (NET-04)', () => {
  test('an endless body is cut at the cap, and its status counts', async () => {
    let written = 0
    const port = await http((_request, response) => {
      response.writeHead(200)
      const block = Buffer.alloc(64 * 1024)
      const pump = () => {
        while (!response.destroyed && response.write(block)) written += block.length
      }
      response.on('drain', pump)
      pump()
    })
    const answer = await send(client({ responseBytesMax: 1_000 }), port)
    expect(answer).toMatchObject({ kind: 'response', status: 200 })
    expect(answer.kind === 'response' && answer.body.length).toBe(1_000)
    // What the sockets' buffers hold, not what the server would have sent.
    expect(written).toBeLessThan(32 * 1024 * 1024)
  })

  test('a body that trickles ends at the deadline, and its status counts', async () => {
    const port = await tcp((socket) => {
      socket.write('HTTP/1.1 400 Bad Request\r\ncontent-length: 1000\r\n\r\n')
      const timer = setInterval(() => socket.write('x'), 20)
      socket.on('close', () => clearInterval(timer))
    })
    const answer = await send(client(), port, { timeoutMs: 200 })
    expect(answer).toMatchObject({ kind: 'response', status: 400 })
  })

  test('a compressed body is not inflated', async () => {
    const bomb = Buffer.from('1f8b0800', 'hex')
    const port = await http((_request, response) => {
      response.writeHead(400, { 'content-encoding': 'gzip' }).end(bomb)
    })
    expect(await send(client(), port)).toMatchObject({
      kind: 'response',
      status: 400,
      body: bomb.toString('utf8'),
    })
  })
})

describe('no answer', () => {
  const expectFailure = (answer: Answer, failure: string) =>
    expect(answer).toMatchObject({ kind: 'failure', failure })

  test('headers that trickle end at the deadline', async () => {
    const port = await tcp((socket) => {
      const timer = setInterval(() => socket.write('H'), 20)
      socket.on('close', () => clearInterval(timer))
    })
    const answer = await send(client(), port, { timeoutMs: 200 })
    expect(answer.kind).toBe('failure')
  })

  test('silence ends at the deadline', async () => {
    const port = await tcp(() => undefined)
    expectFailure(await send(client(), port, { timeoutMs: 100 }), 'timeout')
  })

  test('garbage', async () => {
    const port = await tcp((socket) => socket.end('SSH-2.0-OpenSSH_9.9\r\n'))
    expectFailure(await send(client(), port), 'invalid_response')
  })

  test('headers without end', async () => {
    const port = await tcp((socket) => socket.write(`HTTP/1.1 200 OK\r\nx: ${'y'.repeat(100_000)}\r\n\r\n`))
    expectFailure(await send(client(), port), 'invalid_response')
  })

  test('a reset', async () => {
    const port = await tcp((socket) => socket.once('data', () => socket.resetAndDestroy()))
    expectFailure(await send(client(), port), 'connection_reset')
  })

  test('a connection closed without a word', async () => {
    const port = await tcp((socket) => socket.once('data', () => socket.end()))
    expectFailure(await send(client(), port), 'connection_reset')
  })

  test('nobody listens', async () => {
    const server = createTcp()
    const port = await listening(server)
    server.close()
    await once(server, 'close')
    expectFailure(await send(client(), port), 'connection_refused')
  })

  test('no such name', async () => {
    const guarded = client({
      lookup: (_name, callback) => callback(Object.assign(new Error('not found'), { code: 'ENOTFOUND' }), []),
    })
    expectFailure(await send(guarded, 0, { uri: 'https://rp.example/logout' }), 'dns')
  })
})

describe('addresses (NET-01, NET-02)', () => {
  test.each([
    'http://127.0.0.1:1/',
    'http://[::1]:1/',
    'http://[::ffff:127.0.0.1]:1/',
    'https://10.1.2.3/',
    'https://0x7f.1/',
    'https://2130706433/',
    'https://017700000001/',
    'https://169.254.169.254/',
    'https://[fd00::1]/',
    'https://[fe80::1]/',
    'https://[64:ff9b::7f00:1]/',
    'https://[2002:7f00:1::]/',
  ])('%s is not dialled', async (uri) => {
    const guarded = client({ allowedNetworks: [] })
    expect(await send(guarded, 0, { uri })).toMatchObject({ kind: 'not_allowed' })
  })

  test('a name is judged by the address that is dialled, each time', async () => {
    let reached = 0
    const port = await http((_request, response) => {
      reached += 1
      response.end()
    })
    let asked = 0
    const guarded = client({
      allowedNetworks: [],
      // A public address for whoever checks first, loopback for whoever dials.
      lookup: (_name, callback) =>
        callback(null, [{ address: asked++ === 0 ? '93.184.215.14' : '127.0.0.1', family: 4 }]),
      connectTimeoutMs: 100,
    })
    const uri = `https://rebind.example:${port}/`
    const answers = [await send(guarded, port, { uri, timeoutMs: 300 }), await send(guarded, port, { uri })]
    expect(answers[1]).toMatchObject({ kind: 'not_allowed' })
    expect(reached).toBe(0)
  })

  test('of several addresses those that may not be dialled are left out', async () => {
    const port = await http((_request, response) => response.end())
    const guarded = client({
      allowedNetworks: ['127.0.0.1/32'],
      lookup: (_name, callback) =>
        callback(null, [
          { address: '10.0.0.1', family: 4 },
          { address: '127.0.0.1', family: 4 },
        ]),
    })
    expect(await send(guarded, port, { uri: `http://rp.internal:${port}/` })).toMatchObject({ status: 200 })
  })

  test("one RP's networks are not another's, also over a connection that is open", async () => {
    const port = await http((_request, response) => response.end())
    const guarded = client({ allowedNetworks: [] })
    expect(await send(guarded, port, { allowedNetworks: LOOPBACK })).toMatchObject({ status: 200 })
    expect(await send(guarded, port)).toMatchObject({ kind: 'not_allowed' })
  })

  test('without TLS only an allowed network is dialled, be the address public', async () => {
    expect(await send(client({ allowedNetworks: [] }), 0, { uri: 'http://93.184.215.14/' })).toMatchObject({
      kind: 'not_allowed',
    })
  })
})

describe('TLS (NET-05)', () => {
  let folder = ''
  const pem = new Map<string, { key: string; cert: string }>()

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'curfew-tls-'))
    const openssl = promisify(execFile)
    // Only `openssl ca` lets a certificate lie in the past in every version that is about.
    const makeExpired = async () => {
      const at = (name: string) => join(folder, name)
      await writeFile(at('index'), '')
      await writeFile(
        at('config'),
        `[ca]\ndefault_ca=d\n[d]\ndatabase=${at('index')}\nnew_certs_dir=${folder}\nrand_serial=yes\n` +
          'default_md=sha256\npolicy=p\nx509_extensions=e\n[p]\ncommonName=supplied\n[e]\nsubjectAltName=IP:127.0.0.1\n',
      )
      await openssl('openssl', [
        ...['req', '-newkey', 'rsa:2048', '-nodes', '-keyout', at('expired.key'), '-out', at('expired.csr')],
        ...['-subj', '/CN=rp'],
      ])
      await openssl('openssl', [
        ...['ca', '-batch', '-selfsign', '-config', at('config'), '-keyfile', at('expired.key')],
        ...['-in', at('expired.csr'), '-out', at('expired.pem'), '-notext'],
        ...['-startdate', '20200101000000Z', '-enddate', '20200102000000Z'],
      ])
      pem.set('expired', {
        key: await readFile(at('expired.key'), 'utf8'),
        cert: await readFile(at('expired.pem'), 'utf8'),
      })
    }
    const make = async (name: string, subjectAltName: string, ...extra: string[]) => {
      const [key, cert] = [join(folder, `${name}.key`), join(folder, `${name}.pem`)]
      await openssl('openssl', [
        ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'],
        ...['-keyout', key, '-out', cert, '-subj', '/CN=rp', '-addext', `subjectAltName=${subjectAltName}`],
        ...extra,
      ])
      pem.set(name, { key: await readFile(key, 'utf8'), cert: await readFile(cert, 'utf8') })
    }
    await make('good', 'IP:127.0.0.1', '-days', '2')
    await make('wrong host', 'DNS:other.example', '-days', '2')
    await makeExpired()
  })
  afterAll(() => rm(folder, { recursive: true }))

  async function https(name: string, options: object = {}): Promise<number> {
    const server = createHttps({ ...pem.get(name), ...options }, (_request, response) => response.end())
    server.on('tlsClientError', () => undefined)
    cleanups.push(() => server.closeAllConnections())
    return listening(server)
  }
  const certificate = (name: string) => pem.get(name)?.cert ?? ''
  const at = (port: number) => ({ uri: `https://127.0.0.1:${port}/` })

  test('a certificate that is trusted is served', async () => {
    const port = await https('good')
    expect(await send(client({ ca: [certificate('good')] }), port, at(port))).toMatchObject({ status: 200 })
  })

  test('one that nobody vouches for is refused', async () => {
    const port = await https('good')
    expect(await send(client(), port, at(port))).toMatchObject({ kind: 'failure', failure: 'tls' })
  })

  test.each(['wrong host', 'expired'])('one that is %s is refused', async (name) => {
    const port = await https(name)
    const answer = await send(client({ ca: [certificate(name)] }), port, at(port))
    expect(answer).toMatchObject({ kind: 'failure', failure: 'tls' })
  })

  test('TLS 1.1 is refused', async () => {
    const port = await https('good', {
      minVersion: 'TLSv1',
      maxVersion: 'TLSv1.1',
      ciphers: 'DEFAULT@SECLEVEL=0',
    })
    const answer = await send(client({ ca: [certificate('good')] }), port, at(port))
    expect(answer.kind).toBe('failure')
  })
})
