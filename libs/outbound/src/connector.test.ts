import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createSecureContext } from 'node:tls'
import { promisify } from 'node:util'
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest'
import { AddressNotAllowedError, createGuardedConnector, createSharedLookup } from './connector.ts'
import { cleanUp, client, http, https, LOOPBACK, send, tcp } from './relying-parties.fixture.ts'

// Goal: nothing that a relying party or a name server says can turn the client against the network it runs in, or let it
// talk to somebody else. (STANDARDS S1 to S6, NET-01, NET-02, NET-05.)
// Method: real servers on loopback, certificates made for the run, and a resolver that lies.

afterEach(cleanUp)

describe('addresses (NET-01, NET-02)', () => {
  test.each(['https:rp.example/', 'ftp://rp.example/', 'logout', 'https://rp.example/a b'])(
    '%s is no target, and no reason to try again',
    async (uri) => {
      expect(await send(client(), 0, { uri })).toMatchObject({ kind: 'not_allowed' })
    },
  )

  test('a port that is not allowed is not dialled', async () => {
    const port = await http((_request, response) => response.end())
    expect(await send(client({ allowedPorts: [443] }), port)).toMatchObject({ kind: 'not_allowed' })
    expect(await send(client({ allowedPorts: [443, port] }), port)).toMatchObject({ status: 200 })
  })

  test('more sets of networks than are kept open: the oldest ends what it has under way', async () => {
    const slow = Promise.withResolvers<void>()
    const arrived = Promise.withResolvers<void>()
    const open = new Set<unknown>()
    const port = await http(async (request, response) => {
      open.add(request.socket)
      request.socket.once('close', () => open.delete(request.socket))
      if (request.url === '/slow') {
        arrived.resolve()
        await slow.promise
      }
      response.end()
    })
    const guarded = client({ allowedNetworks: [] })
    const networks = (n: number) => [...LOOPBACK, `10.${Math.floor(n / 256)}.${n % 256}.0/24`]
    const first = send(guarded, port, {
      uri: `http://127.0.0.1:${port}/slow`,
      allowedNetworks: networks(0),
    })
    await arrived.promise
    for (let n = 1; n <= 300; n++) {
      expect(await send(guarded, port, { allowedNetworks: networks(n) })).toMatchObject({ status: 200 })
    }
    // The one that is slow, and those that are kept.
    await vi.waitFor(() => expect(open.size).toBeLessThanOrEqual(1 + 256))
    slow.resolve()
    expect(await first).toMatchObject({ status: 200 })
  })

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
    await make('named', 'DNS:rp.example', '-days', '2')
    await make('wrong host', 'DNS:other.example', '-days', '2')
    await makeExpired()
  })
  afterAll(() => rm(folder, { recursive: true }))

  const server = (name: string, options: object = {}) => https({ ...pem.get(name), ...options })
  const certificate = (name: string) => pem.get(name)?.cert ?? ''
  const at = (port: number) => ({ uri: `https://127.0.0.1:${port}/` })

  test('a certificate that is trusted is served', async () => {
    const port = await server('good')
    expect(await send(client({ ca: [certificate('good')] }), port, at(port))).toMatchObject({ status: 200 })
  })

  test('a name is sent along and checked, whatever address it was resolved to', async () => {
    const names: unknown[] = []
    const port = await server('named', {
      SNICallback: (name: string, done: (error: null) => void) => {
        names.push(name)
        done(null)
      },
    })
    const guarded = client({
      ca: [certificate('named')],
      lookup: (_name, callback) => callback(null, [{ address: '127.0.0.1', family: 4 }]),
    })
    const to = (name: string) => send(guarded, port, { uri: `https://${name}:${port}/` })
    expect(await to('rp.example')).toMatchObject({ status: 200 })
    expect(await to('other.example')).toMatchObject({ kind: 'failure', failure: 'tls' })
    expect(names).toEqual(['rp.example', 'other.example'])
  })

  test('one that nobody vouches for is refused', async () => {
    const port = await server('good')
    expect(await send(client(), port, at(port))).toMatchObject({ kind: 'failure', failure: 'tls' })
  })

  test.each(['wrong host', 'expired'])('one that is %s is refused', async (name) => {
    const port = await server(name)
    const answer = await send(client({ ca: [certificate(name)] }), port, at(port))
    expect(answer).toMatchObject({ kind: 'failure', failure: 'tls' })
  })

  test('TLS 1.1 is refused', async () => {
    const port = await server('good', {
      minVersion: 'TLSv1',
      maxVersion: 'TLSv1.1',
      ciphers: 'DEFAULT@SECLEVEL=0',
    })
    const answer = await send(client({ ca: [certificate('good')] }), port, at(port))
    expect(answer.kind).toBe('failure')
  })

  test('what answers without TLS is refused', async () => {
    const port = await http((_request, response) => response.end())
    expect(await send(client(), port, at(port))).toMatchObject({ kind: 'failure', failure: 'tls' })
  })
})

test('the other end is looked at again when the connection stands, and nothing is sent to a wrong one', async () => {
  const received = Promise.withResolvers<number>()
  const port = await tcp((socket) => {
    socket.resume().on('close', () => received.resolve(socket.bytesRead))
  })
  let asked = 0
  const connect = createGuardedConnector({
    // Allowed when it was resolved, and no more when it answers.
    allowed: { has: () => asked++ === 0 },
    lookup: (_name, callback) => callback(null, [{ address: '127.0.0.1', family: 4 }]),
    secureContext: createSecureContext(),
    connectTimeoutMs: 3_000,
    allowedPorts: null,
  })
  const error = await new Promise((resolve) =>
    connect({ protocol: 'http:', hostname: 'rp.example', port: String(port) }, (...[fault]) =>
      resolve(fault),
    ),
  )
  expect(error).toBeInstanceOf(AddressNotAllowedError)
  expect(await received.promise).toBe(0)
})

test('a name is looked up once for all who want to know it at the same time', async () => {
  const asked: ((address: string) => void)[] = []
  const lookup = createSharedLookup((_name, callback) => {
    asked.push((address) => callback(null, [{ address, family: 4 }]))
  })
  const ask = () =>
    new Promise<unknown>((resolve) =>
      lookup('rp.example', (_error, addresses) => resolve(addresses[0]?.address)),
    )
  const both = [ask(), ask()]
  expect(asked).toHaveLength(1)
  asked[0]?.('192.0.2.1')
  expect(await Promise.all(both)).toEqual(['192.0.2.1', '192.0.2.1'])
  const later = ask()
  expect(asked).toHaveLength(2)
  asked[1]?.('192.0.2.2')
  expect(await later).toBe('192.0.2.2')
})
