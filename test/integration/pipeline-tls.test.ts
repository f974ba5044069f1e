import { once } from 'node:events'
import { createServer, type Server } from 'node:https'
import type { AddressInfo } from 'node:net'
import type { TLSSocket } from 'node:tls'
import type { RelyingPartySettings } from '@curfew/contract'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Certificate, openCertificateMaker } from '../support/certificates.ts'
import { type Curfew, eventually, ISS, ISSUER, openCurfew } from '../support/curfew.ts'

// Goal: an RP with its own CA that requires a client certificate gets its logouts. The private key is sealed in the ledger, and
// never returned or logged. Method: all services, a real TLS server, and a look into the table.

type Tls = NonNullable<RelyingPartySettings['tls']>

let curfew: Curfew
let server: Server
let uri = ''
let ca: Certificate
let mail: Certificate
let wiki: Certificate
/** The name in the client certificate of every request to the RP. */
const shown: unknown[] = []

beforeAll(async () => {
  curfew = await openCurfew()
  await using certificates = await openCertificateMaker()
  ca = await certificates.selfSigned('DNS:ca.example')
  mail = await certificates.signedBy(ca, 'DNS:mail.curfew.example')
  wiki = await certificates.signedBy(ca, 'DNS:wiki.curfew.example')
  const own = await certificates.signedBy(ca, 'IP:127.0.0.1')
  server = createServer(
    { ...own, ca: [ca.cert], requestCert: true, rejectUnauthorized: true },
    (request, response) => {
      shown.push((request.socket as TLSSocket).getPeerCertificate().subjectaltname)
      response.end()
    },
  )
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  uri = `https://127.0.0.1:${(server.address() as AddressInfo).port}/logout`
})
afterAll(async () => {
  await curfew.stop()
  server.closeAllConnections()
  server.close()
})

const pathOf = (clientId: string) => `/v1/issuers/${ISSUER}/relying-parties/${clientId}`
const put = (clientId: string, tls: Tls) =>
  curfew.call('PUT', pathOf(clientId), { backchannel_logout_uri: `${uri}/${clientId}`, curfew: { tls } })
const showing = ({ cert, key }: Certificate): Tls => ({
  ca: ca.cert,
  client_certificate: cert,
  client_key: key,
})

async function deliveryTo(clientId: string) {
  const { id } = await curfew.client.postLogoutEvent({ iss: ISS, sub: 'alice', clients: [clientId] })
  const { deliveries } = await curfew.client.getLogoutEvent(id, { wait: 20 })
  const [delivery] = deliveries
  return { state: delivery?.state, reason: delivery?.dead_letter_reason }
}

/** A line of the private key: a text that contains it contains the key. */
const lineOf = ({ key }: Certificate) => key.split('\n')[1] ?? key

describe('an RP that requires a client certificate', () => {
  test('gets exactly the certificate that is registered for it', async () => {
    expect((await put('mail', showing(mail))).status).toBe(201)
    expect((await put('wiki', showing(wiki))).status).toBe(201)
    shown.length = 0
    expect(await deliveryTo('mail')).toEqual({ state: 'acknowledged', reason: null })
    expect(await deliveryTo('wiki')).toEqual({ state: 'acknowledged', reason: null })
    expect(await deliveryTo('mail')).toEqual({ state: 'acknowledged', reason: null })
    const names = ['mail', 'wiki', 'mail'].map((name) => `DNS:${name}.curfew.example`)
    expect(shown).toEqual(names)
  })

  test('gets the same certificate with the confirmations of the logouts that it started', async () => {
    const settings = { confirmation_uri: `${uri}/confirmed`, tls: showing(mail) }
    expect((await curfew.call('PUT', pathOf('portal'), { curfew: settings })).status).toBe(201)
    const plain = { ...settings, confirmation_uri: 'http://127.0.0.1:8080/confirmed' }
    const refused = await curfew.call('PUT', pathOf('portal'), { curfew: plain })
    expect(await refused.json()).toMatchObject({ status: 400, errors: [{ pointer: '/curfew/tls' }] })
    const bookkeeper = await curfew.startBookkeeper()
    shown.length = 0
    await curfew.client.postLogoutEvent({ iss: ISS, sub: 'alice', initiator: 'portal', clients: ['portal'] })
    await eventually(() => expect(shown).toEqual(['DNS:mail.curfew.example']))
    await bookkeeper.stop()
    const { items } = await curfew.client.listConfirmations(ISSUER, 'portal')
    expect(items).toMatchObject([{ state: 'delivered', status: 200 }])
    await curfew.client.deleteRelyingParty(ISSUER, 'portal')
  })

  test('has its key sealed in the ledger, and in no answer and no log line', async () => {
    const answer = await (await put('mail', showing(mail))).json()
    expect(answer).toMatchObject({ curfew: { tls: { ca: ca.cert, client_certificate: mail.cert } } })
    const answers = [
      answer,
      await curfew.client.getRelyingParty(ISSUER, 'mail'),
      await (await curfew.call('GET', `/v1/issuers/${ISSUER}/relying-parties`)).json(),
    ]
    const { rows } = await curfew.db.query("select * from relying_parties where client_id = 'mail'")
    for (const text of [JSON.stringify(answers), JSON.stringify(rows), curfew.lines.join('')]) {
      expect(text).not.toContain(lineOf(mail))
      expect(text).not.toContain('PRIVATE KEY')
    }
    expect(JSON.stringify(answers)).not.toMatch(/client_key|sealed/)
    expect(rows).toMatchObject([
      {
        settings: {
          tls: { sealed_client_key: expect.stringMatching(/^eyJ[\w-]+\.\.(?:[\w-]+\.){2}[\w-]+$/) },
        },
      },
    ])
  })

  test('keeps its key when its registration is read and put back; another certificate needs its own key', async () => {
    await put('round', showing(mail))
    const read = await curfew.client.getRelyingParty(ISSUER, 'round')
    expect((await curfew.call('PUT', pathOf('round'), read)).status).toBe(200)
    expect(await deliveryTo('round')).toMatchObject({ state: 'acknowledged' })
    const without = await put('round', { ca: ca.cert, client_certificate: wiki.cert })
    expect([without.status, await without.json()]).toMatchObject([
      400,
      { errors: [{ pointer: '/curfew/tls/client_key' }] },
    ])
    await curfew.client.putRelyingParty(ISSUER, 'round', { backchannel_logout_uri: `${uri}/round` })
    const { rows } = await curfew.db.query("select settings from relying_parties where client_id = 'round'")
    expect(rows).toEqual([{ settings: {} }])
  })

  test('is stored and shown in the standard form of PEM, however it was pasted', async () => {
    const pasted = (pem: string) => `\uFEFF 0 s:CN = pasted\r\n${pem.replaceAll('\n', '\r\n')}---\r\n`
    const answer = await (
      await put('pasted', {
        ca: pasted(ca.cert),
        client_certificate: pasted(mail.cert),
        client_key: pasted(mail.key),
      })
    ).json()
    const tls = { ca: ca.cert, client_certificate: mail.cert }
    expect(answer).toMatchObject({ curfew: { tls } })
    expect(await deliveryTo('pasted')).toMatchObject({ state: 'acknowledged' })
    const again = await put('pasted', { ...tls, client_certificate: pasted(mail.cert) })
    expect([again.status, await again.json()]).toMatchObject([200, { curfew: { tls } }])
    expect(await deliveryTo('pasted')).toMatchObject({ state: 'acknowledged' })
  })

  test('is unchanged when the same key is put again', async () => {
    const first = await put('again', showing(mail))
    const second = await put('again', showing(mail))
    expect(second.headers.get('etag')).toBe(first.headers.get('etag'))
  })

  test('gets nothing if its key cannot be unsealed, and the dead letter has the reason', async () => {
    await put('swapped', showing(wiki))
    await curfew.db.query(
      `update relying_parties set settings = (select settings from relying_parties where client_id = 'mail')
        where client_id = 'swapped'`,
    )
    await put('mail', showing(mail))
    shown.length = 0
    expect(await deliveryTo('swapped')).toEqual({ state: 'dead_lettered', reason: 'client_key_unreadable' })
    expect(shown).toEqual([])
  })
})

