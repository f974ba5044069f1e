import { randomUUID } from 'node:crypto'
import { createRevocations, type Revocations } from '@curfew/rs'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Curfew, eventually, ISS, ISSUER, openCurfew } from '../support/curfew.ts'

// Goal: a resource server with the SDK refuses the tokens that a logout ended, within a second, and no others.
// Method: the real services over HTTP and a real database, and the SDK as an application uses it.

const API = 'orders-api'
let curfew: Curfew
let revocations: Revocations
beforeAll(async () => {
  curfew = await openCurfew({ bookkeepers: 1 })
  await curfew.client.putIssuer(ISSUER, { iss: ISS, session_index: 'partial' })
  await curfew.client.putRelyingParty(ISSUER, API, {
    client_name: 'Orders',
    curfew: { channels: { cutoff: {} } },
  })
  revocations = createRevocations(options())
  revocations.start()
  await revocations.ready(AbortSignal.timeout(20_000))
})
afterAll(async () => {
  await revocations?.stop()
  await curfew?.stop()
})

function options() {
  const access = { kind: 'clients', issuer: ISSUER, iss: ISS, clients: new Set([API]) } as never
  return {
    feed: `${curfew.url}/v1/issuers/${ISSUER}/revocations`,
    issuer: ISS,
    key: curfew.keyBoundTo(access, 'revocations:read'),
  }
}
const nowS = () => Math.floor(Date.now() / 1_000)
const postLogout = async (event: object) =>
  (await curfew.client.postLogoutEvent({ iss: ISS, ...event } as never)) as { id: string }

describe('after a logout', () => {
  test('the tokens of its session are refused within a second, and the logout is acknowledged', async () => {
    const [sid, sub] = [randomUUID(), randomUUID()]
    const token = { iss: ISS, sub, sid, iat: nowS() }
    expect(revocations.decide(token, 'deny')).toBe('live')
    const { id } = await postLogout({ sid, sub })
    await eventually(() => expect(revocations.isRevoked(token)).toBe(true))
    expect(revocations.isRevoked({ ...token, sid: randomUUID() })).toBe(false)
    await eventually(async () => {
      const { deliveries } = await curfew.client.getLogoutEvent(id)
      expect(deliveries.find(({ client_id }) => client_id === API)).toMatchObject({
        state: 'acknowledged',
        level: 'received',
      })
    })
  })
})
