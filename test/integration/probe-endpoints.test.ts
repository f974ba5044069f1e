import { once } from 'node:events'
import { createServer, type Server } from 'node:https'
import type { AddressInfo } from 'node:net'
import type { Probe } from '@curfew/contract'
import { TOKEN_ALGORITHMS } from '@curfew/domain'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Certificate, openCertificateMaker } from '../support/certificates.ts'
import { type Curfew, eventually, ISS, ISSUER, openCurfew } from '../support/curfew.ts'
import { openRelyingParty } from '../support/relying-party.ts'

// Goal: a probe reaches only allowed addresses, reports an endpoint that does not answer, and leaves only its report and an audit
// record. Method: all services, and real relying parties that are available, unavailable or at forbidden addresses.

let curfew: Curfew
beforeAll(async () => {
  curfew = await openCurfew()
})
afterAll(() => curfew.stop())

const pathOf = (clientId: string) => `/v1/issuers/${ISSUER}/relying-parties/${clientId}/probe`
const named = (result: string, { report }: Probe) =>
  (report?.checks ?? []).filter((check) => check.result === result).map(({ id }) => id)
const fixOf = ({ report }: Probe, id: string) => report?.checks.find((check) => check.id === id)

describe('an endpoint named in the request', () => {
  test.each(TOKEN_ALGORITHMS)('is probed without a registration, with tokens in %s', async (algorithm) => {
    // Deletes the registration and keeps the server: the client in the path is unknown.
    const clientId = `named-${algorithm}`
    await using party = await openRelyingParty(curfew, { clientId, algorithm, target: '/out?tenant=7' })
    await curfew.db.query({
      text: 'with gone as (delete from bindings where uri = $1) delete from relying_parties where client_id = $2',
      values: [party.uri, clientId],
    })
    const probed = await curfew.client.probe(ISSUER, clientId, {
      uri: party.uri,
      id_token_signed_response_alg: algorithm,
    })
    // The endpoint is plain HTTP, and does not implement the optional checks.
    expect(named('failed', probed)).toEqual(['tls', 'replayed', 'two_tokens'])
    expect(named('unknown', probed)).toEqual([])
    expect(party.mostAtOnce).toBeLessThanOrEqual(2)
    expect(new Set(party.received.map(({ header }) => header.typ))).toEqual(
      new Set(['logout+jwt', 'JWT', undefined]),
    )
    for (const { target } of party.received)
      expect(target).toMatch(/^\/out\?tenant=7(&logout_token=[\w.-]+)?$/)
  })

  test('must be in a network that its issuer or the deployment allows; the networks of a client do not count', async () => {
    await using strict = await openCurfew({ workers: 0, allowedNetworks: [] })
    await using party = await openRelyingParty(strict, {
      clientId: 'shop',
      curfew: { allowed_networks: ['127.0.0.0/8'] },
    })
    expect(named('failed', await strict.client.probe(ISSUER, 'shop'))).not.toContain('endpoint')
    const before = party.received.length
    for (const uri of [
      party.uri,
      'https://10.0.0.1/',
      'https://localhost/',
      'ftp://rp.example/',
      'https://a@rp.example/',
    ]) {
      const refused = await strict.call('POST', pathOf('shop'), { uri })
      expect([uri, refused.status, await refused.json()]).toMatchObject([
        uri,
        400,
        { errors: [{ pointer: '/uri' }] },
      ])
    }
    await strict.client.putIssuer(ISSUER, { iss: ISS, defaults: { allowed_networks: ['127.0.0.0/8'] } })
    expect((await strict.client.probe(ISSUER, 'shop', { uri: party.uri })).state).toBe('done')
    expect(party.received.length).toBeGreaterThan(before)
  })

  test.each([
    [{ uri: 'https://rp.example/', id_token_signed_response_alg: 'none' }, '/id_token_signed_response_alg'],
    [{ uri: 'https://rp.example/', timeout_ms: 1 }, '/timeout_ms'],
    [{ uri: 'https://rp.example/', allowed_networks: ['10.0.0.0/8'] }, '/allowed_networks'],
  ])('is refused with the input %j', async (input, pointer) => {
    const response = await curfew.call('POST', pathOf('unknown'), input)
    expect([response.status, await response.json()]).toMatchObject([400, { errors: [{ pointer }] }])
  })
})

test('an endpoint that is busy at first is probed again', async () => {
  await using party = await openRelyingParty(curfew, { clientId: 'briefly-busy' })
  party.behave((number) => (number <= 2 ? { status: 503 } : null))
  const probed = await curfew.client.probe(ISSUER, 'briefly-busy')
  expect(named('unknown', probed)).toEqual([])
  expect(fixOf(probed, 'endpoint')).toMatchObject({ result: 'passed', status: 200 })
})

