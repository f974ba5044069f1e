import { randomUUID } from 'node:crypto'
import type { LogoutEventStatus, RelyingPartySettings } from '@curfew/contract'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { type Curfew, eventually, ISS, ISSUER, openCurfew } from '../support/curfew.ts'
import { openRelyingParty, type RelyingParty } from '../support/relying-party.ts'

// Goal: every endpoint of a relying party is notified, retried, given up on and disabled independently, and a change of the
// registration has a defined effect on pending deliveries. Method: the whole pipeline, with one client in two regions.

let curfew: Curfew
let eu: RelyingParty
let us: RelyingParty
beforeAll(async () => {
  curfew = await openCurfew({ bookkeepers: 1 })
  eu = await openRelyingParty(curfew, { clientId: 'shop' })
  us = await openRelyingParty(curfew, { clientId: 'shop' })
})
afterAll(async () => {
  await curfew.stop()
  await eu.close()
  await us.close()
})

const PATH = `/v1/issuers/${ISSUER}/relying-parties/shop`
const register = (settings: RelyingPartySettings = {}, usEnabled = true) =>
  curfew.client.putRelyingParty(ISSUER, 'shop', {
    id_token_signed_response_alg: 'ES256',
    curfew: {
      retry_schedule_ms: [],
      endpoints: [
        { name: 'eu', uri: eu.uri },
        { name: 'us', uri: us.uri, enabled: usEnabled },
      ],
      ...settings,
    },
  })
beforeEach(async () => {
  for (const region of [eu, us]) region.behave(null)
  await register()
})

async function call(method: string, body?: unknown) {
  const response = await curfew.call(method, PATH, body)
  expect(response.status).toBe(200)
  return (await response.json()) as { status: { waiting: number; endpoints: unknown[] }; waiting: number }
}

const post = () => curfew.client.postLogoutEvent({ iss: ISS, sub: randomUUID() })
const settled = (id: string) => curfew.client.getLogoutEvent(id, { wait: 20 })
/** The state or dead letter reason of an event's deliveries, by endpoint. */
const byEndpoint = ({ deliveries }: LogoutEventStatus) =>
  deliveries.map(({ endpoint, state, dead_letter_reason }) => [endpoint, dead_letter_reason ?? state])

/** Posts a logout that `region` fails, so that its delivery there is pending. @returns the id of the event. */
async function waitingAt(region: RelyingParty): Promise<string> {
  region.behave({ status: 503, headers: { 'retry-after': '1' } })
  const { id } = await post()
  await eventually(async () => {
    const found = (await curfew.client.getLogoutEvent(id)).deliveries.find(
      ({ attempt_count }) => attempt_count > 0,
    )
    const { items } = await curfew.client.listDeliveries({ event_id: id, state: 'pending' })
    expect([found === undefined, items.map(({ attempt_count }) => attempt_count > 0)]).toEqual([
      false,
      [true],
    ])
  })
  return id
}

describe('an endpoint of several clients', () => {
  const CLIENTS = ['web', 'mobile']
  afterEach(async () => {
    for (const clientId of CLIENTS)
      await curfew.call('DELETE', `/v1/issuers/${ISSUER}/relying-parties/${clientId}`)
  })

  test('gets one token for each client, which names it', async () => {
    for (const clientId of CLIENTS)
      await curfew.client.putRelyingParty(ISSUER, clientId, { backchannel_logout_uri: eu.uri })
    // It is the client shop by itself, and would refuse the tokens of others.
    eu.behave({ status: 200 })
    const before = eu.received.length
    const { id } = await curfew.client.postLogoutEvent({ iss: ISS, sub: randomUUID(), clients: CLIENTS })
    expect(await settled(id)).toMatchObject({ status: 'settled', total: 2 })
    const audiences = eu.received.slice(before).map(({ claims }) => claims.aud)
    expect(new Set(audiences)).toEqual(new Set(CLIENTS))
  })
})

