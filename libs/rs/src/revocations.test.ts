import { exportJWK, generateKeyPair, type JWK } from 'jose'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { ISS, KEY, openFeed, type TestFeed } from './feed.fixture.ts'
import {
  createRevocations,
  type Revocations,
  type RevocationsEvent,
  type RevocationsOptions,
} from './index.ts'

// Goal: a process knows the logouts of the feed, knows when it may miss some, and neither a fault nor an adversary on the way makes it
// lose one or believe that it is up to date. Method: a feed over HTTP with real signatures, which a test replaces or repeats.

let feed: TestFeed
let revocations: Revocations
let events: RevocationsEvent[]
const started: Revocations[] = []
beforeEach(async () => {
  feed = await openFeed()
  events = []
})
afterEach(async () => {
  await Promise.all(started.splice(0).map((each) => each.stop()))
  await feed[Symbol.asyncDispose]()
})

function start(change: Partial<RevocationsOptions> = {}): Revocations {
  const options = {
    feed: feed.url,
    issuer: ISS,
    key: KEY,
    onEvent: (event: RevocationsEvent) => events.push(event),
  }
  revocations = createRevocations({ ...options, ...change })
  started.push(revocations)
  revocations.start()
  return revocations
}
async function startReady(change: Partial<RevocationsOptions> = {}): Promise<Revocations> {
  await start(change).ready(AbortSignal.timeout(10_000))
  return revocations
}
const nowS = () => Math.floor(Date.now() / 1_000)
const token = (claims: object) => ({ iss: ISS, sub: 'alice', iat: nowS(), ...claims })
const isEnded = (sid: string) => revocations.isRevoked(token({ sid }))
const failures = () => events.filter((event) => event.type === 'failed').map(({ error }) => error.message)
const snapshotsAsked = () => feed.asked.filter(({ query }) => !query.has('after')).length

describe('a process', () => {
  test('knows the logouts from before it started, and those after', async () => {
    feed.logout('sid', 's1')
    await startReady()
    expect([isEnded('s1'), isEnded('s2')]).toEqual([true, false])
    feed.logout('sid', 's2')
    await expect.poll(() => isEnded('s2')).toBe(true)
    expect(revocations.status()).toMatchObject({ seq: feed.seq, stale: false, entries: 2, lastError: null })
    expect(snapshotsAsked()).toBe(1)
  })

  test('asks with its key, its name and a wait', async () => {
    const keys = ['cfw_old', KEY]
    await startReady({ key: async () => keys.shift() ?? KEY, reader: 'pod-7' })
    await expect.poll(() => feed.asked.length).toBe(3)
    expect(feed.asked.map(({ headers }) => headers.authorization)).toEqual([
      'Bearer cfw_old',
      `Bearer ${KEY}`,
      `Bearer ${KEY}`,
    ])
    expect(feed.asked[2]?.query.toString()).toBe('reader=pod-7&after=1000&wait=15')
  })

  test('has an own name if none is given', async () => {
    await startReady()
    await startReady()
    const names = new Set(feed.asked.map(({ query }) => query.get('reader')))
    expect([names.size, names.has(null)]).toEqual([2, false])
  })

  test('forgets a logout that concerns no living token, within a minute', async () => {
    let laterMs = 0
    feed.logout('sid', 'old', nowS() - 3_700)
    await startReady({ now: () => performance.now() + laterMs })
    expect(isEnded('old')).toBe(true)
    laterMs = 60_000
    feed.logout('sid', 's1')
    await expect.poll(() => [isEnded('s1'), isEnded('old')]).toEqual([true, false])
    expect(revocations.status().entries).toBe(1)
  })

  test('ends a token that is older than any logout that the feed remembers, by the policy of the route', async () => {
    feed.maxTokenTtlS = 600
    await startReady()
    const old = token({ iat: nowS() - 700 })
    expect(revocations.decide(old, 'allow')).toBe('live')
    expect(revocations.decide(old, 'deny')).toBe('stale_denied')
    expect(revocations.decide(old, 'introspect')).toBe('introspect')
    expect(revocations.decide(token({ iat: nowS() - 610 }), 'deny')).toBe('live')
    expect(events.filter(({ type }) => type === 'outlived')).toEqual([
      { type: 'outlived', ageS: expect.any(Number), maxTokenTtlS: 600 },
    ])
    expect(revocations.status().decisions).toEqual({
      ...{ live: 1, revoked: 0, stale_allowed: 1, stale_denied: 1, introspect: 1 },
    })
  })
})

