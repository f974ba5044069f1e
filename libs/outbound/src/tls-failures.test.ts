import type { ServerOptions } from 'node:https'
import { afterEach, beforeAll, describe, expect, test } from 'vitest'
import {
  type Certificate,
  IN_2020,
  IN_2090,
  openCertificateMaker,
} from '../../../test/support/certificates.ts'
import { cleanUp, client, http, https, send, tcp } from './relying-parties.fixture.ts'
import type { TlsIdentity } from './tls-identity.ts'

// Goal: an owner may register an issuing CA without its root. After a TLS failure the owner reads the fault, the host and the remedy,
// without the words of Node.js or OpenSSL.
// Method: real TLS servers on loopback, certificates made for the run.

afterEach(cleanUp)

const made = new Map<string, Certificate>()
beforeAll(async () => {
  await using certificates = await openCertificateMaker()
  const add = async (name: string, certificate: Promise<Certificate>) => {
    made.set(name, await certificate)
    return certificate
  }
  const root = await add('root', certificates.selfSigned('DNS:root.example'))
  const issuing = await add('issuing', certificates.authority(root))
  await add('other issuing', certificates.authority(root))
  const old = await add('expired issuing', certificates.authority(root, IN_2020))
  await add('rp', certificates.signedBy(issuing, 'IP:127.0.0.1'))
  await add('rp of the expired', certificates.signedBy(old, 'IP:127.0.0.1'))
  await add('rp of a server', certificates.signedBy(certificate('rp'), 'IP:127.0.0.1'))
  await add('elsewhere', certificates.signedBy(issuing, 'DNS:elsewhere.example'))
  await add('self', certificates.selfSigned('IP:127.0.0.1'))
  await add('expired', certificates.expired('IP:127.0.0.1'))
  await add('early', certificates.expired('IP:127.0.0.1', IN_2090))
  await add('client', certificates.signedBy(root, 'DNS:curfew.example'))
  await add('client CA', certificates.selfSigned('DNS:clients.example'))
})
const certificate = (name: string): Certificate => {
  const found = made.get(name)
  if (found === undefined) throw new Error(`no certificate was made for ${name}`)
  return found
}
const pem = (...names: readonly string[]) => names.map((name) => certificate(name).cert).join('')
const serving = (names: readonly string[], options: ServerOptions = {}) =>
  https({ cert: pem(...names), key: certificate(names[0] ?? '').key, ...options })
const trusting = (...names: readonly string[]): TlsIdentity => ({ ca: pem(...names), client: null })
const get = (port: number, tls: TlsIdentity | null = null) =>
  send(client(), port, { uri: `https://127.0.0.1:${port}/`, tls })

describe('tls.ca', () => {
  test.each([
    ['the issuing CA without its root, of a server that sends the chain', ['rp', 'issuing'], ['issuing']],
    ['the issuing CA without its root, of a server that sends its certificate alone', ['rp'], ['issuing']],
    ['the root, of a server that sends the chain', ['rp', 'issuing'], ['root']],
    ['several CAs, of which one fits', ['rp'], ['other issuing', 'issuing']],
    ["the server's own certificate", ['rp', 'issuing'], ['rp']],
  ])('may be %s', async (_, chain, ca) => {
    expect(await get(await serving(chain), trusting(...ca))).toMatchObject({ status: 200 })
  })

  test.each([
    [
      'another issuing CA of the same root',
      ['rp', 'issuing'],
      ['other issuing'],
      /does not lead to a trusted CA/,
    ],
    ['the root, of a server that does not send the issuing CA', ['rp'], ['root'], /send its intermediate/],
    ['an issuing CA that has expired', ['rp of the expired'], ['expired issuing'], /has expired/],
    ['the expired certificate of the server itself', ['expired'], ['expired'], /has expired/],
    ['the certificate of a server as the issuer of another', ['rp of a server'], ['rp'], /is no CA/],
    ["the server's own certificate for another host", ['elsewhere'], ['elsewhere'], /for another host/],
  ])('does not excuse %s', async (_, chain, ca, detail) => {
    expect(await get(await serving(chain), trusting(...ca))).toEqual({
      kind: 'failure',
      failure: 'tls',
      detail: expect.stringMatching(detail),
    })
  })

  test('of one RP is no reason to trust an issuing CA for another', async () => {
    const port = await serving(['rp', 'issuing'])
    expect(await get(port, { ca: null, client: null })).toMatchObject({ failure: 'tls' })
  })
})

describe('the text of a TLS failure', () => {
  const mutual = (over: ServerOptions = {}) =>
    serving(['rp', 'issuing'], { requestCert: true, rejectUnauthorized: true, ca: pem('client CA'), ...over })
  const plain = () => http((_request, response) => response.end())
  const closing = () => tcp((socket) => socket.once('data', () => socket.destroy()))
  const oldTls: ServerOptions = {
    ...{ minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' },
  }

  test.each<[string, () => Promise<number>, string | null, RegExp]>([
    ['a private CA', () => serving(['rp', 'issuing']), null, /trusted CA: .*curfew\.tls\.ca/],
    [
      'a private root that is sent too',
      () => serving(['rp', 'issuing', 'root']),
      null,
      /private CA: register/,
    ],
    ['a chain without the issuing CA', () => serving(['rp']), null, /send its intermediate certificates/],
    ['a self-signed certificate', () => serving(['self']), null, /self-signed.*curfew\.tls\.ca/],
    ['an expired certificate', () => serving(['expired']), 'expired', /has expired.*renew/],
    ['a certificate of the future', () => serving(['early']), 'early', /not valid yet.*clock/],
    ['another host', () => serving(['elsewhere']), 'issuing', /another host \(DNS:elsewhere\.example\)/],
    ['TLS 1.1', () => serving(['rp'], oldTls), 'issuing', /TLS 1\.2 or newer: update/],
    ['a port without TLS', plain, null, /does not answer in TLS.*register the port/],
    ['a missing client certificate over TLS 1.3', () => mutual(), 'issuing', /client_certificate/],
    [
      'a missing client certificate over TLS 1.2',
      () => mutual({ maxVersion: 'TLSv1.2' }),
      'issuing',
      /requires a client certificate/,
    ],
    ['a server that closes during the handshake', closing, null, /closed the connection during TLS.*its log/],
    [
      'no common cipher',
      () =>
        serving(['rp'], { maxVersion: 'TLSv1.2', ciphers: 'ECDHE-ECDSA-AES128-SHA', ecdhCurve: 'secp256k1' }),
      'issuing',
      /no cipher or curve in common/,
    ],
  ])('of %s names the host and the remedy in our words', async (_, server, ca, words) => {
    const port = await server()
    const answer = await get(port, ca === null ? null : trusting(ca))
    const detail = answer.kind === 'failure' ? answer.detail : ''
    expect(answer.kind).toBe('failure')
    expect(detail).toMatch(words)
    expect(detail).toMatch(new RegExp(`^127\\.0\\.0\\.1:${port} `))
    expect(detail).not.toMatch(/openssl\/|routines|error:|--use-system-ca|altnames|undefined/)
  })
})
