import { decodeJwt } from 'jose'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { type Curfew, eventually, ISS, ISSUER, openCurfew } from '../support/curfew.ts'
import {
  createProviderKey,
  type IdentityProvider,
  openIdentityProvider,
  postToRelay,
} from '../support/identity-provider.ts'
import { openRelyingParty, type RelyingParty } from '../support/relying-party.ts'
import { insertSessions } from '../support/session-rows.ts'

// Goal: a relayed logout reaches the real endpoint of its client, first with the token of the identity provider.
// Method: a real identity provider, real relying parties and the whole of Curfew over PostgreSQL.

let curfew: Curfew
let idp: IdentityProvider
let shop: RelyingParty
let mail: RelyingParty
let sessions = 0
let sid = ''

beforeAll(async () => {
  curfew = await openCurfew({ bookkeepers: 1 })
  idp = await openIdentityProvider({ iss: ISS })
  shop = await openRelyingParty(curfew, { clientId: 'shop' })
  mail = await openRelyingParty(curfew, { clientId: 'mail' })
})
afterAll(async () => {
  await curfew.stop()
  await Promise.all([shop.close(), mail.close()])
  await idp[Symbol.asyncDispose]()
})
beforeEach(async () => {
  sessions += 1
  sid = `session ${sessions}`
  shop.behave({ status: 200 })
  mail.behave({ status: 200 })
  idp.manner = 'proper'
  await widen(false)
})

const widen = (on: boolean) =>
  curfew.client.putIssuer(ISSUER, { iss: ISS, jwks_uri: idp.jwksUri, ...(on && { widen: true }) })
const tokenFor = (clientId: string, changes = {}) => idp.token(clientId, { sid, ...changes })
async function relay(clientId: string, token: string): Promise<void> {
  const response = await postToRelay(curfew.url, { issuer: ISSUER, clientId, token })
  expect(response.status, await response.text()).toBe(200)
}
/** The tokens for the session of this test that an endpoint has received. */
const tokensAt = ({ received }: RelyingParty) =>
  received
    .map(({ body }) => new URLSearchParams(body).get('logout_token') ?? '')
    .filter((token) => decodeJwt(token).sid === sid)
/** The deliveries for the session of this test. */
async function deliveries() {
  const { rows } = await curfew.db.query<{
    clientId: string
    state: string
    message: string | null
    jtis: string[]
  }>(
    `select p.client_id as "clientId", d.state, d.first_message as message,
            array(select jti from attempts a where a.delivery_id = d.id order by number) as jtis
       from deliveries d join bindings b on b.id = d.binding_id join relying_parties p on p.id = b.relying_party_id
      where d.sid = $1 order by d.planned_at, p.client_id`,
    [sid],
  )
  return rows
}
const settled = () =>
  eventually(async () => {
    const found = await deliveries()
    expect(found.length).toBeGreaterThan(0)
    expect(found.filter(({ state }) => state === 'pending' || state === 'in_flight')).toEqual([])
    return found
  })

describe('the token of the identity provider', () => {
  test('ING-03: is forwarded byte for byte, and erased once it is delivered', async () => {
    const token = await tokenFor('shop')
    await relay('shop', token)
    expect(await settled()).toMatchObject([{ clientId: 'shop', state: 'acknowledged', message: null }])
    const [delivery] = (await curfew.client.listDeliveries({ client_id: 'shop', limit: 1 })).items
    expect(await curfew.client.getLogoutEvent(delivery?.event_id ?? '')).toMatchObject({
      sid,
      relayed_for: 'shop',
    })
    expect(tokensAt(shop)).toEqual([token])
    expect(tokensAt(mail)).toEqual([])
  })

  test('is stored sealed until the first attempt ends', async () => {
    const slow = await openRelyingParty(curfew, { clientId: 'slow', curfew: { timeout_ms: 1_000 } })
    slow.behave((number) => (number === 1 ? 'hang' : { status: 200 }))
    const token = await tokenFor('slow')
    await relay('slow', token)
    const message = await eventually(async () => {
      const [found] = await deliveries()
      expect(found?.message).toEqual(expect.any(String))
      return found?.message ?? ''
    })
    expect(message.split('.')).toHaveLength(5)
    for (const part of token.split('.')) expect(message).not.toContain(part)
    expect(await settled()).toMatchObject([{ state: 'acknowledged', message: null }])
    await curfew.client.deleteRelyingParty(ISSUER, 'slow')
    await slow.close()
  })

  test('ING-02, ING-03: is followed by a new token with another jti and the same txn if it got no answer', async () => {
    shop.behave((number) => (tokensAt(shop).length === 1 && number > 0 ? 'reset' : { status: 200 }))
    const token = await tokenFor('shop', { txn: 'logout 7' })
    await relay('shop', token)
    await settled()
    const [first, second] = tokensAt(shop)
    expect(first).toBe(token)
    const { jti, txn, iss, aud } = decodeJwt(second ?? '')
    expect({ txn, iss, aud }).toEqual({ txn: 'logout 7', iss: ISS, aud: 'shop' })
    expect(jti).not.toBe(decodeJwt(token).jti)
    expect((await deliveries())[0]?.jtis).toEqual([decodeJwt(token).jti, jti])
  })
})