describe('a process without the feed', () => {
  test('is stale before its first answer', () => {
    start({ feed: 'http://127.0.0.1:9/v1/issuers/main/revocations' })
    expect(revocations.status()).toMatchObject({ stale: true, asOf: null, ageMs: null, seq: null })
    expect(revocations.decide(token({}), 'deny')).toBe('stale_denied')
    expect(revocations.decide(token({}), 'allow')).toBe('live')
    expect(revocations.decide(token({}), 'introspect')).toBe('introspect')
  })

  test('is stale after max_staleness, says so once, keeps what it knows, and recovers by itself', async () => {
    feed.logout('sid', 's1')
    feed.maxStalenessS = 2
    await startReady()
    feed.intercept = () => ({ status: 503 })
    await expect.poll(() => revocations.status().stale, { timeout: 10_000 }).toBe(true)
    expect(revocations.decide(token({ sid: 's1' }), 'allow')).toBe('revoked')
    expect(revocations.decide(token({ sid: 's2' }), 'deny')).toBe('stale_denied')
    expect(revocations.status().lastError).toContain('answered 503')
    feed.intercept = null
    await expect.poll(() => revocations.status().stale, { timeout: 15_000 }).toBe(false)
    const changes = events.map(({ type }) => type).filter((type) => type === 'stale' || type === 'fresh')
    expect(changes).toEqual(['fresh', 'stale', 'fresh'])
    expect(revocations.status()).toMatchObject({ failures: 0, lastError: null })
  })

  test('waits longer after each failure, and as long as Curfew asks', async () => {
    feed.intercept = () => ({ status: 503 })
    start()
    await expect.poll(() => events.length, { timeout: 10_000 }).toBeGreaterThanOrEqual(4)
    const pauses = events.map((event) => (event.type === 'failed' ? event.retryInMs : 0))
    for (const [index, pauseMs] of pauses.slice(0, 4).entries()) {
      expect(pauseMs).toBeGreaterThanOrEqual(125 * 2 ** index)
      expect(pauseMs).toBeLessThanOrEqual(250 * 2 ** index)
    }
    feed.intercept = () => ({ status: 429, headers: { 'retry-after': '20' } })
    await expect
      .poll(() => events.some((event) => event.type === 'failed' && event.retryInMs >= 20_000), {
        timeout: 10_000,
      })
      .toBe(true)
  })

  test.each([
    [401, 'the key is not accepted'],
    [403, 'lacks the scope revocations:read'],
    [404, 'there is no such issuer'],
    [302, 'a redirect is not followed'],
  ])('says after a %i that %s', async (status, words) => {
    feed.intercept = () => ({ status, headers: { location: feed.url } })
    start()
    await expect.poll(() => revocations.status().lastError).toContain(words)
    expect(failures()[0]).not.toContain(KEY)
  })

  test('stops at once, also in a long poll and in a pause', async () => {
    await startReady()
    await expect.poll(() => feed.asked.length).toBe(2)
    await revocations.stop()
    await revocations.stop()
    await createRevocations({ feed: feed.url, issuer: ISS, key: KEY }).stop()
    const never = start({ feed: 'http://127.0.0.1:9/v1/issuers/main/revocations' })
    const ready = never.ready()
    await never.stop()
    await expect(ready).rejects.toThrow('stopped before the first answer')
  })

  test('gives up waiting when the caller does', async () => {
    feed.intercept = () => ({ status: 503 })
    await expect(start().ready(AbortSignal.timeout(50))).rejects.toMatchObject({ name: 'TimeoutError' })
  })
})

