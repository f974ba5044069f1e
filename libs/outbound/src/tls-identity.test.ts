import { generateKeyPairSync } from 'node:crypto'
import type { ServerOptions } from 'node:https'
import type { TLSSocket } from 'node:tls'
import { afterEach, beforeAll, describe, expect, test } from 'vitest'
import { type Certificate, openCertificateMaker } from '../../../test/support/certificates.ts'
import { cleanUp, client, https, LOOPBACK, type Overrides, send } from './relying-parties.fixture.ts'
import { type TlsIdentity, tlsFaults } from './tls-identity.ts'

// Goal: an RP with its own CA is trusted by that CA alone. An RP that requests a client certificate sees only its own. Unusable
// settings are refused at registration. (STANDARDS S2.)
// Method: real TLS servers on loopback, certificates made for the run.

afterEach(cleanUp)

const made = new Map<string, Certificate>()
beforeAll(async () => {
  await using certificates = await openCertificateMaker()
  const ca = await certificates.selfSigned('DNS:ca.example')
  const otherCa = await certificates.selfSigned('DNS:other-ca.example')
  made.set('ca', ca)
  made.set('other ca', otherCa)
  made.set('rp', await certificates.signedBy(ca, 'IP:127.0.0.1'))
  made.set('elsewhere', await certificates.signedBy(ca, 'DNS:elsewhere.example'))
  made.set('expired', await certificates.expired('IP:127.0.0.1'))
  made.set('mail', await certificates.signedBy(ca, 'DNS:mail.curfew.example'))
  made.set('wiki', await certificates.signedBy(ca, 'DNS:wiki.curfew.example'))
  made.set('stranger', await certificates.signedBy(otherCa, 'DNS:mail.curfew.example'))
})
const certificate = (name: string): Certificate => {
  const found = made.get(name)
  if (found === undefined) throw new Error(`no certificate was made for ${name}`)
  return found
}
const pem = (name: string) => certificate(name).cert
const key = (name: string) => certificate(name).key

const trusting = (name: string): TlsIdentity => ({ ca: pem(name), client: null })
const showing = (name: string): TlsIdentity => ({
  ca: pem('ca'),
  client: { certificate: pem(name), key: key(name) },
})
const to = (port: number, overrides: Overrides = {}) => ({ uri: `https://127.0.0.1:${port}/`, ...overrides })
const REFUSED = { kind: 'failure', failure: 'tls' }