describe('TLS settings', () => {
  test.each<[string, () => Record<string, unknown>, string]>([
    ['a CA that is not PEM', () => ({ ca: '-----BEGIN CERTIFICATE-----' }), '/curfew/tls/ca'],
    [
      'a chain that is not PEM',
      () => ({ client_certificate: 'x', client_key: mail.key }),
      '/curfew/tls/client_certificate',
    ],
    [
      'a key that is not PEM',
      () => ({ client_certificate: mail.cert, client_key: lineOf(mail) }),
      '/curfew/tls/client_key',
    ],
    [
      'the key of another certificate',
      () => ({ client_certificate: wiki.cert, client_key: mail.key }),
      '/curfew/tls/client_key',
    ],
    ['a certificate without a key', () => ({ client_certificate: mail.cert }), '/curfew/tls/client_key'],
    ['a key without a certificate', () => ({ client_key: mail.key }), '/curfew/tls/client_key'],
    [
      'a key among the certificates',
      () => ({ client_certificate: mail.cert + mail.key, client_key: mail.key }),
      '/curfew/tls/client_certificate',
    ],
    ['an unknown member', () => ({ passphrase: mail.key }), '/curfew/tls/passphrase'],
    ['a key that is not a string', () => ({ client_key: [mail.key] }), '/curfew/tls/client_key'],
  ])('with %s are refused, and the answer does not repeat the key', async (_what, tls, pointer) => {
    const response = await curfew.call('PUT', pathOf('faulty'), {
      backchannel_logout_uri: uri,
      curfew: { tls: tls() },
    })
    const text = await response.text()
    const { errors } = JSON.parse(text) as { errors: { pointer: string }[] }
    expect(response.status).toBe(400)
    expect(errors.map((fault) => fault.pointer)).toContain(pointer)
    expect(text).not.toContain(lineOf(mail))
    expect(curfew.lines.join('')).not.toContain(lineOf(mail))
    expect((await curfew.call('GET', pathOf('faulty'))).status).toBe(404)
  })

  test('need an https endpoint', async () => {
    const response = await curfew.call('PUT', pathOf('faulty'), {
      backchannel_logout_uri: uri.replace('https', 'http'),
      curfew: { tls: showing(mail) },
    })
    expect([response.status, await response.json()]).toMatchObject([
      400,
      { errors: [{ pointer: '/curfew/tls' }] },
    ])
  })

  test('are refused as defaults of an issuer, because all its relying parties would share the key', async () => {
    const response = await curfew.call('PUT', '/v1/issuers/two', {
      iss: 'https://two.example',
      defaults: { tls: showing(mail) },
    })
    expect([response.status, await response.json()]).toMatchObject([
      400,
      { errors: [{ pointer: '/defaults/tls' }] },
    ])
  })
})
