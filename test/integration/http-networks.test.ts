import { createServer } from 'node:http'
import type { AccessFilter, ClientId, Issuer, IssuerName } from '@curfew/domain'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { type Curfew, eventually, ISS, ISSUER, openCurfew } from '../support/curfew.ts'
import { openRelyingParty } from '../support/relying-party.ts'

// Goal: no tenant makes Curfew send anything into a network that neither the deployment nor an unbound admin allowed.
// Method: the real console and workers over HTTP, credentials with every access filter, and relying parties on loopback.

interface Answer {
  readonly status: number
  readonly body: {
    readonly curfew?: { readonly allowed_networks?: readonly string[] }
    readonly defaults?: { readonly allowed_networks?: readonly string[] }
    readonly errors?: readonly { readonly pointer: string; readonly detail: string }[]
    readonly faults?: readonly { readonly pointer: string }[]
  }
}
const CEILING = ['10.0.0.0/8', '127.0.0.0/8']
const LOOPBACK = ['127.0.0.0/8']
const scopes = ['clients:read', 'clients:write', 'keys:write', 'ledger:read'] as const
const ofIssuer: AccessFilter = { kind: 'issuer', issuer: ISSUER as IssuerName, iss: ISS as Issuer }
const ofClients = (...clients: readonly string[]): AccessFilter => ({
  ...{ kind: 'clients', issuer: ISSUER as IssuerName, iss: ISS as Issuer },
  clients: new Set(clients as readonly ClientId[]),
})
const issuerPath = `/v1/issuers/${ISSUER}`
const pathOf = (clientId: string) => `${issuerPath}/relying-parties/${clientId}`
const withNetworks = (...allowed_networks: readonly string[]) => ({ curfew: { allowed_networks } })

async function call(on: Curfew, method: string, path: string, body?: unknown, key?: string): Promise<Answer> {
  const response = await on.call(
    method,
    path,
    body,
    key === undefined ? {} : { authorization: `Bearer ${key}` },
  )
  return { status: response.status, body: (await response.json()) as Answer['body'] }
}

