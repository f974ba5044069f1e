import { describe, expect, test } from 'vitest'
import { createAllowedNetworks, mayDial } from './addresses.ts'
import { targetFault } from './target.ts'

// Goal: exactly the right addresses may be registered and dialled (RFC 6890 and its successors; NET-01, S3, S6).
// Method: each kind of address, by example.

const none = createAllowedNetworks([])

describe('mayDial', () => {
  test.each([
    '0.0.0.0',
    '0.255.255.255',
    '10.0.0.1',
    '100.64.0.1',
    '100.127.255.255',
    '127.0.0.1',
    '127.255.255.254',
    '168.63.129.16',
    '169.254.169.254',
    '172.16.0.1',
    '172.31.255.255',
    '192.0.0.1',
    '192.0.2.1',
    '192.88.99.1',
    '192.168.1.1',
    '198.18.0.1',
    '198.19.255.255',
    '198.51.100.1',
    '203.0.113.1',
    '224.0.0.1',
    '239.255.255.255',
    '240.0.0.1',
    '255.255.255.255',
    '::',
    '::1',
    '::ffff:8.8.8.8',
    '::ffff:7f00:1',
    '0:0:0:0:0:ffff:8.8.8.8',
    '::8.8.8.8',
    '64:ff9b::808:808',
    '64:ff9b:1::1',
    '100::1',
    '2001::1',
    '2001:db8::1',
    '2002:808:808::1',
    '3fff::1',
    '5f00::1',
    'fc00::1',
    'fdff::1',
    'fe80::1',
    'fe80::1%eth0',
    'fec0::1',
    'ff02::1',
    '1::1',
    '4000::1',
    'not an address',
    '',
  ])('refuses %s unless a network allows it', (address) => {
    expect(mayDial(address, { allowed: none, tls: true })).toBe(false)
  })

  test.each([
    '1.1.1.1',
    '9.255.255.255',
    '11.0.0.1',
    '100.63.255.255',
    '100.128.0.1',
    '126.1.1.1',
    '172.15.0.1',
    '172.32.0.1',
    '192.0.1.1',
    '198.17.1.1',
    '198.20.0.1',
    '223.255.255.255',
    '2606:4700::1111',
    '2a00::1',
    '2003::1',
    '2001:4860::1',
  ])('takes %s over TLS, and not without', (address) => {
    expect(mayDial(address, { allowed: none, tls: true })).toBe(true)
    expect(mayDial(address, { allowed: none, tls: false })).toBe(false)
  })

  test('takes the addresses of an allowed network, in any spelling', () => {
    const allowed = createAllowedNetworks(['10.0.0.0/8', 'fd00::/8'])
    for (const address of ['10.1.2.3', '::ffff:10.1.2.3', '0:0:0:0:0:FFFF:a01:203', 'fd12::1%eth0']) {
      expect(mayDial(address, { allowed, tls: false })).toBe(true)
    }
    expect(mayDial('192.168.0.1', { allowed, tls: true })).toBe(false)
  })
})

describe('targetFault', () => {
  test.each(['https://rp.example/logout', 'https://rp.example:8443/?a=b', 'https://xn--bcher-kva.example/'])(
    'takes %s',
    (uri) => {
      expect(targetFault(uri, [])).toBeNull()
    },
  )

  test.each([
    ['logout', 'absolute'],
    ['ftp://rp.example/', 'https'],
    ['http://rp.example/', 'https'],
    ['https://rp.example/#x', 'fragment'],
    ['https://rp.example/#', 'fragment'],
    ['https://user@rp.example/', 'user name'],
    ['https://:secret@rp.example/', 'password'],
    ['https://bücher.example/', 'ASCII'],
    ['https://rр.example/', 'ASCII'], // a Cyrillic letter among Latin ones
    ['https://rp。example/', 'ASCII'], // a full stop that a parser takes for the ASCII one
    ['https://１２７.0.0.1/', 'ASCII'],
    ['https://ⓛocalhost/', 'ASCII'],
    ['https://%31%32%37.0.0.1/', 'private'],
    ['https://loc%61lhost/', 'localhost'],
    ['https://rp.example/ü', 'ASCII'],
    ['https://127.0.0.1/', 'private'],
    ['https://0x7f000001/', 'private'],
    ['https://2130706433/', 'private'],
    ['https://017700000001/', 'private'],
    ['https://0177.0.0.1/', 'private'],
    ['https://127.1/', 'private'],
    ['https://127.0.0.1./', 'private'],
    ['https://rp.example./', 'ends in a dot'],
    ['https://rp.example.:8443/', 'ends in a dot'],
    ['https://[::1]/', 'private'],
    ['https:/rp.example/', 'https'],
    ['https://rp.example\\@other.example/', 'percent-encoded'],
    [`https://rp.example/${'a'.repeat(2_048)}`, 'at most'],
    ['https://localhost/', 'localhost'],
    ['https://a.localhost.:8443/', 'localhost'],
    ['http://93.184.215.14/', 'private or reserved|https'],
  ])('refuses %s and says what to change', (uri, words) => {
    expect(targetFault(uri, [])).toMatch(new RegExp(words))
  })

  test('takes http where a network is allowed', () => {
    expect(targetFault('http://127.0.0.1:8080/', ['127.0.0.0/8'])).toBeNull()
    expect(targetFault('http://localhost:8080/', ['127.0.0.0/8'])).toBeNull()
    expect(targetFault('http://rp.internal/', ['10.0.0.0/8'])).toBeNull()
    expect(targetFault('http://192.168.0.1/', ['10.0.0.0/8'])).toMatch(/https/)
  })

  test('takes the allowed ports, and lists them in a refusal', () => {
    const ports = [
      [443, 443],
      [8_000, 8_999],
    ] as const
    const fault = (uri: string, networks: readonly string[] = []) => targetFault(uri, networks, ports)
    expect(fault('https://rp.example/')).toBeNull()
    expect(fault('https://rp.example:443/')).toBeNull()
    expect(fault('https://rp.example:8000/')).toBeNull()
    expect(fault('https://rp.example:8999/')).toBeNull()
    for (const uri of ['https://rp.example:7999/', 'https://rp.example:9000/']) {
      expect(fault(uri)).toMatch(/port.*443, 8000-8999/)
    }
    expect(fault('http://127.0.0.1/', ['127.0.0.0/8'])).toMatch(/port 80\b/)
  })

  test('does not show a password', () => {
    expect(targetFault('https://user:hunter2@rp.example/', [])).not.toContain('hunter2')
  })
})
