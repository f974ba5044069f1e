import { isIP } from 'node:net'
import { createSecureContext } from 'node:tls'
import { afterEach, beforeAll, describe, expect, test, vi } from 'vitest'
import { type Certificate, openCertificateMaker } from '../../../test/support/certificates.ts'
import { AddressNotAllowedError, createGuardedConnector, createSharedLookup } from './connector.ts'
import { createOwnAddresses } from './own-addresses.ts'
import type { PortRange } from './ports.ts'
import { cleanUp, client, http, https, LOOPBACK, send, tcp } from './relying-parties.fixture.ts'

// Goal: no answer of a relying party or a name server turns the client against its own network or leads it to another host.
// (STANDARDS S1 to S6, NET-01, NET-02, NET-05.)
// Method: real servers on loopback, certificates made for the run, and a resolver that lies.

afterEach(cleanUp)

describe('addresses (NET-01, NET-02)', () => {
  test.each([
    'https:rp.example/',
    'ftp://rp.example/',
    'logout',
    'https://rp.example/a b',
    'http://127.0.0.1:1@rp.example/',
    'http://user@127.0.0.1:1/',
    'http://user:secret@127.0.0.1:1/',
  ])('%s is refused, which ends the attempts', async (uri) => {
    const answer = await send(client(), 0, { uri })
    expect(answer).toMatchObject({ kind: 'not_allowed', detail: expect.not.stringContaining('secret') })
  })

  test('a port that is not allowed is not dialled', async () => {
    const port = await http((_request, response) => response.end())
    const withPorts = (...allowedPorts: readonly PortRange[]) => send(client({ allowedPorts }), port)
    expect(await withPorts([443, 443])).toMatchObject({ kind: 'not_allowed' })
    expect(await withPorts([1, port - 1], [port + 1, 65_535])).toMatchObject({ kind: 'not_allowed' })
    expect(await withPorts([443, 443], [port, port])).toMatchObject({ status: 200 })
    expect(await withPorts([port - 1, port + 1])).toMatchObject({ status: 200 })
  })

  test.each([
    ['https://rp.example/', [443, 443], 'dns'],
    ['https://rp.example/', [80, 80], 'not_allowed'],
    ['http://rp.example/', [80, 80], 'dns'],
    ['http://rp.example/', [443, 443], 'not_allowed'],
  ] as const)('%s has the default port of its scheme', async (uri, range, expected) => {
    const guarded = client({
      allowedPorts: [range],
      lookup: (_name, callback) => callback(Object.assign(new Error('none'), { code: 'ENOTFOUND' }), []),
    })
    const answer = await send(guarded, 0, { uri })
    expect(answer.kind === 'failure' ? answer.failure : answer.kind).toBe(expected)
  })

  test('a proxy that the environment names is not used', async () => {
    let requests = 0
    const proxy = await tcp((socket) => {
      requests += 1
      socket.destroy()
    })
    const port = await http((_request, response) => response.end())
    for (const name of ['HTTP_PROXY', 'http_proxy', 'HTTPS_PROXY', 'https_proxy', 'ALL_PROXY']) {
      vi.stubEnv(name, `http://127.0.0.1:${proxy}`)
    }
    vi.stubEnv('NODE_USE_ENV_PROXY', '1')
    vi.stubEnv('NO_PROXY', '')
    try {
      expect(await send(client(), port)).toMatchObject({ status: 200 })
    } finally {
      vi.unstubAllEnvs()
    }
    expect(requests).toBe(0)
  })

  test('the least recently used set of networks beyond the limit finishes its request before it closes', async () => {
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
      grantedNetworks: networks(0),
    })
    await arrived.promise
    for (let n = 1; n <= 300; n++) {
      expect(await send(guarded, port, { grantedNetworks: networks(n) })).toMatchObject({ status: 200 })
    }
    // The slow connection, and the kept ones.
    await vi.waitFor(() => expect(open.size).toBeLessThanOrEqual(1 + 256))
    slow.resolve()
    expect(await first).toMatchObject({ status: 200 })
  })

  test('a set of networks in use keeps its connection, however many others follow', async () => {
    const common = new Set<unknown>()
    const port = await http((request, response) => {
      if (request.url === '/common') common.add(request.socket)
      response.end()
    })
    const guarded = client({ connectionsPerOrigin: 1 })
    for (let n = 1; n <= 300; n++) {
      await send(guarded, port, { uri: `http://127.0.0.1:${port}/common` })
      await send(guarded, port, { grantedNetworks: [`10.${Math.floor(n / 256)}.${n % 256}.0/24`] })
    }
    expect(common.size).toBe(1)
  })

  test.each([
    'http://127.0.0.1:1/',
    'http://[::1]:1/',
    'http://[::ffff:127.0.0.1]:1/',
    'https://10.1.2.3/',
    'https://0x7f.1/',
    'https://2130706433/',
    'https://017700000001/',
    'https://0177.0.0.1/',
    'https://127.1/',
    'https://127.0.0.1./',
    'https://%31%32%37.0.0.1/',
    'https://１２７。０。０。１/',
    'https://①②⑦.0.0.1/',
    'https://169.254.169.254/',
    'https://[fd00::1]/',
    'https://[fe80::1]/',
    'https://[64:ff9b::7f00:1]/',
    'https://[2002:7f00:1::]/',
  ])('%s is not dialled', async (uri) => {
    const guarded = client({ allowedNetworks: [] })
    expect(await send(guarded, 0, { uri })).toMatchObject({ kind: 'not_allowed' })
  })

  test('a name that is rebound between check and dial reaches nothing: the checked address is the dialled one', async () => {
    let reached = 0
    const port = await tcp(() => {
      reached += 1
    })
    let lookups = 0
    const guarded = client({
      // The only allowed address, where no server listens. 127.0.0.1 stands for a private address.
      allowedNetworks: ['127.0.0.2/32'],
      lookup: (_name, callback) =>
        callback(null, [{ address: lookups++ === 0 ? '127.0.0.2' : '127.0.0.1', family: 4 }]),
      connectTimeoutMs: 500,
    })
    const uri = `http://rebind.example:${port}/`
    // One lookup serves both check and dial. The resolver's second answer comes too late for this connection.
    expect(await send(guarded, port, { uri })).toMatchObject({ kind: 'failure' })
    expect(lookups).toBe(1)
    expect(await send(guarded, port, { uri })).toMatchObject({ kind: 'not_allowed' })
    expect(lookups).toBe(2)
    expect(reached).toBe(0)
  })

  test.each([
    ['this network', '0.0.0.0'],
    ['private', '10.0.0.1'],
    ['private', '172.16.0.1'],
    ['private', '192.168.0.1'],
    ['carrier-grade NAT', '100.64.0.1'],
    ['loopback', '127.0.0.1'],
    ['link-local', '169.254.1.1'],
    ['metadata: AWS, Azure, Google', '169.254.169.254'],
    ['metadata: Azure', '168.63.129.16'],
    ['metadata: Alibaba', '100.100.100.200'],
    ['metadata: Oracle', '192.0.0.192'],
    ['protocol assignments', '192.0.0.1'],
    ['documentation', '192.0.2.1'],
    ['documentation', '198.51.100.1'],
    ['documentation', '203.0.113.1'],
    ['6to4 relays', '192.88.99.1'],
    ['benchmarking', '198.18.0.1'],
    ['multicast', '224.0.0.1'],
    ['reserved', '240.0.0.1'],
    ['broadcast', '255.255.255.255'],
    ['unspecified', '::'],
    ['loopback', '::1'],
    ['mapped', '::ffff:127.0.0.1'],
    ['mapped', '::ffff:a00:1'],
    ['IPv4-compatible', '::7f00:1'],
    ['NAT64', '64:ff9b::7f00:1'],
    ['NAT64', '64:ff9b::10.0.0.1'],
    ['local NAT64', '64:ff9b:1::7f00:1'],
    ['discard-only', '100::1'],
    ['Teredo', '2001::1'],
    ['benchmarking', '2001:2::1'],
    ['documentation', '2001:db8::1'],
    ['documentation', '3fff::1'],
    ['6to4', '2002:7f00:1::1'],
    ['segment routing', '5f00::1'],
    ['unique local', 'fc00::1'],
    ['metadata: AWS', 'fd00:ec2::254'],
    ['link-local', 'fe80::1'],
    ['site-local', 'fec0::1'],
    ['multicast', 'ff02::1'],
  ])('a name that resolves to an address of %s (%s) is not dialled', async (_range, address) => {
    const guarded = client({
      allowedNetworks: [],
      lookup: (_name, callback) => callback(null, [{ address, family: isIP(address) }]),
    })
    const answer = await send(guarded, 0, { uri: 'https://rp.example/' })
    expect(answer).toMatchObject({ kind: 'not_allowed', detail: expect.stringContaining(address) })
  })

  test('of several addresses only the allowed ones are dialled', async () => {
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

  test('the networks of one RP do not serve another, not even over an open connection', async () => {
    const port = await http((_request, response) => response.end())
    const guarded = client({ allowedNetworks: [] })
    expect(await send(guarded, port, { grantedNetworks: LOOPBACK })).toMatchObject({ status: 200 })
    expect(await send(guarded, port)).toMatchObject({ kind: 'not_allowed' })
    expect(await send(client(), port)).toMatchObject({ status: 200 })
    expect(await send(client(), port, { allowedNetworks: [] })).toMatchObject({ kind: 'not_allowed' })
  })

  test('without TLS even a public address is dialled only in an allowed network', async () => {
    expect(await send(client({ allowedNetworks: [] }), 0, { uri: 'http://93.184.215.14/' })).toMatchObject({
      kind: 'not_allowed',
    })
  })
})

