import type { ClientId, Issuer, IssuerName } from '@curfew/domain'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Curfew, eventually, ISS, ISSUER, openCurfew } from '../support/curfew.ts'
import { openRelyingParty, type RelyingParty } from '../support/relying-party.ts'

// Goal: the event, the list of deliveries and the health of a relying party say why a delivery fails, without a look at each
// attempt.
// Method: the real API and relying parties that refuse, answer, or do both.

let curfew: Curfew
const rps: RelyingParty[] = []
let id: string
const FAULT = {
  status: 400,
  error_class: 'http_400',
  error: 'invalid_request',
  error_description: 'the key is unknown',
}

beforeAll(async () => {
  curfew = await openCurfew()
  for (const clientId of ['crm', 'mail', 'wiki']) rps.push(await openRelyingParty(curfew, { clientId }))
  const [crm, mail] = rps
  const { status, error, error_description } = FAULT
  crm?.behave({ status, body: JSON.stringify({ error, error_description }) })
  // The quick retry after the first failure is answered.
  mail?.behave((number) => (number === 1 ? { status: 503 } : null))
  id = (await curfew.client.postLogoutEvent({ iss: ISS, sub: 'alice' })).id
  await eventually(async () => {
    const { deliveries } = await curfew.client.getLogoutEvent(id)
    expect(deliveries.map(({ state }) => state)).toEqual(['pending', 'acknowledged', 'acknowledged'])
  })
})
afterAll(async () => {
  await curfew.stop()
  await Promise.all(rps.map((rp) => rp.close()))
})

const errorAt = { at: expect.stringMatching(/^\d{4}-/) }

test('an event and a list of deliveries have the error of the last attempt of each delivery', async () => {
  const { deliveries } = await curfew.client.getLogoutEvent(id)
  expect(deliveries.map(({ last_error }) => last_error)).toEqual([{ ...errorAt, ...FAULT }, null, null])
  const { items } = await curfew.client.listDeliveries({ event_id: id })
  expect(items.toSorted((a, b) => (a.client_id < b.client_id ? -1 : 1))).toEqual(deliveries)
  const { attempts, fix, ...delivery } = await curfew.client.getDelivery(deliveries[0]?.id ?? '')
  expect(delivery).toEqual(deliveries[0])
  expect(fix).toMatch(/Curfew repeats the delivery by itself/)
  expect(attempts.at(-1)?.started_at).toBe(delivery.last_error?.at)
})

test('the health of a relying party has its latest error, also after a later acknowledgement', async () => {
  const healthOf = async (clientId: string) =>
    (await curfew.client.getRelyingPartyHealth(ISSUER, clientId)).endpoints.map(
      ({ last_error }) => last_error,
    )
  expect(await healthOf('crm')).toEqual([{ ...errorAt, ...FAULT }])
  expect(await healthOf('mail')).toMatchObject([{ ...errorAt, status: 503 }])
  expect(await healthOf('wiki')).toEqual([null])
})

describe('the words of a relying party', () => {
  const withheld = { ...FAULT, error: null, error_description: null }
  const access = {
    kind: 'clients',
    ...{ issuer: ISSUER as IssuerName, iss: ISS as Issuer },
    clients: new Set(['crm' as ClientId]),
  } as const

  test.each([
    [['events:read', 'clients:read'] as const, withheld],
    [['events:read', 'clients:read', 'ledger:read'] as const, FAULT],
  ])('need the scope ledger:read, as attempts do: %j', async (scopes, shown) => {
    const headers = { authorization: `Bearer ${curfew.keyBoundTo(access, ...scopes)}` }
    const read = async (path: string) => (await curfew.call('GET', path, undefined, headers)).json()
    expect(await read(`/v1/logout-events/${id}`)).toMatchObject({
      deliveries: [{ client_id: 'crm', last_error: shown }],
    })
    expect(await read(`/v1/issuers/${ISSUER}/relying-parties/crm/health`)).toMatchObject({
      endpoints: [{ last_error: shown }],
    })
  })
})