describe('a registration', () => {
  let curfew: Curfew
  let issuerKey: string
  let unboundKey: string
  const ownerKey = (clientId: string) => curfew.keyBoundTo(ofClients(clientId), ...scopes)
  beforeAll(async () => {
    curfew = await openCurfew({ workers: 0, allowedNetworks: CEILING })
    issuerKey = curfew.keyBoundTo(ofIssuer, ...scopes)
    unboundKey = curfew.keyFor(...scopes)
  })
  afterAll(() => curfew.stop())

  test.each(['its owner', 'its issuer', 'an unbound key', "an issuer's admin"])(
    'by %s stays within the networks of the deployment',
    async (who) => {
      const key = {
        'its owner': ownerKey('ceiling'),
        'its issuer': issuerKey,
        'an unbound key': unboundKey,
        "an issuer's admin": curfew.keyBoundTo(ofIssuer, 'admin'),
      }[who]
      const put = (...networks: readonly string[]) =>
        call(curfew, 'PUT', pathOf('ceiling'), withNetworks(...networks), key)
      for (const wide of ['0.0.0.0/0', '169.254.0.0/16', '10.0.0.0/7', '::/0', '::ffff:a9fe:0/112']) {
        const refused = await put('10.0.0.0/8', wide)
        expect([wide, refused.status, refused.body.errors]).toEqual([
          wide,
          400,
          [{ pointer: '/curfew/allowed_networks/1', detail: expect.stringContaining('must be within') }],
        ])
      }
      expect((await put('10.1.0.0/16', '::ffff:10.2.0.0/112')).status).toBeLessThan(300)
      const patched = await call(curfew, 'PATCH', pathOf('ceiling'), withNetworks('192.168.0.0/16'), key)
      expect(patched.body.errors?.[0]?.pointer).toBe('/curfew/allowed_networks/0')
      if (who === 'its owner') return
      const line = `${JSON.stringify({ client_id: 'imported', ...withNetworks('192.168.0.0/16') })}\n`
      const headers = { authorization: `Bearer ${key}`, 'content-type': 'application/x-ndjson' }
      const imported = await curfew.call('POST', `${issuerPath}/relying-parties/import`, line, headers)
      expect([imported.status, await imported.json()]).toMatchObject([
        400,
        { faults: [{ pointer: '/curfew/allowed_networks/0' }] },
      ])
      const defaults = { iss: ISS, defaults: { allowed_networks: ['192.168.0.0/16'] } }
      const issuer = await call(curfew, 'PUT', issuerPath, defaults, key)
      expect([issuer.status, issuer.body.errors?.[0]?.pointer]).toEqual([400, '/defaults/allowed_networks/0'])
    },
  )

  test('by an unbound admin may exceed the networks of the deployment, and its owner keeps them but adds none', async () => {
    const key = ownerKey('granted')
    expect((await call(curfew, 'PUT', pathOf('granted'), withNetworks('192.168.0.0/16'))).status).toBe(201)
    const uri = { backchannel_logout_uri: 'https://192.168.1.2/logout' }
    const kept = await call(
      curfew,
      'PUT',
      pathOf('granted'),
      { ...uri, ...withNetworks('192.168.0.0/16') },
      key,
    )
    expect(kept.status).toBe(200)
    expect(
      (await call(curfew, 'PATCH', pathOf('granted'), { client_name: 'Granted' }, issuerKey)).status,
    ).toBe(200)
    for (const by of [key, issuerKey, unboundKey]) {
      const wider = await call(curfew, 'PATCH', pathOf('granted'), withNetworks('192.168.0.0/15'), by)
      expect([wider.status, wider.body.errors?.[0]?.pointer]).toEqual([400, '/curfew/allowed_networks/0'])
    }
    // An admin's grant ends when the admin removes the registration.
    await call(curfew, 'DELETE', pathOf('granted'))
    expect((await call(curfew, 'PUT', pathOf('granted'), uri, key)).body.errors?.[0]?.pointer).toBe(
      '/backchannel_logout_uri',
    )
  })

  test.each(['PUT', 'PATCH', 'DELETE and PUT', 'import', "an admin's DELETE and PUT"])(
    'that an admin narrowed stays narrow through %s',
    async (how) => {
      const clientId = `narrow-${how.replaceAll(/\W/g, '-')}`
      const uri = { backchannel_logout_uri: `https://10.0.0.1/${clientId}` }
      expect((await call(curfew, 'PUT', pathOf(clientId), withNetworks())).status).toBe(201)
      for (const key of [ownerKey(clientId), issuerKey, unboundKey]) {
        if (how.includes('DELETE')) {
          const by = how.startsWith('an') ? undefined : key
          expect((await call(curfew, 'DELETE', pathOf(clientId), undefined, by)).status).toBe(200)
        }
        const change = async (body: object) => {
          if (how !== 'import')
            return call(curfew, how === 'PATCH' ? 'PATCH' : 'PUT', pathOf(clientId), body, key)
          const response = await curfew.call(
            'POST',
            `${issuerPath}/relying-parties/import`,
            `${JSON.stringify({ client_id: clientId, ...body })}\n`,
            { authorization: `Bearer ${issuerKey}`, 'content-type': 'application/x-ndjson' },
          )
          return { status: response.status, body: {} }
        }
        expect((await change({ ...uri, ...withNetworks('10.0.0.0/8') })).status).toBe(400)
        expect((await change({ ...uri, ...(how === 'PATCH' && { curfew: null }) })).status).toBe(400)
        // Without networks the request is accepted, and the networks of the admin stay.
        expect((await change(how === 'PATCH' ? { curfew: null } : {})).status).toBeLessThan(300)
        const { body } = await call(curfew, 'GET', pathOf(clientId))
        expect(body.curfew?.allowed_networks).toEqual([])
      }
      expect((await call(curfew, 'PUT', pathOf(clientId), uri)).status).toBe(200)
    },
  )

  test('that its issuer narrowed stays narrow for its owner', async () => {
    const key = ownerKey('ours')
    expect((await call(curfew, 'PUT', pathOf('ours'), withNetworks('10.1.0.0/16'), issuerKey)).status).toBe(
      201,
    )
    await call(curfew, 'DELETE', pathOf('ours'), undefined, key)
    expect((await call(curfew, 'PUT', pathOf('ours'), withNetworks('10.0.0.0/8'), key)).status).toBe(400)
    expect((await call(curfew, 'PUT', pathOf('ours'), withNetworks('10.1.2.0/24'), key)).status).toBe(201)
    expect((await call(curfew, 'PUT', pathOf('ours'), withNetworks('10.0.0.0/8'), issuerKey)).status).toBe(
      200,
    )
  })

  test('at an issuer that an admin narrowed stays within the networks of that issuer', async () => {
    const put = (networks: readonly string[] | null, key?: string) =>
      call(
        curfew,
        'PUT',
        issuerPath,
        { iss: ISS, ...(networks !== null && { defaults: { allowed_networks: networks } }) },
        key,
      )
    onTestFinished(async () => void (await put(null)))
    expect((await put(['10.1.0.0/16'])).status).toBe(200)
    for (const key of [issuerKey, unboundKey]) {
      expect((await put(['10.0.0.0/8'], key)).status).toBe(400)
      expect((await put(null, key)).body.defaults?.allowed_networks).toEqual(['10.1.0.0/16'])
      expect((await call(curfew, 'PUT', pathOf('within'), withNetworks('10.2.0.0/16'), key)).status).toBe(400)
    }
    const signer = {
      signer: { url: 'https://10.2.0.1/sign', credential: 'x'.repeat(16) },
      public_jwk: { kty: 'EC', crv: 'P-256', alg: 'ES256', x: X, y: Y },
    }
    const key = await call(curfew, 'POST', `${issuerPath}/keys`, signer, issuerKey)
    expect([key.status, key.body.errors?.[0]?.pointer]).toEqual([400, '/signer/url'])
    const probed = await call(
      curfew,
      'POST',
      `${pathOf('within')}/probe`,
      { uri: 'https://10.2.0.1/' },
      issuerKey,
    )
    expect([probed.status, probed.body.errors?.[0]?.pointer]).toEqual([400, '/uri'])
  })

  test('that leads to Curfew itself is refused', async () => {
    for (const uri of [`${curfew.url}/v1/logout-events`, `http://localhost:${new URL(curfew.url).port}/`]) {
      const refused = await call(curfew, 'PUT', pathOf('self'), { backchannel_logout_uri: uri })
      expect([refused.status, refused.body.errors]).toEqual([
        400,
        [{ pointer: '/backchannel_logout_uri', detail: expect.stringContaining("Curfew's own") }],
      ])
    }
  })
})
// The public key of RFC 7517 A.1.
const X = 'MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4'
const Y = '4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM'