describe('TLS (NET-05)', () => {
  const pem = new Map<string, Certificate>()

  beforeAll(async () => {
    await using certificates = await openCertificateMaker()
    pem.set('good', await certificates.selfSigned('IP:127.0.0.1'))
    pem.set('named', await certificates.selfSigned('DNS:rp.example'))
    pem.set('wrong host', await certificates.selfSigned('DNS:other.example'))
    pem.set('expired', await certificates.expired('IP:127.0.0.1'))
  })

  const server = (name: string, options: object = {}) => https({ ...pem.get(name), ...options })
  const certificate = (name: string) => pem.get(name)?.cert ?? ''
  const at = (port: number) => ({ uri: `https://127.0.0.1:${port}/` })

  test('a request to a server with a trusted certificate succeeds', async () => {
    const port = await server('good')
    expect(await send(client({ ca: [certificate('good')] }), port, at(port))).toMatchObject({ status: 200 })
  })

  test('the host name is sent (SNI) and checked, whatever address it resolved to', async () => {
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

  test('a certificate that no CA signed is refused', async () => {
    const port = await server('good')
    expect(await send(client(), port, at(port))).toMatchObject({ kind: 'failure', failure: 'tls' })
  })

  test.each(['wrong host', 'expired'])('a certificate with the fault "%s" is refused', async (name) => {
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

  test('a server that answers without TLS is refused', async () => {
    const port = await http((_request, response) => response.end())
    expect(await send(client(), port, at(port))).toMatchObject({ kind: 'failure', failure: 'tls' })
  })
})

test('the peer address is checked again once connected, and a wrong peer receives nothing', async () => {
  const received = Promise.withResolvers<number>()
  const port = await tcp((socket) => {
    socket.resume().on('close', () => received.resolve(socket.bytesRead))
  })
  let checks = 0
  const connect = createGuardedConnector({
    // The address is allowed when it is resolved, and not when it answers.
    allowed: { has: () => checks++ === 0 },
    lookup: (_name, callback) => callback(null, [{ address: '127.0.0.1', family: 4 }]),
    secureContext: createSecureContext(),
    connectTimeoutMs: 3_000,
    allowedPorts: null,
    own: createOwnAddresses(),
  })
  const error = await new Promise((resolve) =>
    connect({ protocol: 'http:', hostname: 'rp.example', port: String(port) }, (...[fault]) =>
      resolve(fault),
    ),
  )
  expect(error).toBeInstanceOf(AddressNotAllowedError)
  expect(await received.promise).toBe(0)
})

test('concurrent lookups of one name share one query', async () => {
  const queries: ((address: string) => void)[] = []
  const lookup = createSharedLookup((_name, callback) => {
    queries.push((address) => callback(null, [{ address, family: 4 }]))
  })
  const ask = () =>
    new Promise<unknown>((resolve) =>
      lookup('rp.example', (_error, addresses) => resolve(addresses[0]?.address)),
    )
  const both = [ask(), ask()]
  expect(queries).toHaveLength(1)
  queries[0]?.('192.0.2.1')
  expect(await Promise.all(both)).toEqual(['192.0.2.1', '192.0.2.1'])
  const later = ask()
  expect(queries).toHaveLength(2)
  queries[1]?.('192.0.2.2')
  expect(await later).toBe('192.0.2.2')
})
