import { createHash, randomUUID } from 'node:crypto'
import type { ResourceServer } from '@curfew/contract'
import { dropExpiredCutoffs } from '@curfew/ledger'
import { createRemoteJWKSet, exportJWK, generateKeyPair, type JWTPayload, jwtVerify } from 'jose'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Curfew, eventually, ISS, ISSUER, openCurfew } from '../support/curfew.ts'

// Goal: a resource server that reads the cutoff feed knows of every logout, and its reading acknowledges them.
// Method: the real services over HTTP and a real database; the feed is read and verified as a resource server does it.

interface Feed extends JWTPayload {
  readonly after: number | null
  readonly max_token_ttl: number
  readonly seq: number
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
  await putServer(API, { resource_name: 'Orders' })
  // The recent logouts are added first.
  await eventually(() => read())
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

const SERVERS = `/v1/issuers/${ISSUER}/resource-servers`
async function putServer(name: string, body: object = {}): Promise<Response> {
  return curfew.call('PUT', `${SERVERS}/${name}`, body)
}
const serverOf = async () => (await (await curfew.call('GET', `${SERVERS}/${API}`)).json()) as ResourceServer

/** Lets every reader of the resource server, except one, apply the feed up to a number. */
async function allReadOn(seq: number, except?: string): Promise<void> {
  for (const { reader } of (await serverOf()).readers)
    if (reader !== except) await read(`?after=${seq}${reader === '' ? '' : `&reader=${reader}`}`)
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

  test('no name of a person or session (CUT-05), and all live entries in a snapshot (CUT-03)', async () => {
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

  test('waits for a reader that has a snapshot and has not read on', async () => {
    const from = await seqNow()
    const { id, feed } = await loggedOut({ sub: randomUUID(), scope: 'subject' }, from)
    await read('?reader=new')
    await allReadOn(feed.seq, 'new')
    expect(await deliveryOf(id)).toMatchObject({ state: 'offered' })
    await read(`?after=${feed.seq}&reader=new`)
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

test('a large answer is compressed for a reader that takes it, and is the same', async () => {
  await curfew.db.query(
    `insert into cutoffs (iss, seq, key, before, event_id, expires_at)
     select iss, n, substr(sha256(n::text::bytea), 1, 16), 1, gen_random_uuid(), now() + interval '1 hour'
       from cutoff_feeds, generate_series(1, 1000) n where iss = $1`,
    [ISS],
  )
  const sizeOf = async (encoding: string) => {
    const headers = { authorization: `Bearer ${keyFor(API)}`, 'accept-encoding': encoding }
    const answer = await curfew.call('GET', `/v1/issuers/${ISSUER}/revocations?after=0`, undefined, headers)
    return [answer.headers.get('content-encoding'), await answer.text()] as const
  }
  await eventually(async () => expect((await sizeOf('identity'))[1].length).toBeGreaterThan(30_000))
  const [[plain, text], [gzip, same]] = await Promise.all([sizeOf('identity'), sizeOf('gzip')])
  expect([plain, gzip]).toEqual([null, 'gzip'])
  expect(same.split('.')[0]).toBe(text.split('.')[0])
  expect((await read('?after=0')).entries.length).toBeGreaterThan(999)
  expect((await sizeOf('gzip;q=0'))[0]).toBeNull()
  await curfew.db.query('delete from cutoffs where before = 1')
})

test('an issuer that has keys of its own signs the feed with one of them', async () => {
  await curfew.client.putIssuer('own-keys', { iss: 'https://own-keys.example', session_index: 'off' })
  const { privateKey } = await generateKeyPair('RS256', { extractable: true })
  const jwk = { ...(await exportJWK(privateKey)), kid: 'theirs', alg: 'RS256', use: 'sig' }
  await curfew.client.addKey('own-keys', { jwk } as never)
  await curfew.call('PUT', '/v1/issuers/own-keys/resource-servers/api', {})
  const text = await eventually(async () => {
    const answer = await curfew.call('GET', '/v1/issuers/own-keys/revocations')
    if (answer.status !== 200) throw new Error(`${answer.status} ${await answer.text()}`)
    return answer.text()
  })
  const jwks = createRemoteJWKSet(new URL(`${curfew.url}/issuers/own-keys/jwks.json`))
  const { protectedHeader } = await jwtVerify(text, jwks, { typ: 'revocations+jwt' })
  expect(protectedHeader).toMatchObject({ alg: 'RS256', kid: 'theirs' })
})

test('a logout that was posted long after it occurred is acknowledged too', async () => {
  const occurred = new Date(Date.now() - 26 * 3_600_000).toISOString()
  const from = await seqNow()
  const answer = await curfew.client.postLogoutEvent({
    iss: ISS,
    sub: 'late',
    occurred_at: occurred,
  } as never)
  const { id } = answer as { id: string }
  await eventually(async () => expect(await seqNow()).toBeGreaterThan(from))
  await dropExpiredCutoffs(curfew.db, { limit: 1_000 })
  await allReadOn(await seqNow())
  await eventually(async () => expect(await deliveryOf(id)).toMatchObject({ state: 'acknowledged' }))
})

describe('access', () => {
  test('needs the scope, and the issuer of the key', async () => {
    expect((await ask('', curfew.keyFor('ledger:read'))).status).toBe(403)
    const other = { kind: 'issuer', issuer: 'other', iss: 'https://other.example' } as never
    expect((await ask('', curfew.keyBoundTo(other, 'revocations:read'))).status).toBe(404)
    expect((await curfew.call('GET', '/v1/issuers/none/revocations')).status).toBe(404)
  })
})

describe('a resource server', () => {
  test('is shown with its readers, and what they have not applied', async () => {
    const from = await seqNow()
    await read(`?after=${from}&reader=pod-1`)
    const { feed } = await loggedOut({ sub: randomUUID(), scope: 'subject' }, from)
    const before = await serverOf()
    expect(before).toMatchObject({
      client_id: API,
      resource_name: 'Orders',
      offered: { count: expect.any(Number) },
    })
    expect(before.readers).toContainEqual({ reader: 'pod-1', applied: from, read_at: expect.any(String) })
    expect(before.offered.count).toBeGreaterThan(0)
    await allReadOn(feed.seq)
    await eventually(async () => expect((await serverOf()).offered).toEqual({ count: 0, since: null }))
  })

  test('does not wait for a reader that leaves', async () => {
    const from = await seqNow()
    await read(`?after=${from}&reader=old`)
    const { id, feed } = await loggedOut({ sub: randomUUID(), scope: 'subject' }, from)
    await read(`?after=${feed.seq}&reader=old&leaving=true`)
    await allReadOn(feed.seq)
    await eventually(async () => expect(await deliveryOf(id)).toMatchObject({ state: 'acknowledged' }))
    expect((await serverOf()).readers.map(({ reader }) => reader)).not.toContain('old')
  })

  test('that is the first of its issuer gets the logouts of before, whose tokens live', async () => {
    await curfew.client.putIssuer('late', { iss: 'https://late.example', session_index: 'off' })
    const [sub, gone] = [randomUUID(), randomUUID()]
    const post = (event: object) =>
      curfew.client.postLogoutEvent({ iss: 'https://late.example', ...event } as never)
    const { id } = (await post({ sub, scope: 'subject' })) as { id: string }
    const old = new Date(Date.now() - 2 * 3_600_000).toISOString()
    const { id: oldId } = (await post({ sub: gone, scope: 'subject', occurred_at: old })) as { id: string }
    for (const each of [id, oldId]) await eventually(() => curfew.client.getLogoutEvent(each))
    const feed = () => curfew.call('GET', '/v1/issuers/late/revocations')
    expect((await feed()).status).toBe(409)
    expect((await curfew.call('PUT', '/v1/issuers/late/resource-servers/api', {})).status).toBe(201)
    const text = await eventually(async () => {
      const answer = await feed()
      if (answer.status !== 200) throw new Error(`${answer.status}`)
      return answer.text()
    })
    const { entries } = JSON.parse(Buffer.from(text.split('.')[1] ?? '', 'base64url').toString())
    expect(entries).toEqual([[keyOf('sub', sub, 'https://late.example'), expect.any(Number)]])
  })

  test('has the name of no relying party, and is listed with its kind only', async () => {
    await curfew.client.putRelyingParty(ISSUER, 'shop', {
      backchannel_logout_uri: 'https://shop.example/logout',
    })
    expect((await putServer('shop')).status).toBe(409)
    expect((await curfew.call('GET', `${SERVERS}/shop`)).status).toBe(404)
    expect((await curfew.call('DELETE', `${SERVERS}/shop`)).status).toBe(404)
    const { items } = (await (await curfew.call('GET', SERVERS)).json()) as { items: ResourceServer[] }
    expect(items.map(({ client_id }) => client_id)).toEqual([API])
  })

  test('needs the scopes of clients', async () => {
    const by = async (scope: string, method: string, path: string) => {
      const headers = { authorization: `Bearer ${curfew.keyFor(scope as never)}` }
      return (await curfew.call(method as never, path, method === 'PUT' ? {} : undefined, headers)).status
    }
    for (const [method, path] of [
      ['PUT', `${SERVERS}/x`],
      ['DELETE', `${SERVERS}/x`],
      ['GET', `${SERVERS}/x`],
      ['GET', SERVERS],
    ] as const)
      expect(await by('revocations:read', method, path)).toBe(403)
    expect(await by('clients:read', 'GET', SERVERS)).toBe(200)
    expect(await by('clients:read', 'PUT', `${SERVERS}/x`)).toBe(403)
  })

  test('that is removed is owed nothing more, and its offers end', async () => {
    await putServer('gone-api')
    const { id } = await loggedOut({ sub: randomUUID(), scope: 'subject' }, await seqNow())
    expect((await curfew.call('DELETE', `${SERVERS}/gone-api`)).status).toBe(200)
    await eventually(async () => {
      const { deliveries } = await curfew.client.getLogoutEvent(id)
      expect(deliveries.find(({ client_id }) => client_id === 'gone-api')).toMatchObject({ state: 'lapsed' })
    })
  })
})

test('a new max_token_ttl applies to the next logout at once', async () => {
  await curfew.client.putIssuer(ISSUER, { iss: ISS, session_index: 'partial', max_token_ttl: 7_200 })
  const { id } = await loggedOut({ sub: randomUUID(), scope: 'subject' }, await seqNow())
  const delivery = await deliveryOf(id)
  const lastsS = (Date.parse(delivery?.due_at ?? '') - Date.parse(delivery?.planned_at ?? '')) / 1_000
  expect(lastsS).toBeCloseTo(7_200, -1)
})

describe('the strategy revoke_then_notify', () => {
  const STRATEGY = {
    iss: 'https://strict.example',
    session_index: 'off',
    strategy: 'revoke_then_notify',
  } as const
  const shop = () => curfew.client.getRelyingParty('strict', 'shop')

  test('uses the channels that revoke at once, also where a registration makes one a fallback', async () => {
    await curfew.client.putIssuer('strict', { ...STRATEGY, strategy: null })
    await curfew.client.putRelyingParty('strict', 'shop', {
      backchannel_logout_uri: 'https://shop.example/logout',
      curfew: {
        channels: {
          global_revocation: { uri: 'https://shop.example/revoke', fallback_for: 'backchannel' },
        },
      },
    })
    const fallbacks = async () =>
      Object.fromEntries((await shop()).status.endpoints.map((each) => [each.channel, each.fallback_for]))
    expect(await fallbacks()).toEqual({ backchannel: null, global_revocation: 'backchannel' })
    await curfew.client.putIssuer('strict', STRATEGY)
    expect(await fallbacks()).toEqual({ backchannel: null, global_revocation: null })
    const answer = await curfew.client.postLogoutEvent({ iss: STRATEGY.iss, sub: 'u' } as never)
    const { deliveries } = await eventually(() => curfew.client.getLogoutEvent((answer as { id: string }).id))
    expect(deliveries.map(({ channel }) => channel).toSorted()).toEqual(['backchannel', 'global_revocation'])
    await curfew.client.putIssuer('strict', { ...STRATEGY, strategy: null })
    expect(await fallbacks()).toEqual({ backchannel: null, global_revocation: 'backchannel' })
  })

  test('is in the words of the summary', async () => {
    await curfew.client.putIssuer('strict', STRATEGY)
    await curfew.call('PUT', '/v1/issuers/strict/resource-servers/orders', { resource_name: 'Orders' })
    const answer = await curfew.client.postLogoutEvent({ iss: STRATEGY.iss, sub: 'u2' } as never)
    const { id } = answer as { id: string }
    const summary = await eventually(() => curfew.client.getEventSummary(id))
    expect(summary.steps).toEqual({ revoke: { done: 0, total: 2 }, notify: { done: 0, total: 1 } })
    expect(summary.text).toMatch(/^Your access is being revoked\. /)
  })
})

test('CUT-02: an entry is served until its longest token has expired, and then not', async () => {
  const sub = randomUUID()
  await curfew.client.putIssuer(ISSUER, { iss: ISS, session_index: 'partial', max_token_ttl: 8 })
  const { feed } = await loggedOut({ sub, scope: 'subject' }, await seqNow())
  const entry = feed.entries.find(([key]) => key === keyOf('sub', sub))
  expect(entry).toBeDefined()
  await eventually(async () => {
    const { entries, iat } = (await read()) as Feed & { iat: number }
    if (entries.some(([key]) => key === keyOf('sub', sub))) throw new Error('it is served')
    expect(iat).toBeGreaterThanOrEqual((entry?.[1] ?? 0) + 8)
  })
})
