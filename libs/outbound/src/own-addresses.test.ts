import { afterEach, describe, expect, test } from 'vitest'
import type { Lookup } from './lookup.ts'
import { createOwnAddresses, type OwnAddressesOptions } from './own-addresses.ts'
import { cleanUp, client, http, send, tcp } from './relying-parties.fixture.ts'
import { targetFault } from './target.ts'

// Goal: no request goes to this deployment itself, whatever networks are allowed.
// Method: real listeners on loopback stand for Curfew's own; the test sets the resolver; addresses come in all spellings.

afterEach(cleanUp)

const EVERYWHERE = ['0.0.0.0/0', '::/0']
const leadsTo =
  (address: string): Lookup =>
  (_name, callback) =>
    callback(null, [{ address, family: address.includes(':') ? 6 : 4 }])

describe('a listener of this process', () => {
  test.each([
    ['127.0.0.1', 'http://127.0.0.1:PORT/', '127.0.0.1'],
    ['127.0.0.1', 'http://localhost:PORT/', '127.0.0.1'],
    ['127.0.0.1', 'http://rp.example:PORT/', '127.0.0.1'],
    ['127.0.0.1', 'http://0.0.0.0:PORT/', '127.0.0.1'],
    ['127.0.0.1', 'http://[::ffff:127.0.0.1]:PORT/', '127.0.0.1'],
    ['127.0.0.1', 'https://127.0.0.1:PORT/', '127.0.0.1'],
    ['0.0.0.0', 'http://127.0.0.1:PORT/', '127.0.0.1'],
    ['0.0.0.0', 'http://127.0.0.2:PORT/', '127.0.0.2'],
    ['::', 'http://127.0.0.1:PORT/', '127.0.0.1'],
    ['::', 'http://rp.example:PORT/', '::ffff:127.0.0.1'],
  ])('at %s is not dialled as %s', async (address, uri, resolved) => {
    let reached = 0
    const port = await tcp(() => {
      reached += 1
    })
    const own = createOwnAddresses()
    own.listens({ address, port })
    const guarded = client({ allowedNetworks: EVERYWHERE, own, lookup: leadsTo(resolved) })
    expect(await send(guarded, 0, { uri: uri.replace('PORT', String(port)) })).toMatchObject({
      kind: 'not_allowed',
      detail: expect.stringContaining("an address of Curfew's own"),
    })
    expect(reached).toBe(0)
  })

  test('leaves other ports and addresses of the same machine to relying parties', async () => {
    const port = await http((_request, response) => response.end())
    const own = createOwnAddresses()
    own.listens({ address: '0.0.0.0', port: port + 1 })
    own.listens({ address: '127.0.0.2', port })
    expect(await send(client({ own }), port)).toMatchObject({ status: 200 })
  })

  test('at the unspecified address covers each address of the machine', () => {
    const own = createOwnAddresses({ localAddresses: () => ['10.7.0.5', 'fe80::7%eth0'] })
    own.listens({ address: '0.0.0.0', port: 8_480 })
    for (const address of ['10.7.0.5', 'fe80::7', '127.0.0.1', '::1', '0.0.0.0', '::'])
      expect([address, own.has(address, 8_480)]).toEqual([address, true])
    expect(own.has('10.7.0.6', 8_480)).toBe(false)
    expect(own.has('10.7.0.5', 8_481)).toBe(false)
  })

  test('is not dialled when a name is rebound to it after the check', async () => {
    let reached = 0
    const port = await tcp((socket) => {
      socket.on('data', () => {
        reached += 1
      })
    })
    const own = createOwnAddresses()
    own.listens({ address: '127.0.0.1', port })
    let lookups = 0
    const guarded = client({
      own,
      lookup: (_name, callback) =>
        callback(null, [{ address: lookups++ === 0 ? '127.0.0.2' : '127.0.0.1', family: 4 }]),
    })
    const answer = await send(guarded, 0, { uri: `http://rp.example:${port}/` })
    expect(answer).toMatchObject({ kind: 'not_allowed' })
    expect(reached).toBe(0)
  })
})