describe('a delivery', () => {
  const deadLetters = async (on: Curfew, key?: string) => {
    const text = await (
      await on.call('GET', '/v1/deliveries?state=dead_lettered', undefined, {
        ...(key !== undefined && { authorization: `Bearer ${key}` }),
      })
    ).json()
    return (text as { items: { client_id: string; links: { self: string } }[] }).items
  }

  test('does not go to a network that only an old registration allows', async () => {
    await using curfew = await openCurfew({ allowedNetworks: [] })
    await using party = await openRelyingParty(curfew, {
      clientId: 'shop',
      curfew: { allowed_networks: LOOPBACK },
    })
    await curfew.db.query('update relying_parties set network_rule = null')
    await curfew.db.query('update registry_revision set revision = revision + 1')
    await eventually(async () => {
      await curfew.client.postLogoutEvent({ iss: ISS, sub: 'alice' })
      expect((await deadLetters(curfew)).length).toBeGreaterThan(0)
    })
    const before = party.received.length
    await curfew.client.postLogoutEvent({ iss: ISS, sub: 'bob' })
    await eventually(async () => expect((await deadLetters(curfew)).length).toBeGreaterThan(1))
    expect(party.received.length).toBe(before)
  })

  test('never goes to Curfew itself, whatever a registration says', async () => {
    await using curfew = await openCurfew({ allowedNetworks: LOOPBACK })
    const uri = `${curfew.url}/v1/logout-events`
    await curfew.client.putRelyingParty(ISSUER, 'self', {
      backchannel_logout_uri: 'http://127.0.0.1:1/',
    })
    await curfew.db.query('update bindings set uri = $1', [uri])
    await curfew.db.query('update registry_revision set revision = revision + 1')
    await eventually(async () => {
      await curfew.client.postLogoutEvent({ iss: ISS, sub: 'alice' })
      const [dead] = await deadLetters(curfew)
      const text = JSON.stringify(await (await curfew.call('GET', dead?.links.self ?? '/')).json())
      expect(text).toContain("an address of Curfew's own")
    })
  })

  test('shows the error text of a relying party only if it lies in a network of the deployment', async () => {
    const secret = createServer((request, response) => {
      request.resume().on('end', () => {
        response.writeHead(302, { location: '/porpoise' })
        response.end('{"error":"top","error_description":"swordfish"}')
      })
    })
    const { promise, resolve } = Promise.withResolvers<number>()
    secret.listen(0, '127.0.0.1', () => {
      const address = secret.address()
      resolve(typeof address === 'object' ? (address?.port ?? 0) : 0)
    })
    const port = await promise
    onTestFinished(() => secret.closeAllConnections())
    onTestFinished(() => void secret.close())
    const shownBy = async (allowedNetworks: readonly string[]) => {
      await using curfew = await openCurfew({ allowedNetworks })
      const key = curfew.keyBoundTo(ofClients('inner'), 'admin')
      await curfew.client.putRelyingParty(ISSUER, 'inner', {
        backchannel_logout_uri: `http://127.0.0.1:${port}/`,
        curfew: { allowed_networks: LOOPBACK, retry_schedule_ms: [] },
      })
      const probed = await curfew.call(
        'POST',
        `${pathOf('inner')}/probe`,
        {},
        { authorization: `Bearer ${key}` },
      )
      const report = await probed.text()
      await curfew.client.postLogoutEvent({ iss: ISS, sub: 'alice' })
      const shown = await eventually(async () => {
        const listed = await curfew.call('GET', '/v1/deliveries', undefined, {
          authorization: `Bearer ${key}`,
        })
        const [delivery] = (
          (await listed.json()) as { items: { attempt_count: number; links: { self: string } }[] }
        ).items
        expect(delivery?.attempt_count).toBeGreaterThan(0)
        const one = await curfew.call('GET', delivery?.links.self ?? '/', undefined, {
          authorization: `Bearer ${key}`,
        })
        return one.text()
      })
      expect(shown).toContain('302')
      return report + shown
    }
    expect(await shownBy(LOOPBACK)).toMatch(/swordfish.*porpoise/s)
    const withheld = await shownBy([])
    expect(withheld).not.toMatch(/swordfish|porpoise/)
    expect(withheld).toContain('withheld')
  })
})
