import { X509Certificate } from 'node:crypto'
import { afterEach, beforeAll, expect, test } from 'vitest'
import { type Certificate, openCertificateMaker } from '../../../test/support/certificates.ts'
import { cleanUp, client, http, https, LOOPBACK } from './relying-parties.fixture.ts'

// Goal: TLS facts and headers of an endpoint are read where requests may go, and nowhere else.
// Method: real servers on loopback.

afterEach(cleanUp)
let good: Certificate
let expired: Certificate
beforeAll(async () => {
  await using certificates = await openCertificateMaker()
  good = await certificates.selfSigned('IP:127.0.0.1')
  expired = await certificates.expired('IP:127.0.0.1')
})
const trusting = ({ cert }: Certificate) => ({ ca: cert, client: null })

test('the TLS version and the end of the certificate are reported', async () => {
  const port = await https(good)
  const facts = await client().inspectTls({
    uri: `https://127.0.0.1:${port}/logout?x=1`,
    allowedNetworks: null,
    tls: trusting(good),
  })
  expect(facts).toEqual({ protocol: 'TLSv1.3', validTo: new Date(new X509Certificate(good.cert).validTo) })
})

test('an address that is not allowed, an untrusted certificate and a server without TLS yield null', async () => {
  const port = await https(good)
  const old = await https(expired)
  const plain = await http((_request, response) => void response.end())
  const uri = `https://127.0.0.1:${port}/`
  const tls = trusting(good)
  const guarded = client()
  expect(await client({ allowedNetworks: [] }).inspectTls({ uri, allowedNetworks: [], tls })).toBeNull()
  expect(
    await client({ allowedNetworks: [] }).inspectTls({
      uri,
      allowedNetworks: LOOPBACK,
      grantedNetworks: LOOPBACK,
      tls,
    }),
  ).not.toBeNull()
  expect(await guarded.inspectTls({ uri, allowedNetworks: null })).toBeNull()
  const oldOne = { uri: `https://127.0.0.1:${old}/`, allowedNetworks: null, tls: trusting(expired) }
  expect(await guarded.inspectTls(oldOne)).toBeNull()
  expect(await guarded.inspectTls({ uri: `http://127.0.0.1:${plain}/`, allowedNetworks: null })).toBeNull()
  expect(await guarded.inspectTls({ uri: `https://127.0.0.1:${plain}/`, allowedNetworks: null })).toBeNull()
  expect(await guarded.inspectTls({ uri: 'nowhere', allowedNetworks: null })).toBeNull()
})

test('an answer has its headers on request, and repeated headers are joined', async () => {
  const port = await http((_request, response) => {
    response.setHeader('Cache-Control', ['no-store', 'private'])
    response.end()
  })
  const request = { uri: `http://127.0.0.1:${port}/`, headers: {}, timeoutMs: 5_000, allowedNetworks: null }
  expect(await client().get({ ...request, captureHeaders: true })).toMatchObject({
    headers: { 'cache-control': 'no-store, private' },
  })
  expect(await client().get(request)).not.toHaveProperty('headers')
})
