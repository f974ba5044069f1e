import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { SCOPES } from '@curfew/contract'
import { createGuardedClient, fetchJson } from '@curfew/outbound'
import { createAccessTokenVerifier } from '@curfew/tokens'
import { decodeJwt, exportJWK, generateKeyPair, SignJWT } from 'jose'
import { expect, test } from 'vitest'
import { ISS, openCurfew } from '../support/curfew.ts'

// Goal: an IdP with an authorization server needs no API key of Curfew.
// Method: a real server that publishes keys, and the verifier wired as in the services.

test('an access token is accepted within its access filter, and gets a 503 while its keys are unavailable', async () => {
  const { privateKey, publicKey } = await generateKeyPair('ES256', { extractable: true })
  const jwk = { ...(await exportJWK(publicKey)), kid: 'one', alg: 'ES256' }
  let broken = true
  const server = createServer((_request, response) => {
    response.writeHead(broken ? 500 : 200).end(JSON.stringify({ keys: [jwk] }))
  }).listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  const issuer = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  await using guarded = Object.assign(createGuardedClient({ allowedNetworks: ['127.0.0.0/8'] }), {
    async [Symbol.asyncDispose]() {
      await guarded.close()
      server.close()
    },
  })
  let nowMs = Date.now()
  await using curfew = await openCurfew({
    workers: 0,
    verifyAccessToken: createAccessTokenVerifier({
      servers: [
        {
          issuer,
          audience: 'curfew',
          jwksUri: `${issuer}/jwks`,
          algorithms: ['ES256'],
          clockSkewS: 30,
          anyType: false,
          scopeClaim: 'scope',
          scopeOf: null,
          boundTo: null,
          issuerClaim: 'curfew_issuer',
          clientsClaim: null,
        },
      ],
      fetchJwks: (uri) => fetchJson(guarded, uri),
      scopes: new Set(SCOPES),
      now: () => new Date(nowMs),
    }),
  })
  const token = async (claims: object) =>
    new SignJWT({ iss: issuer, aud: 'curfew', sub: 'idp', scope: 'events:write', ...claims })
      .setProtectedHeader({ alg: 'ES256', kid: 'one', typ: 'at+jwt' })
      .setIssuedAt()
      .setExpirationTime('5 minutes')
      .sign(privateKey)
  const post = async (bearer: string, iss: string) =>
    curfew.call('POST', '/v1/logout-events', { iss, sub: 'alice' }, { authorization: `Bearer ${bearer}` })

  const bound = await token({ curfew_issuer: 'main' })
  const unavailable = await post(bound, ISS)
  expect([unavailable.status, unavailable.headers.get('retry-after')]).toEqual([503, '2'])
  broken = false
  nowMs += 31_000
  expect((await post(bound, ISS)).status).toBe(202)
  expect((await post(bound, 'https://other.example')).status).toBe(403)
  const own = await curfew.call('GET', '/v1/credential', undefined, { authorization: `Bearer ${bound}` })
  expect(await own.json()).toEqual({
    ...{ name: `idp@${issuer}`, scopes: ['events:write'], issuer: 'main', iss: ISS, clients: null },
    expires_at: new Date(Number(decodeJwt(bound).exp) * 1_000).toISOString(),
  })
  expect((await post(await token({}), ISS)).status).toBe(401)
  expect((await post(await token({ curfew_issuer: 'unknown' }), ISS)).status).toBe(401)
  const read = await curfew.call('GET', '/v1/issuers/main', undefined, { authorization: `Bearer ${bound}` })
  expect(read.status).toBe(403)
})