describe('after a 410 a process', () => {
  test('takes a snapshot, keeps what it knew, and goes on from there', async () => {
    feed.logout('sid', 's1')
    await startReady()
    // A restored Curfew: its number is lower, and it does not know s1.
    feed.seq = 500
    feed.intercept = async ({ query }) =>
      query.has('after') ? undefined : { body: await feed.answer(null, { entries: [] }) }
    await expect.poll(() => revocations.status().seq, { timeout: 20_000 }).toBe(500)
    expect(isEnded('s1')).toBe(true)
    feed.intercept = null
    feed.logout('sid', 's2')
    await expect.poll(() => isEnded('s2')).toBe(true)
  })

  test('saves the bytes of a snapshot that it has, and is not fresh because of it', async () => {
    feed.maxStalenessS = 2
    await startReady()
    let gone = true
    feed.intercept = ({ query, headers }) => {
      if (query.has('after')) return gone ? { status: 410 } : undefined
      gone = headers['if-none-match'] !== '"1000"'
      return gone ? undefined : { status: 304 }
    }
    await expect.poll(() => gone, { timeout: 10_000 }).toBe(false)
    feed.logout('sid', 's1')
    await expect.poll(() => isEnded('s1')).toBe(true)
  })
})

describe('an answer is not used if', () => {
  async function refuses(make: () => Promise<string> | string, message: RegExp): Promise<void> {
    feed.logout('sid', 's1')
    await startReady()
    feed.intercept = async ({ query }) => (query.get('after') ? { body: await make() } : undefined)
    feed.logout('sid', 's2')
    await expect.poll(failures, { timeout: 10_000 }).toContainEqual(expect.stringMatching(message))
    expect([revocations.status().seq, isEnded('s1'), isEnded('s2')]).toEqual([1_001, true, false])
    feed.intercept = null
    await expect.poll(() => isEnded('s2'), { timeout: 20_000 }).toBe(true)
  }

  test('another key signed it', async () => {
    const { privateKey: key } = await generateKeyPair('ES256')
    await refuses(() => feed.answer(1_001, {}, { key }), /signature/)
  })
  test('it is signed with the public key as a secret', () =>
    refuses(() => {
      const key = new TextEncoder().encode(JSON.stringify(feed.keys[0]))
      return feed.answer(1_001, {}, { key, header: { alg: 'HS256' } })
    }, /signature/))
  test('it is not signed', () =>
    refuses(async () => {
      const [, payload] = (await feed.answer(1_001)).split('.')
      return `${Buffer.from('{"alg":"none","typ":"revocations+jwt"}').toString('base64url')}.${payload}.`
    }, /signature/))
  test('it is another token of the issuer', () =>
    refuses(() => feed.answer(1_001, {}, { header: { typ: 'logout+jwt' } }), /typ/))
  test('it is of another issuer', () =>
    refuses(() => feed.answer(1_001, { iss: 'https://other.example' }), /iss/))
  test('it is the answer to a question after another number', () =>
    refuses(() => feed.answer(1_002), /another question/))
  test('it is a snapshot', () => refuses(() => feed.answer(null), /another question/))
  test.each([
    ['seq', '1'],
    ['seq', 1.5],
    ['as_of', null],
    ['max_staleness', 0],
    ['max_token_ttl', undefined],
    ['after', undefined],
    ['issuer_before', 'yes'],
    ['entries', [['short', 1]]],
    ['entries', [['AAAAAAAAAAAAAAAAAAAAAA', '1']]],
    ['entries', {}],
  ])('its %s is %j', (claim, value) =>
    refuses(() => feed.answer(1_001, { [claim]: value }), new RegExp(claim)),
  )
  test('it is no token', () => refuses(() => '<html>', /signature/))
})

