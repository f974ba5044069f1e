import { createHash, randomUUID } from 'node:crypto'
import { createRemoteJWKSet, type JWTPayload, jwtVerify } from 'jose'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Curfew, eventually, ISS, ISSUER, openCurfew } from '../support/curfew.ts'

// Goal: a resource server that reads the cutoff feed knows of every logout, and its reading acknowledges them.
// Method: the real services over HTTP and a real database; the feed is read and verified as a resource server does it.

interface Feed extends JWTPayload {
  readonly after: number | null
  readonly seq: number
  readonly max_token_ttl: number
  readonly as_of: number
  readonly max_staleness: number
  readonly issuer_before: number | null
  readonly entries: readonly (readonly [string, number])[]
}

const API = 'orders-api'
let curfew: Curfew
beforeAll(async () => {
  curfew = await openCurfew({ bookkeepers: 1 })
  await curfew.client.putIssuer(ISSUER, { iss: ISS, session_index: 'partial' })
  await curfew.client.putRelyingParty(ISSUER, API, {
    client_name: 'Orders',
    curfew: { channels: { cutoff: {} } },
  })
})
afterAll(() => curfew.stop())

const keyOf = (kind: 'sid' | 'sub', value: string, iss = ISS) =>
  createHash('sha256').update(`${iss}\0${kind}\0${value}\0`).digest().subarray(0, 16).toString('base64url')
const seconds = (time: Date) => Math.floor(time.getTime() / 1_000)

function keyFor(client: string): string {
  const access = { kind: 'clients', issuer: ISSUER, iss: ISS, clients: new Set([client]) } as never
  return curfew.keyBoundTo(access, 'revocations:read')
}
async function ask(query = '', key = keyFor(API)): Promise<Response> {
  return curfew.call('GET', `/v1/issuers/${ISSUER}/revocations${query}`, undefined, {
    authorization: `Bearer ${key}`,
  })
}
async function read(query = '', key = keyFor(API)): Promise<Feed> {
  const response = await ask(query, key)
  if (response.status !== 200) throw new Error(`${response.status} ${await response.text()}`)
  const jwks = createRemoteJWKSet(new URL(`${curfew.url}/issuers/${ISSUER}/jwks.json`))
  const verified = await jwtVerify<Feed>(await response.text(), jwks, { issuer: ISS, typ: 'revocations+jwt' })
  return verified.payload
}
/** Posts a logout. @returns when the feed has it: what came after `after`. */
async function loggedOut(event: object, after: number): Promise<{ id: string; feed: Feed }> {
  const answer = await curfew.client.postLogoutEvent({ iss: ISS, ...event } as never)
  const id = (answer as { id: string }).id
  const feed = await eventually(async () => {
    const found = await read(`?after=${after}&wait=5`)
    if (found.seq === after) throw new Error('nothing new')
    return found
  })
  return { id, feed }
}
/** The last number of the feed. An answer may be one from half a second ago, so the database is asked. */
async function seqNow(): Promise<number> {
  const { rows } = await curfew.db.query<{ seq: number }>('select seq from cutoff_feeds where iss = $1', [
    ISS,
  ])
  return rows[0]?.seq ?? 0
}
const deliveryOf = async (id: string) => {
  const { deliveries } = await curfew.client.getLogoutEvent(id)
  return deliveries.find(({ client_id }) => client_id === API)
}

