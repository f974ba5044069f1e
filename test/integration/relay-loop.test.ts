import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Curfew, eventually, ISS, ISSUER, openCurfew } from '../support/curfew.ts'
import {
  type IdentityProvider,
  openIdentityProvider,
  type ProviderKey,
  postToRelay,
} from '../support/identity-provider.ts'

// Goal: a registration whose endpoint leads back to the relay makes no second event, and its owner learns why nothing arrives.
// Method: a proxy, which Curfew cannot know as its own, passes each delivery on to the relay. The identity provider publishes
// Curfew's key, so that a minted token verifies.

const CLIENT = 'shop'
let curfew: Curfew
let idp: IdentityProvider
let proxy: ReturnType<typeof createServer>

beforeAll(async () => {
  curfew = await openCurfew()
  idp = await openIdentityProvider({ iss: ISS })
  proxy = createServer(async (request, response) => {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    const answer = await fetch(`${curfew.url}/relay/${ISSUER}/${CLIENT}`, {
      method: 'POST',
      headers: {
        'content-type': request.headers['content-type'] ?? '',
        'user-agent': request.headers['user-agent'] ?? '',
      },
      body: Buffer.concat(chunks),
    })
    response.writeHead(answer.status, { 'content-type': 'application/json' }).end(await answer.text())
  })
  proxy.listen(0, '127.0.0.1')
  await once(proxy, 'listening')
  await curfew.client.putIssuer(ISSUER, { iss: ISS, jwks_uri: idp.jwksUri })
  await curfew.client.putRelyingParty(ISSUER, CLIENT, {
    backchannel_logout_uri: `http://127.0.0.1:${(proxy.address() as AddressInfo).port}/`,
  })
  const { keys } = await curfew.client.getJwks(ISSUER)
  const curfewKeys = keys.map((jwk) => ({ jwk }) as unknown as ProviderKey)
  idp.keys = [...idp.keys, ...curfewKeys]
})
afterAll(async () => {
  await curfew.stop()
  proxy.closeAllConnections()
  proxy.close()
  await idp[Symbol.asyncDispose]()
})

/**
 * Waits until the only delivery of the only event of a subject is dead, and makes its next attempts due at once.
 *
 * @returns the description of each answer.
 */
async function answersTo(sub: string): Promise<readonly string[]> {
  return eventually(async () => {
    await curfew.db.query("update deliveries set due_at = now() where state = 'pending'")
    const { rows } = await curfew.db.query<{ state: string; answers: string[] }>(
      `select d.state, array(select a.error_description from attempts a where a.delivery_id = d.id order by a.number) as answers
         from events e left join deliveries d on d.event_id = e.id where e.sub = $1`,
      [sub],
    )
    expect(rows).toMatchObject([{ state: 'dead_lettered' }])
    return rows[0]?.answers ?? []
  })
}

/** The refusals of the first attempt and of the three that follow a refusal. */
const REFUSED = Array.from({ length: 4 }, () => expect.stringContaining('leads back to the relay'))

test.each<[string, string, Readonly<Record<string, unknown>>]>([
  ['of a session', 'ann', {}],
  ['of a session, with a txn of the identity provider,', 'ben', { txn: 'logout 7' }],
  ['of a subject', 'cid', { sid: undefined }],
  ['of a subject, with a txn of the identity provider,', 'dan', { sid: undefined, txn: 'logout 8' }],
])(
  'a relayed token %s that comes back is refused with words, and so are the tokens minted after it',
  async (_, sub, changes) => {
    const token = await idp.token(CLIENT, { sub, sid: `of ${sub}`, ...changes })
    expect((await postToRelay(curfew.url, { issuer: ISSUER, clientId: CLIENT, token })).status).toBe(200)
    expect(await answersTo(sub)).toEqual(REFUSED)
  },
)

test('the tokens of a posted event that come back are refused with words', async () => {
  await curfew.client.postLogoutEvent({ iss: ISS, sub: 'eve', sid: 'of eve' })
  expect(await answersTo('eve')).toEqual(REFUSED)
})

test('a minted token that names other claims than the token of the identity provider is refused by its jti', async () => {
  const only = (subject_claims: 'sub' | 'both') =>
    curfew.client.changeRelyingParty(ISSUER, CLIENT, () => ({ curfew: { subject_claims } }))
  await only('sub')
  const token = await idp.token(CLIENT, { sub: 'fay', sid: 'of fay', txn: 'logout 9' })
  expect((await postToRelay(curfew.url, { issuer: ISSUER, clientId: CLIENT, token })).status).toBe(200)
  expect(await answersTo('fay')).toEqual(REFUSED)
  await only('both')
})