test('the token of each client of one session is forwarded to its client once', async () => {
  const tokens = { shop: await tokenFor('shop'), mail: await tokenFor('mail') }
  await Promise.all([relay('shop', tokens.shop), relay('mail', tokens.mail)])
  await eventually(async () => expect(await settled()).toHaveLength(2))
  expect([tokensAt(shop), tokensAt(mail)]).toEqual([[tokens.shop], [tokens.mail]])
})

describe('an issuer that widens', () => {
  test('has the other relying parties notified as well', async () => {
    await widen(true)
    await relay('shop', await tokenFor('shop'))
    const found = await settled()
    expect(found.map(({ clientId, state }) => [clientId, state]).toSorted()).toEqual([
      ['mail', 'acknowledged'],
      ['shop', 'acknowledged'],
    ])
    const [toMail] = tokensAt(mail)
    expect(decodeJwt(toMail ?? '')).toMatchObject({ aud: 'mail', sid })
  })

  test('has each relying party notified once if it sends a token for each', async () => {
    await widen(true)
    const tokens = { shop: await tokenFor('shop'), mail: await tokenFor('mail') }
    await relay('shop', tokens.shop)
    await relay('mail', tokens.mail)
    await eventually(async () => expect(await settled()).toHaveLength(4))
    expect([tokensAt(shop), tokensAt(mail)]).toEqual([[tokens.shop], [tokens.mail]])
  })
})

describe('a token that names only the subject, with a complete session index', () => {
  /** Relays a token of a minute ago for a subject with these sessions. @returns its deliveries. */
  async function logoutOf(sub: string, sessions: readonly { sid: string; agoS: number }[]) {
    const at = (agoS: number) => new Date(Date.now() - agoS * 1_000)
    const wishes = sessions.map(({ agoS, ...one }) => ({
      ...one,
      sub,
      clientId: 'shop',
      startedAt: at(agoS),
    }))
    await insertSessions(curfew.db, ISS, wishes)
    await curfew.client.putIssuer(ISSUER, { iss: ISS, jwks_uri: idp.jwksUri, session_index: 'complete' })
    const iat = Math.floor(at(60).getTime() / 1_000)
    const token = await idp.token('shop', { sub, sid: undefined, iat })
    await relay('shop', token)
    const deliveries = await eventually(async () => {
      const { rows } = await curfew.db.query<{ sid: string | null; state: string }>(
        `select d.sid, d.state from deliveries d join events e on e.id = d.event_id where e.sub = $1 order by d.sid`,
        [sub],
      )
      expect(rows.length).toBeGreaterThan(0)
      expect(rows.filter(({ state }) => state !== 'acknowledged')).toEqual([])
      return rows
    })
    const received = shop.received.map(({ body }) => new URLSearchParams(body).get('logout_token'))
    return {
      sids: deliveries.map((one) => one.sid),
      forwarded: received.filter((one) => one === token).length,
    }
  }

  test('is forwarded once, however many sessions the client has', async () => {
    const sessions = [
      { sid: 'bob 1', agoS: 600 },
      { sid: 'bob 2', agoS: 600 },
    ]
    expect(await logoutOf('bob', sessions)).toEqual({ sids: [null], forwarded: 1 })
  })

  test('is not forwarded if it would end a session that began later', async () => {
    const sessions = [
      { sid: 'eve 1', agoS: 600 },
      { sid: 'eve 2', agoS: 0 },
    ]
    expect(await logoutOf('eve', sessions)).toEqual({ sids: ['eve 1'], forwarded: 0 })
  })
})

test('a logout that is also posted as an event is delivered once', async () => {
  const token = await tokenFor('shop')
  await relay('shop', token)
  await settled()
  await curfew.client.postLogoutEvent({ iss: ISS, sub: 'alice', sid, clients: ['shop'] })
  await eventually(async () => expect(await deliveries()).toHaveLength(2))
  expect((await settled()).map(({ state }) => state)).toEqual(['acknowledged', 'superseded'])
  expect(tokensAt(shop)).toEqual([token])
})

describe('a token that could not be verified', () => {
  test('is delivered once the keys of the issuer are available', async () => {
    const other = await openIdentityProvider({ iss: ISS })
    other.manner = 'fail'
    other.keys = [await createProviderKey('other')]
    await curfew.client.putIssuer(ISSUER, { iss: ISS, jwks_uri: other.jwksUri })
    const token = await other.token('shop', { sid })
    // Ingest may still have the keys of the old jwks_uri, and refuses the token then.
    await eventually(() => relay('shop', token))
    const record = await eventually(async () => {
      const { items } = await curfew.client.listQuarantined({ kind: 'unverified', state: 'waiting' })
      expect(items).toHaveLength(1)
      return items[0]
    })
    expect(record?.reason).toContain('keys')
    expect(tokensAt(shop)).toEqual([])
    other.manner = 'proper'
    await eventually(async () => expect(tokensAt(shop)).toHaveLength(1))
    await other[Symbol.asyncDispose]()
  })
})