describe('a service of the deployment', () => {
  const dialled = async (own: OwnAddressesOptions, uri: string, address = '10.0.0.9') => {
    const lookup = leadsTo(address)
    const guarded = client({
      allowedNetworks: EVERYWHERE,
      own: createOwnAddresses({ lookup, ...own }),
      lookup,
      connectTimeoutMs: 50,
    })
    return (await send(guarded, 0, { uri })).kind !== 'not_allowed'
  }

  test.each<[OwnAddressesOptions, string]>([
    [{ databaseUrl: 'postgres://curfew:secret@127.0.0.1/curfew' }, 'http://127.0.0.1:5432/'],
    [{ databaseUrl: 'postgres://db.internal:6432/curfew' }, 'http://db.internal:6432/'],
    [{ databaseUrl: 'postgres://db.internal:6432/curfew' }, 'https://DB.internal:6432/'],
    [{ databaseUrl: 'postgres://db.internal:6432/curfew' }, 'http://alias.example:6432/'],
    [{ databaseUrl: 'postgres://db.internal:6432/curfew' }, 'http://10.0.0.9:6432/'],
    [{ brokers: ['kafka-0:9092', 'kafka-1:9093'] }, 'http://kafka-1:9093/'],
    [{ brokers: ['kafka-0:9092', 'kafka-1:9093'] }, 'http://10.0.0.9:9092/'],
    [{ publicUrl: 'https://curfew.example/' }, 'https://curfew.example/'],
    [{ publicUrl: 'https://curfew.example/' }, 'https://CURFEW.example:443/v1'],
    [{ publicUrl: 'https://sso.example/curfew' }, 'https://sso.example/curfew'],
    [{ publicUrl: 'https://sso.example/curfew/' }, 'https://SSO.example/curfew/relay/main/shop'],
    [{ publicUrl: 'https://sso.example/curfew' }, 'https://sso.example/x/../curfew/relay/main/shop'],
    [{ publicUrl: 'https://sso.example/curfew' }, 'https://sso.example//%63urfew?a'],
  ])('%j is not dialled as %s', async (own, uri) => {
    expect(await dialled(own, uri)).toBe(false)
  })

  test.each<[OwnAddressesOptions, string]>([
    [{ databaseUrl: 'postgres://db.internal:6432/curfew' }, 'http://db.internal:6433/'],
    [{ databaseUrl: 'postgres:///curfew?host=/var/run/postgresql' }, 'http://10.0.0.9:5432/'],
    // A proxy in front of Curfew may serve relying parties at the same address.
    [{ publicUrl: 'https://curfew.example/' }, 'https://rp.example/'],
    [{ publicUrl: 'https://sso.example/curfew' }, 'https://sso.example/shop/logout'],
    [{ publicUrl: 'https://sso.example/curfew' }, 'https://sso.example/curfew-shop/logout'],
    [{ publicUrl: 'https://sso.example/curfew' }, 'https://sso.example:8443/curfew/logout'],
  ])('%j does not block %s', async (own, uri) => {
    expect(await dialled(own, uri)).toBe(true)
  })
})

test('an address of this deployment is refused at registration', () => {
  const own = createOwnAddresses({ publicUrl: 'https://curfew.example' })
  own.listens({ address: '127.0.0.1', port: 8_480 })
  const fault = (uri: string) => targetFault(uri, EVERYWHERE, null, own)
  for (const uri of ['https://curfew.example/x', 'http://localhost:8480/', 'http://127.0.0.1:8480/']) {
    expect([uri, fault(uri)]).toEqual([uri, expect.stringContaining("an address of Curfew's own")])
    expect(fault(uri)).toMatch(/in a loop\. Give the URL of the other service/)
  }
  expect(fault('http://127.0.0.1:8481/')).toBeNull()
})

test('the public URL with a path leaves the rest of its host to relying parties', () => {
  const own = createOwnAddresses({ publicUrl: 'https://sso.example/curfew' })
  const fault = (uri: string) => targetFault(uri, EVERYWHERE, null, own)
  expect(fault('https://sso.example/curfew/relay/main/shop')).toContain("an address of Curfew's own")
  expect(fault('https://sso.example/shop/logout')).toBeNull()
})

test("only an answer from outside the deployment's networks is marked as restricted", async () => {
  const port = await http((_request, response) => response.writeHead(400).end('{"error":"x"}'))
  const granted = { allowedNetworks: ['127.0.0.0/8'], grantedNetworks: ['127.0.0.0/8'] }
  expect(await send(client({ allowedNetworks: [] }), port, granted)).toMatchObject({ restricted: true })
  expect(await send(client(), port, granted)).not.toHaveProperty('restricted')
  expect(await send(client(), port)).not.toHaveProperty('restricted')
})
