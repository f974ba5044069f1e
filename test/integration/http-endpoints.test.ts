import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Curfew, ISSUER, openCurfew } from '../support/curfew.ts'

// Goal: registration refuses an endpoint that no delivery could reach. Method: the real console over HTTP.

let curfew: Curfew
beforeAll(async () => {
  curfew = await openCurfew({
    workers: 0,
    allowedNetworks: [],
    allowedPorts: [
      [443, 443],
      [8_000, 8_999],
    ],
  })
})
afterAll(() => curfew.stop())

test.each([
  ['https://rp.example/', 201],
  ['https://rp.example:8443/', 201],
  ['https://rp.example:9443/', 400],
  ['http://10.0.0.1/', 400],
])('registration allows only the ports of the deployment: %s is answered %i', async (uri, status) => {
  const response = await curfew.call('PUT', `/v1/issuers/${ISSUER}/relying-parties/${crypto.randomUUID()}`, {
    backchannel_logout_uri: uri,
    curfew: { allowed_networks: ['10.0.0.0/8'] },
  })
  expect(response.status).toBe(status)
  if (status === 400) {
    expect(await response.json()).toMatchObject({
      errors: [{ pointer: '/backchannel_logout_uri', detail: expect.stringMatching(/port.*443, 8000-8999/) }],
    })
  }
})