describe('a process is not made to look fresh', () => {
  test('by an old answer that a cache repeats, and takes the answers after it', async () => {
    feed.maxStalenessS = 2
    await startReady()
    const old = await feed.answer(1_000)
    feed.intercept = ({ query }) => (query.has('after') ? { body: old } : undefined)
    await expect.poll(() => revocations.status().stale, { timeout: 10_000 }).toBe(true)
    await expect.poll(failures, { timeout: 20_000 }).toContainEqual(expect.stringContaining('not newer'))
    // The pauses grow, so that a cache is not asked in a tight loop.
    expect(feed.asked.length).toBeLessThan(30)
    feed.intercept = null
    await expect.poll(() => revocations.status().stale, { timeout: 20_000 }).toBe(false)
  })

  test('by an old snapshot after a 410', async () => {
    const old = await feed.answer(null)
    feed.logout('sid', 's1')
    await startReady()
    feed.intercept = ({ query }) => (query.has('after') ? { status: 410 } : { body: old })
    feed.logout('sid', 's2')
    await expect
      .poll(failures, { timeout: 10_000 })
      .toContainEqual(expect.stringContaining('older than what is known'))
    expect([isEnded('s1'), revocations.status().seq]).toEqual([true, 1_001])
    feed.intercept = null
    await expect.poll(() => isEnded('s2'), { timeout: 10_000 }).toBe(true)
  })

  test('by an answer of a Curfew that is behind with its own work', async () => {
    feed.behindS = 60
    await startReady()
    expect(revocations.status().stale).toBe(true)
    expect(revocations.decide(token({}), 'deny')).toBe('stale_denied')
    feed.behindS = 0
    feed.logout('sid', 's1')
    await expect.poll(() => revocations.status().stale).toBe(false)
  })

  test.each([-86_400_000, 86_400_000])(
    'or stale by a wall clock that is wrong by %i ms, which it reports',
    async (offMs) => {
      await startReady({ wall: () => Date.now() + offMs })
      expect(revocations.status().stale).toBe(false)
      const [clock] = events.filter((event) => event.type === 'clock')
      expect(Math.abs((clock?.aheadMs ?? 0) - offMs)).toBeLessThan(10_000)
    },
  )
})

test('a new key of the issuer is read when the first answer names it', async () => {
  await startReady()
  const { publicKey, privateKey } = await generateKeyPair('ES256')
  const next: JWK = { ...(await exportJWK(publicKey)), kid: 'next', alg: 'ES256' }
  feed.keys = [...feed.keys, next]
  feed.intercept = async ({ query }) => {
    const after = Number(query.get('after'))
    return after === feed.seq
      ? undefined
      : { body: await feed.answer(after, {}, { key: privateKey, header: { kid: 'next' } }) }
  }
  feed.logout('sid', 's1')
  await expect.poll(() => isEnded('s1'), { timeout: 30_000 }).toBe(true)
})

test.each([
  [{ issuer: '' }, /issuer/],
  [{ key: '' }, /key/],
  [{ feed: 'curfew' }, /feed/],
  [{ feed: 'http://curfew.example/v1/issuers/main/revocations' }, /https/],
  [{ feed: 'https://user:secret@curfew.example/v1/issuers/main/revocations' }, /credential/],
  [{ feed: 'https://curfew.example/feed' }, /set jwks/],
  [{ jwks: 'http://curfew.example/jwks.json' }, /jwks/],
  [{ reader: 'a b' }, /reader/],
  [{ maxStalenessMs: 10 }, /maxStalenessMs/],
])('the options %j are refused with words that name the wrong one', (change, message) => {
  const options = { feed: 'https://curfew.example/v1/issuers/main/revocations', issuer: ISS, key: KEY }
  expect(() => createRevocations({ ...options, ...change })).toThrow(message)
})

test('a listener that throws does not end the reading', async () => {
  await startReady({
    onEvent: () => {
      throw new Error('a fault of the app')
    },
  })
  feed.logout('sid', 's1')
  await expect.poll(() => isEnded('s1')).toBe(true)
})