describe('the feed has', () => {
  test('the session of a session logout, and not its subject', async () => {
    const [sid, sub] = [randomUUID(), randomUUID()]
    const before = seconds(new Date())
    const { feed } = await loggedOut({ sid, sub }, await seqNow())
    expect(feed.entries).toEqual([[keyOf('sid', sid), expect.any(Number)]])
    expect(feed.entries[0]?.[1]).toBeGreaterThanOrEqual(before)
  })

  test('the subject of a subject logout, with the time at which it occurred', async () => {
    const sub = randomUUID()
    const occurred = new Date(Date.now() - 60_000)
    const event = { sub, scope: 'subject', occurred_at: occurred.toISOString() }
    const { feed } = await loggedOut(event, await seqNow())
    expect(feed.entries).toEqual([[keyOf('sub', sub), seconds(occurred)]])
  })

  test('no name of a subject or session (CUT-05), and all live entries in a snapshot (CUT-03)', async () => {
    const [sid, sub] = [`sid-${randomUUID()}`, `sub-${randomUUID()}`]
    const from = await seqNow()
    const { feed: first } = await loggedOut({ sid, sub }, from)
    const { feed: second } = await loggedOut({ sub, scope: 'subject' }, first.seq)
    const raw = await (await ask()).text()
    const text = Buffer.from(raw.split('.')[1] ?? '', 'base64url').toString()
    expect(text).not.toContain(sid)
    expect(text).not.toContain(sub)
    await eventually(async () => {
      const snapshot = await read()
      for (const entry of [...first.entries, ...second.entries])
        expect(snapshot.entries).toContainEqual(entry)
    })
  })

  test('one number for a logout of everybody', async () => {
    const occurred = new Date(Date.now() - 5_000)
    const { feed } = await loggedOut({ scope: 'issuer', occurred_at: occurred.toISOString() }, await seqNow())
    expect(feed).toMatchObject({ entries: [], issuer_before: seconds(occurred) })
    await eventually(async () => expect(await read()).toMatchObject({ issuer_before: seconds(occurred) }))
  })

  test('no entry of a logout for other clients', async () => {
    const after = await seqNow()
    await curfew.client.postLogoutEvent({ iss: ISS, sub: randomUUID(), clients: ['mail'] } as never)
    const { feed } = await loggedOut({ sub: 'marker', scope: 'subject' }, after)
    expect(feed.entries).toEqual([[keyOf('sub', 'marker'), expect.any(Number)]])
  })

  test('an answer with as_of also when nothing is new', async () => {
    const after = await seqNow()
    const feed = await read(`?after=${after}`)
    expect(feed).toMatchObject({ after, seq: after, entries: [], max_staleness: 30, max_token_ttl: 3_600 })
    expect(await read()).toMatchObject({ after: null })
    expect(Math.abs(feed.as_of * 1_000 - Date.now())).toBeLessThan(10_000)
  })
})

describe('reading on', () => {
  test('acknowledges the logout as received, with the number that was applied', async () => {
    const { id, feed } = await loggedOut({ sub: randomUUID(), scope: 'subject' }, await seqNow())
    expect(await deliveryOf(id)).toMatchObject({ state: 'offered', channel: 'cutoff' })
    await read(`?after=${feed.seq}`)
    await eventually(async () =>
      expect(await deliveryOf(id)).toMatchObject({ state: 'acknowledged', level: 'received' }),
    )
  })

  test('with several readers acknowledges what all have applied', async () => {
    const from = await seqNow()
    for (const reader of ['a', 'b']) await read(`?after=${from}&reader=${reader}`)
    const { id, feed } = await loggedOut({ sub: randomUUID(), scope: 'subject' }, from)
    await read(`?after=${feed.seq}&reader=a`)
    await read(`?after=${feed.seq}`)
    expect(await deliveryOf(id)).toMatchObject({ state: 'offered' })
    await read(`?after=${feed.seq}&reader=b`)
    await eventually(async () => expect(await deliveryOf(id)).toMatchObject({ state: 'acknowledged' }))
  })

  test('with a key that is bound to no resource server acknowledges nothing', async () => {
    const { id, feed } = await loggedOut({ sub: randomUUID(), scope: 'subject' }, await seqNow())
    await read(`?after=${feed.seq}`, curfew.keyFor('revocations:read'))
    expect(await deliveryOf(id)).toMatchObject({ state: 'offered' })
  })

  test('from a number that is not of this feed is a 410, and acknowledges nothing', async () => {
    const { id, feed } = await loggedOut({ sub: randomUUID(), scope: 'subject' }, await seqNow())
    expect((await ask(`?after=${feed.seq + 1_000_000}`)).status).toBe(410)
    expect(await deliveryOf(id)).toMatchObject({ state: 'offered' })
  })
})

describe('access', () => {
  test('needs the scope, and the issuer of the key', async () => {
    expect((await ask('', curfew.keyFor('ledger:read'))).status).toBe(403)
    const other = { kind: 'issuer', issuer: 'other', iss: 'https://other.example' } as never
    expect((await ask('', curfew.keyBoundTo(other, 'revocations:read'))).status).toBe(404)
    expect((await curfew.call('GET', '/v1/issuers/none/revocations')).status).toBe(404)
  })
})