describe('a private CA', () => {
  test('is trusted for the RP that names it, and for no other', async () => {
    const port = await https(certificate('rp'))
    const guarded = client()
    expect(await send(guarded, port, to(port, { tls: trusting('ca') }))).toMatchObject({ status: 200 })
    expect(await send(guarded, port, to(port))).toMatchObject(REFUSED)
    expect(await send(guarded, port, to(port, { tls: trusting('other ca') }))).toMatchObject(REFUSED)
  })

  test('replaces the CAs that are trusted for other RPs', async () => {
    const port = await https(certificate('rp'))
    const guarded = client({ ca: [pem('ca')] })
    expect(await send(guarded, port, to(port))).toMatchObject({ status: 200 })
    expect(await send(guarded, port, to(port, { tls: trusting('other ca') }))).toMatchObject(REFUSED)
  })

  test.each([
    ['of another host', 'elsewhere', 'ca'],
    ['that has expired', 'expired', 'expired'],
  ])('does not excuse a certificate %s', async (_what, name, ca) => {
    const port = await https(certificate(name))
    expect(await send(client(), port, to(port, { tls: trusting(ca) }))).toMatchObject(REFUSED)
  })

  test('does not excuse TLS 1.1 either', async () => {
    const old = { minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' } as const
    const port = await https({ ...certificate('rp'), ...old })
    const answer = await send(client(), port, to(port, { tls: trusting('ca') }))
    expect(answer.kind).toBe('failure')
  })
})

describe('a client certificate', () => {
  const asking = (): ServerOptions => ({
    ...certificate('rp'),
    requestCert: true,
    rejectUnauthorized: true,
    ca: [pem('ca')],
  })

  test('is shown to the RP that requests it; the RP refuses none and one of another CA', async () => {
    const shown: unknown[] = []
    const port = await https(asking(), (request) => {
      shown.push((request.socket as TLSSocket).getPeerCertificate().subjectaltname)
    })
    const guarded = client()
    expect(await send(guarded, port, to(port, { tls: showing('mail') }))).toMatchObject({ status: 200 })
    expect(await send(guarded, port, to(port, { tls: trusting('ca') }))).toMatchObject({ kind: 'failure' })
    expect(await send(guarded, port, to(port, { tls: showing('stranger') }))).toMatchObject({
      kind: 'failure',
    })
    expect(shown).toEqual(['DNS:mail.curfew.example'])
  })

  test('is the one of the RP, even when kept connections lead to the same origin', async () => {
    const shown: unknown[] = []
    const sockets = new Set<unknown>()
    const port = await https({ ...asking(), rejectUnauthorized: false }, (request) => {
      sockets.add(request.socket)
      shown.push((request.socket as TLSSocket).getPeerCertificate().subjectaltname)
    })
    const guarded = client({ connectionsPerOrigin: 1 })
    for (const tls of [showing('mail'), showing('wiki'), trusting('ca')]) {
      await send(guarded, port, to(port, { tls }))
      // A new object with the same content, like the one after the registry is read again.
      await send(guarded, port, to(port, { tls: { ...tls } }))
    }
    const [mail, wiki] = ['DNS:mail.curfew.example', 'DNS:wiki.curfew.example']
    expect(shown).toEqual([mail, mail, wiki, wiki, undefined, undefined])
    expect(sockets.size).toBe(3)
  })

  test('does not open the networks of one RP to another', async () => {
    const port = await https(asking())
    const guarded = client({ allowedNetworks: [] })
    const tls = showing('mail')
    expect(await send(guarded, port, to(port, { tls, grantedNetworks: LOOPBACK }))).toMatchObject({
      status: 200,
    })
    expect(await send(guarded, port, to(port, { tls }))).toMatchObject({ kind: 'not_allowed' })
  })

  test('that is unusable causes a TLS failure and no exception', async () => {
    const port = await https(asking())
    const tls: TlsIdentity = { ca: null, client: { certificate: pem('mail'), key: key('wiki') } }
    expect(await send(client(), port, to(port, { tls }))).toMatchObject(REFUSED)
  })
})

describe('tlsFaults', () => {
  test('takes valid settings', () => {
    expect(tlsFaults({})).toEqual([])
    expect(tlsFaults({ ca: `${pem('ca')}\r\n${pem('other ca')}` })).toEqual([])
    expect(tlsFaults({ client_certificate: pem('mail') })).toEqual([])
    const explained = `\uFEFF 0 s:CN = rp\r\n${pem('ca').replaceAll('\n', '\r\n')}---\r\nServer certificate`
    expect(tlsFaults({ ca: explained })).toEqual([])
    const combined = `${pem('mail')}${key('mail')}`
    expect(tlsFaults({ client_certificate: pem('mail'), client_key: combined })).toEqual([])
    const chain = pem('mail') + pem('ca')
    expect(tlsFaults({ ca: pem('ca'), client_certificate: chain, client_key: key('mail') })).toEqual([])
  })

  test.each<[string, () => Parameters<typeof tlsFaults>[0], string, RegExp]>([
    ['a CA that is no PEM', () => ({ ca: 'ca.pem' }), 'ca', /PEM/],
    ['an empty CA', () => ({ ca: ' ' }), 'ca', /PEM/],
    ['a truncated CA', () => ({ ca: pem('ca').replace(/\n.{20}/, '\n') }), 'ca', /PEM/],
    [
      'a CA with a key beside it',
      () => ({ ca: pem('ca') + key('ca') }),
      'ca',
      /no other block: remove the PRIVATE KEY/,
    ],
    [
      'a chain with a key in it',
      () => ({ client_certificate: pem('mail') + key('mail') }),
      'client_certificate',
      /no other block: remove the PRIVATE KEY/,
    ],
    [
      'a key without a certificate',
      () => ({ client_key: key('mail') }),
      'client_key',
      /with the client_certificate/,
    ],
    [
      'the key of another certificate',
      () => ({ client_certificate: pem('mail'), client_key: key('wiki') }),
      'client_key',
      /not the key/,
    ],
    [
      'a chain that begins with its CA',
      () => ({ client_certificate: pem('ca') + pem('mail'), client_key: key('mail') }),
      'client_key',
      /first certificate/,
    ],
    [
      'a certificate in place of a key',
      () => ({ client_certificate: pem('mail'), client_key: pem('mail') }),
      'client_key',
      /private key/,
    ],
    [
      'an encrypted key',
      () => ({
        client_certificate: pem('mail'),
        client_key: generateKeyPairSync('ed25519').privateKey.export({
          type: 'pkcs8',
          format: 'pem',
          cipher: 'aes-256-cbc',
          passphrase: 'hunter2',
        }),
      }),
      'client_key',
      /encrypted/,
    ],
  ])('refuses %s', (_what, given, member, detail) => {
    const faults = tlsFaults(given())
    expect(faults).toEqual([{ member, detail: expect.stringMatching(detail) }])
    expect(JSON.stringify(faults)).not.toContain('BEGIN')
  })

  test('names every member that is wrong', () => {
    const faults = tlsFaults({ ca: 'x', client_certificate: 'y', client_key: 'z' })
    expect(faults.map(({ member }) => member)).toEqual(['ca', 'client_certificate', 'client_key'])
  })
})