describe('an endpoint that does not answer', () => {
  test('is reported as one fault with a fix, and nothing else is sent', async () => {
    const party = await openRelyingParty(curfew, { clientId: 'unavailable' })
    await party.close()
    const probed = await curfew.client.probe(ISSUER, 'unavailable')
    // The URI alone shows that it is plain HTTP.
    expect(named('failed', probed)).toEqual(['endpoint', 'tls'])
    expect(fixOf(probed, 'endpoint')).toMatchObject({
      what: expect.stringContaining('refused the connection'),
      fix: expect.stringContaining('Start the relying party'),
    })
    expect(probed).toMatchObject({ sent: 1, report: { passed: 0, conformant: false, suggestions: [] } })
  })

  test('is reported with its expired certificate', async () => {
    await using certificates = await openCertificateMaker()
    const expired = await certificates.expired('IP:127.0.0.1')
    const { server, uri } = await listen(expired)
    try {
      await curfew.client.putRelyingParty(ISSUER, 'old', {
        backchannel_logout_uri: uri,
        curfew: { tls: { ca: expired.cert } },
      })
      const probed = await curfew.client.probe(ISSUER, 'old')
      expect(named('failed', probed)).toEqual(['endpoint'])
      expect(fixOf(probed, 'endpoint')).toMatchObject({
        what: expect.stringMatching(/TLS failed \(127\.0\.0\.1:\d+ has a certificate that has expired/),
        fix: expect.stringContaining('Correct TLS'),
      })
    } finally {
      server.close()
      server.closeAllConnections()
    }
  })

  test('is reported if a change of its issuer forbids its address', async () => {
    await using strict = await openCurfew({ workers: 0, allowedNetworks: [] })
    await strict.client.putIssuer(ISSUER, { iss: ISS, defaults: { allowed_networks: ['127.0.0.0/8'] } })
    await using party = await openRelyingParty(strict, { clientId: 'shop' })
    await strict.client.putIssuer(ISSUER, { iss: ISS })
    const probed = await strict.client.probe(ISSUER, 'shop')
    expect(named('failed', probed)).toEqual(['endpoint', 'tls'])
    expect(fixOf(probed, 'endpoint')?.what).toContain('not allowed')
    expect(party.received).toEqual([])
  })
})

describe('a probe report', () => {
  test('does not exist for a client that is neither registered nor named, or for an unknown issuer', async () => {
    for (const [method, path] of [
      ['POST', pathOf('unknown')],
      ['GET', pathOf('unknown')],
      ['POST', '/v1/issuers/none/relying-parties/shop/probe'],
    ] as const) {
      expect([
        method,
        path,
        (await curfew.call(method, path, method === 'POST' ? {} : undefined)).status,
      ]).toEqual([...[method, path, 404]])
    }
  })

  test('is kept with the nine previous reports of its client, and the audit log names the requester', async () => {
    const party = await openRelyingParty(curfew, { clientId: 'kept' })
    await party.close()
    let last: Probe | null = null
    for (let count = 0; count < 12; count++) last = await curfew.client.probe(ISSUER, 'kept')
    expect(await curfew.client.getProbe(ISSUER, 'kept')).toEqual(last)
    const { rows } = await curfew.db.query(
      "select id from probes where client_id = 'kept' order by started_at desc",
    )
    expect([rows.length, rows[0]]).toEqual([10, { id: last?.id }])
    const audit = (await (await curfew.call('GET', '/v1/audit?limit=1')).json()) as { items: unknown[] }
    expect(audit.items).toMatchObject([
      {
        credential: 'admin',
        action: 'relying_party.probed',
        object: `/v1/issuers/${ISSUER}/relying-parties/kept`,
        detail: { probe: last?.id, uri: party.uri },
      },
    ])
  })

  test('shows the progress of the one probe that a client may have at a time', async () => {
    await using party = await openRelyingParty(curfew, { clientId: 'slow', curfew: { timeout_ms: 2_000 } })
    party.behave((number) => (number === 10 ? 'hang' : null))
    const first = curfew.client.probe(ISSUER, 'slow')
    await eventually(async () => {
      const running = await curfew.client.getProbe(ISSUER, 'slow')
      expect(running).toMatchObject({ state: 'running', ended_at: null, report: null })
      expect(running.sent).toBeGreaterThan(0)
    })
    await expect(curfew.client.probe(ISSUER, 'slow')).rejects.toMatchObject({ status: 409 })
    expect(named('unknown', await first)).toHaveLength(1)
  })

  test('is discarded if its process ended before it was complete', async () => {
    const party = await openRelyingParty(curfew, { clientId: 'left' })
    await party.close()
    await curfew.db.query({
      text: `insert into probes (id, issuer, client_id, kind, uri, credential, started_at, total)
             values (gen_random_uuid(), $1, 'left', 'backchannel', $2, 'admin', now() - interval '3 minutes', 35)`,
      values: [ISSUER, party.uri],
    })
    expect((await curfew.call('GET', pathOf('left'))).status).toBe(404)
    expect((await curfew.client.probe(ISSUER, 'left')).state).toBe('done')
  })

  test('with faults does not delay a logout', async () => {
    await using party = await openRelyingParty(curfew, { clientId: 'busy' })
    party.behave({ status: 500 })
    await curfew.client.probe(ISSUER, 'busy')
    party.behave(null)
    const { id } = await curfew.client.postLogoutEvent({ iss: ISS, sub: 'alice', clients: ['busy'] })
    const status = await curfew.client.getLogoutEvent(id, { wait: 20 })
    expect(status.deliveries).toMatchObject([{ state: 'acknowledged', attempt_count: 1 }])
  })
})

async function listen(certificate: Certificate): Promise<{ server: Server; uri: string }> {
  const server = createServer(certificate, (_request, response) => response.end())
  server.on('tlsClientError', (_error, socket) => socket.destroy())
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return { server, uri: `https://127.0.0.1:${(server.address() as AddressInfo).port}/` }
}