describe('an endpoint', () => {
  test('is notified, and the event is settled when all endpoints are', async () => {
    const before = [eu.received.length, us.received.length]
    const status = await settled((await post()).id)
    expect(status).toMatchObject({ status: 'settled', acknowledged: 2, total: 2 })
    expect(byEndpoint(status)).toEqual([
      ['eu', 'acknowledged'],
      ['us', 'acknowledged'],
    ])
    expect([eu.received.length, us.received.length]).toEqual(before.map((count) => count + 1))
    expect(us.received.at(-1)?.verification.ok).toBe(true)
  })

  test('has its own dead letter, which names the endpoint', async () => {
    us.behave({ status: 503 })
    const { id } = await post()
    expect(byEndpoint(await settled(id))).toEqual([
      ['eu', 'acknowledged'],
      ['us', 'attempts_exhausted'],
    ])
    const { items } = await curfew.client.listDeadLetters({ client_id: 'shop' })
    expect(items.find(({ event_id }) => event_id === id)?.endpoint).toBe('us')
  })

  test('can be disabled without the other endpoints', async () => {
    const { status } = await register({}, false)
    expect(status).toMatchObject({
      enabled: true,
      endpoints: [{ name: 'eu', enabled: true }, { enabled: false }],
    })
    const before = us.received.length
    expect(byEndpoint(await settled((await post()).id))).toEqual([
      ['eu', 'acknowledged'],
      ['us', 'binding_disabled'],
    ])
    expect(us.received.length).toBe(before)
  })

  test('that received nothing has an attempt count of zero, however often its delivery is replayed', async () => {
    const before = us.received.length
    await register({}, false)
    const { id } = await post()
    const [letter] = (await settled(id)).deliveries.filter(({ endpoint }) => endpoint === 'us')
    const { id: replay } = await curfew.client.startReplay({ filter: { ids: [letter?.id ?? ''] } })
    await eventually(async () => expect((await curfew.client.getReplay(replay)).state).toBe('done'))
    const dead = async () => curfew.client.getDelivery(letter?.id ?? '')
    await eventually(async () =>
      expect(await dead()).toMatchObject({ generation: 1, state: 'dead_lettered' }),
    )
    expect(await dead()).toMatchObject({
      attempt_count: 0,
      attempts: [
        { number: 1, outcome: 'undeliverable' },
        { number: 2, outcome: 'undeliverable' },
      ],
    })
    expect(await curfew.client.getDeadLetter(letter?.id ?? '')).toMatchObject({ attempt_count: 0 })
    await register({})
    await curfew.client.startReplay({ filter: { ids: [letter?.id ?? ''] } })
    await eventually(async () =>
      expect(await dead()).toMatchObject({ state: 'acknowledged', attempt_count: 1 }),
    )
    expect(us.received.length).toBe(before + 1)
  })

  test('that answered 410 stays disabled until an operator enables it, whatever else changes', async () => {
    us.behave({ status: 410 })
    expect(byEndpoint(await settled((await post()).id))).toContainEqual(['us', 'endpoint_gone'])
    us.behave(null)
    const disabled = [{ enabled: true }, { enabled: false, disabled_reason: expect.stringMatching(/410/) }]
    await eventually(async () => expect((await call('GET')).status.endpoints).toMatchObject(disabled))
    expect((await call('PATCH', { client_name: 'Shop' })).status.endpoints).toMatchObject(disabled)
    const again = await call('PATCH', { curfew: { enabled: true } })
    expect(again.status.endpoints).toMatchObject([{ enabled: true }, { enabled: true }])
    expect(await settled((await post()).id)).toMatchObject({ acknowledged: 2 })
  })
})

describe('a pending delivery', () => {
  test('becomes a dead letter if it is due while its relying party is disabled, and a replay delivers it', async () => {
    await register({ retry_schedule_ms: [1_000, 60_000] })
    const id = await waitingAt(us)
    expect((await call('PATCH', { curfew: { enabled: false } })).status.waiting).toBe(1)
    us.behave(null)
    expect(byEndpoint(await settled(id))).toEqual([
      ['eu', 'acknowledged'],
      ['us', 'binding_disabled'],
    ])
    await call('PATCH', { curfew: { enabled: true } })
    const { items } = await curfew.client.listDeadLetters({ client_id: 'shop' })
    const ids = items.filter(({ event_id }) => event_id === id).map((letter) => letter.id)
    await curfew.client.startReplay({ filter: { ids } })
    await eventually(async () => expect((await settled(id)).acknowledged).toBe(2))
  })

  test('goes to the new URI of its endpoint', async () => {
    await register({ retry_schedule_ms: [1_000, 60_000] })
    const id = await waitingAt(us)
    const moved = `${eu.uri}?from=us`
    await call('PATCH', {
      curfew: {
        endpoints: [
          { name: 'eu', uri: eu.uri },
          { name: 'us', uri: moved },
        ],
      },
    })
    expect(await settled(id)).toMatchObject({ acknowledged: 2 })
    expect(eu.received.at(-1)?.target).toMatch(/\?from=us$/)
  })

  test('becomes the dead letter client_removed if the client is removed, and history keeps the name', async () => {
    await register({ retry_schedule_ms: [1_000, 60_000] })
    await call('PATCH', { client_name: 'The shop' })
    const id = await waitingAt(us)
    expect((await call('DELETE')).waiting).toBe(1)
    const status = await settled(id)
    expect(byEndpoint(status)).toContainEqual(['us', 'client_removed'])
    expect(status.deliveries[0]?.client_name).toBe('The shop')
    expect(await settled((await post()).id)).toMatchObject({ total: 0, plan_basis: 'registered' })
  })
})
