import { createPublicKey, verify } from 'node:crypto'
import type { LogoutEventInput, RelyingPartySettings } from '@curfew/contract'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Curfew, eventually, ISS, ISSUER, openCurfew, storedId } from '../support/curfew.ts'
import {
  openRelyingParty,
  type Received,
  type RelyingParty,
  type RelyingPartyOptions,
} from '../support/relying-party.ts'

// Goal: Curfew's requests and tokens follow OpenID Connect Back-Channel Logout 1.0 to the letter. Each test names its requirement
// (BCL-nn) and the section of the specification.
// Method: the tests parse the received bytes themselves. Of Curfew's code they use only the published keys.

let curfew: Curfew
const rps: RelyingParty[] = []
beforeAll(async () => {
  curfew = await openCurfew()
})
afterAll(async () => {
  await curfew.stop()
  await Promise.all(rps.map((rp) => rp.close()))
})

const MEMBER = 'http://schemas.openid.net/event/backchannel-logout'

let registered = 0
async function register(options: Omit<RelyingPartyOptions, 'clientId'> = {}): Promise<RelyingParty> {
  const rp = await openRelyingParty(curfew, { clientId: `rp-${registered++}`, ...options })
  rps.push(rp)
  return rp
}

/** Changes of the usual event; undefined removes a member. */
type Change = { readonly [Member in keyof LogoutEventInput]?: LogoutEventInput[Member] | undefined }

async function logout(rp: RelyingParty, change: Change = {}) {
  const event = { iss: ISS, sub: 'alice', sid: 'sid-1', clients: [rp.clientId], ...change }
  const { id } = await curfew.client.postLogoutEvent(JSON.parse(JSON.stringify(event)))
  return curfew.client.getLogoutEvent(id, { wait: 20 })
}

/** The one request that a logout causes. */
async function requestOf(rp: RelyingParty, event: Change = {}): Promise<Received> {
  const before = rp.received.length
  await logout(rp, event)
  expect(rp.received).toHaveLength(before + 1)
  return rp.received[before] as Received
}

describe('the request', () => {
  test('BCL-01 (2.5): a POST of a form with exactly one field, logout_token', async () => {
    const { method, headers, body } = await requestOf(await register())
    expect(method).toBe('POST')
    expect(headers['content-type']).toBe('application/x-www-form-urlencoded')
    expect(headers['content-length']).toBe(String(body.length))
    expect(body).toMatch(/^logout_token=[\w-]+\.[\w-]+\.[\w-]+$/)
    // The request must not contain cookies or credentials.
    for (const name of ['cookie', 'authorization', 'referer', 'origin', 'traceparent'])
      expect(headers).not.toHaveProperty(name)
  })

  test.each([
    '/logout?tenant=a%20b&x=1&x=2',
    '/logout?a=%2f%2F&b=+&c',
    "/lo%67out/../x//y?q='(*)!~;,@:$&r=/?",
    '/?',
    '?only=query',
    '/logout?logout_token=theirs&=&&',
    '/%E4%BD%A0?%e4%bd%a0',
  ])('BCL-02 (2.2): path and query are kept byte for byte: %s', async (target) => {
    const request = await requestOf(await register({ target }))
    expect(request.target).toBe(target.startsWith('/') ? target : `/${target}`)
    expect(request.verification.ok).toBe(true)
  })

  test('BCL-02 (2.2): a URI with a fragment is refused when it is registered', async () => {
    const response = await curfew.call('PUT', `/v1/issuers/${ISSUER}/relying-parties/fragment`, {
      backchannel_logout_uri: 'https://rp.example/logout#top',
    })
    expect(response.status).toBe(400)
    expect(await response.json()).toMatchObject({ errors: [{ pointer: '/backchannel_logout_uri' }] })
  })
})

describe('the token', () => {
  test('BCL-03, BCL-04, BCL-05 (2.4): has exactly the required claims, for its issuer and relying party', async () => {
    const rp = await register()
    const { claims } = await requestOf(rp)
    expect(Object.keys(claims).toSorted()).toEqual([
      'aud',
      'events',
      'exp',
      'iat',
      'iss',
      'jti',
      'sid',
      'sub',
      'txn',
    ])
    expect(claims).toMatchObject({ iss: ISS, aud: rp.clientId, sub: 'alice', sid: 'sid-1' })
    expect(claims.jti).toMatch(/^[0-9a-f-]{36}$/)
  })

  test('BCL-05 (2.4): is different for each relying party', async () => {
    const [a, b] = [await register(), await register()]
    await logout(a, { clients: [a.clientId, b.clientId] })
    expect([a, b].map(({ received }) => received[0]?.claims.aud)).toEqual([a.clientId, b.clientId])
    expect(a.received[0]?.claims.jti).not.toBe(b.received[0]?.claims.jti)
  })

  test('BCL-06 (2.4): events has exactly one member, with an empty object', async () => {
    const { claims, body } = await requestOf(await register())
    expect(claims.events).toEqual({ [MEMBER]: {} })
    const payload = Buffer.from(body.split('.')[1] ?? '', 'base64url').toString()
    expect(payload).toContain(`"events":{"${MEMBER}":{}}`)
  })

  test('BCL-07 (2.4): has no nonce, and an event with a nonce is refused', async () => {
    const { claims } = await requestOf(await register())
    expect(claims).not.toHaveProperty('nonce')
    const response = await curfew.call('POST', '/v1/logout-events', { iss: ISS, sub: 'alice', nonce: 'n-1' })
    expect(response.status).toBe(400)
  })

  test('BCL-08 (4): is valid for at most two minutes from now', async () => {
    const { claims } = await requestOf(await register())
    expect([Number.isInteger(claims.iat), Number.isInteger(claims.exp)]).toEqual([true, true])
    expect(claims.exp - claims.iat).toBeGreaterThan(0)
    expect(claims.exp - claims.iat).toBeLessThanOrEqual(120)
    expect(Math.abs(claims.iat - Date.now() / 1_000)).toBeLessThan(30)
  })

  test('BCL-08 (4): of a retry after an hour is valid for at most two minutes from the retry', async () => {
    const rp = await register()
    rp.behave((number) => (number === 1 ? { status: 404 } : null))
    const { id } = await curfew.client.postLogoutEvent({ iss: ISS, sub: 'alice', clients: [rp.clientId] })
    await eventually(async () => {
      const { rowCount } = await curfew.db.query(
        "update deliveries set due_at = now(), planned_at = planned_at - interval '1 hour' where event_id = $1 and state = 'pending'",
        [storedId(id)],
      )
      expect(rowCount).toBe(1)
      await curfew.db.query("update events set accepted_at = accepted_at - interval '1 hour' where id = $1", [
        storedId(id),
      ])
    })
    expect(await curfew.client.getLogoutEvent(id, { wait: 20 })).toMatchObject({ acknowledged: 1 })
    const [, second] = rp.received
    expect(Math.abs((second?.claims.iat ?? 0) - Date.now() / 1_000)).toBeLessThan(30)
    expect((second?.claims.exp ?? 0) - (second?.claims.iat ?? 0)).toBeLessThanOrEqual(120)
  })

  test('BCL-12 (2.4): for all sessions of a subject has sub and no sid', async () => {
    const rp = await register()
    const { claims } = await requestOf(rp, { scope: 'subject' })
    expect(claims.sub).toBe('alice')
    expect(claims).not.toHaveProperty('sid')
  })

  test.each<[RelyingPartySettings['subject_claims'], Record<string, string>]>([
    ['sid', { sid: 'sid-1' }],
    ['sub', { sub: 'alice' }],
    ['both', { sub: 'alice', sid: 'sid-1' }],
  ])(
    'BCL-03 (2.4): for one session has the claims of the subject_claims setting: %s',
    async (claims, expected) => {
      const rp = await register({ ...(claims !== undefined && { curfew: { subject_claims: claims } }) })
      const { sub, sid } = (await requestOf(rp)).claims
      expect(JSON.parse(JSON.stringify({ sub, sid }))).toEqual(expected)
      // An event without a sub, of a session that is not in the index: no token can have one.
      const { deliveries } = await logout(rp, { sub: undefined })
      expect(deliveries[0]?.dead_letter_reason).toBe(claims === 'sub' ? 'sub_required' : null)
      if (claims !== 'sub') expect(rp.received.at(-1)?.claims).toMatchObject({ sid: 'sid-1' })
    },
  )
})

describe('the signature', () => {
  const NODE = {
    RS256: { hash: 'sha256' },
    PS256: { hash: 'sha256', padding: 6, saltLength: 32 },
    ES256: { hash: 'sha256', dsaEncoding: 'ieee-p1363' },
    EdDSA: { hash: null },
  } as const

  test.each(['RS256', 'ES256', 'PS256', 'EdDSA'] as const)(
    'BCL-09, BCL-10 (2.4, 2.6): has typ logout+jwt, a kid of the published keys, and the registered %s',
    async (algorithm) => {
      const { header, body } = await requestOf(await register({ algorithm }))
      expect(header).toEqual({ alg: algorithm, kid: expect.any(String), typ: 'logout+jwt' })
      const key = (await curfew.client.getJwks(ISSUER)).keys.find(({ kid }) => kid === header.kid)
      // A key for EdDSA names no alg, because its tokens may also say Ed25519 (RFC 9864).
      expect(key).toMatchObject({ ...(algorithm !== 'EdDSA' && { alg: algorithm }), use: 'sig' })
      const [head = '', payload = '', signature = ''] = body.replace('logout_token=', '').split('.')
      const { hash, ...options } = NODE[algorithm]
      const publicKey = { key: createPublicKey({ key: key as never, format: 'jwk' }), ...options }
      expect(
        verify(hash, Buffer.from(`${head}.${payload}`), publicKey, Buffer.from(signature, 'base64url')),
      ).toBe(true)
    },
  )

  test.each<[RelyingPartySettings['token_type'], string | undefined]>([
    ['logout+jwt', 'logout+jwt'],
    ['JWT', 'JWT'],
    ['none', undefined],
  ])(
    'BCL-09 (2.4): has the registered token_type %s, before the default of its issuer',
    async (token_type, typ) => {
      await curfew.client.putIssuer(ISSUER, { iss: ISS, defaults: { token_type: 'JWT' } })
      const own = await register(token_type === undefined ? {} : { curfew: { token_type } })
      const other = await register()
      // These relying parties take any typ.
      for (const rp of [own, other]) rp.behave({ status: 200 })
      const headers = [(await requestOf(own)).header, (await requestOf(other)).header]
      expect(headers.map((header) => header.typ)).toEqual([typ, 'JWT'])
      await curfew.client.putIssuer(ISSUER, { iss: ISS })
    },
  )

  test('BCL-10 (2.6): is RS256 if no algorithm is registered', async () => {
    const rp = await register({ algorithm: 'RS256' })
    await curfew.call('PUT', `/v1/issuers/${ISSUER}/relying-parties/${rp.clientId}`, {
      backchannel_logout_uri: rp.uri,
    })
    const { header, verification } = await requestOf(rp)
    expect([header.alg, verification.ok]).toEqual(['RS256', true])
  })

  test.each(['none', 'HS256'])('BCL-10 (2.6): %s cannot be registered', async (algorithm) => {
    const response = await curfew.call('PUT', `/v1/issuers/${ISSUER}/relying-parties/weak`, {
      backchannel_logout_uri: 'https://rp.example/logout',
      id_token_signed_response_alg: algorithm,
    })
    expect(response.status).toBe(400)
  })
})

describe('BCL-11 (2.2): a relying party that requires a session', () => {
  const metadata = { backchannel_logout_session_required: true }

  test('gets a sid, even if the default of its issuer is a sub without a sid', async () => {
    await curfew.client.putIssuer(ISSUER, { iss: ISS, defaults: { subject_claims: 'sub' } })
    const rp = await register({ metadata })
    expect((await requestOf(rp)).claims.sid).toBe('sid-1')
    await curfew.client.putIssuer(ISSUER, { iss: ISS })
  })

  test.each<Change>([{ sid: undefined }, { scope: 'subject' }])(
    'gets no request if the sid is unknown, and the delivery is dead-lettered: %o',
    async (event) => {
      const rp = await register({ metadata })
      const { deliveries } = await logout(rp, event)
      expect(deliveries).toMatchObject([{ state: 'dead_lettered', dead_letter_reason: 'sid_required' }])
      expect(rp.received).toEqual([])
    },
  )
})

describe('the answer', () => {
  test.each([200, 204])('BCL-14 (2.8): %i acknowledges the delivery at level done', async (status) => {
    const rp = await register()
    rp.behave({ status })
    const { deliveries } = await logout(rp)
    expect(deliveries).toMatchObject([{ state: 'acknowledged', level: 'done', attempt_count: 1 }])
  })

  test('BCL-13 (2.6): every attempt of a delivery has a new jti and the same txn', async () => {
    const rp = await register()
    rp.behave((number) => (number < 3 ? { status: 503 } : null))
    const event = await logout(rp)
    expect(event).toMatchObject({ acknowledged: 1 })
    expect(new Set(rp.received.map(({ claims }) => claims.jti)).size).toBe(3)
    expect(new Set(rp.received.map(({ claims }) => claims.txn))).toEqual(new Set([event.id]))
    const { attempts } = await curfew.client.getDelivery(event.deliveries[0]?.id ?? '')
    expect(attempts.map(({ jti }) => jti)).toEqual(rp.received.map(({ claims }) => claims.jti))
  })

  test.each([503, 429])(
    'BCL-15, BCL-16 (2.5; RFC 9110 10.2.3): after %i the next attempt waits for Retry-After',
    async (status) => {
      const rp = await register({ curfew: { retry_schedule_ms: [1_000] } })
      rp.behave((number) => (number === 1 ? { status, headers: { 'retry-after': '2' } } : null))
      expect(await logout(rp)).toMatchObject({ acknowledged: 1 })
      const [first, second] = rp.received
      expect((second?.atMs ?? 0) - (first?.atMs ?? 0)).toBeGreaterThanOrEqual(1_990)
    },
  )

  test('BCL-17 (2.8): the body of a 400 does not change the decision', async () => {
    const bodies = [
      '{"error":"invalid_request"}',
      '{"error":"logout_failed","error_description":"store is down"}',
      '{"error":"temporarily_unavailable"}',
      '{"error":42}',
      'not json',
      '',
    ]
    const states = await Promise.all(
      bodies.map(async (body) => {
        const rp = await register()
        rp.behave({ status: 400, body })
        const { id } = await curfew.client.postLogoutEvent({ iss: ISS, sub: 'alice', clients: [rp.clientId] })
        return eventually(async () => {
          const { rows } = await curfew.db.query(
            'select state, attempts, retries, refusals from deliveries where event_id = $1 and attempts > 0',
            [storedId(id)],
          )
          expect(rows).toHaveLength(1)
          return rows[0]
        })
      }),
    )
    expect(states).toEqual(bodies.map(() => ({ state: 'pending', attempts: 1, retries: 0, refusals: 1 })))
  })
})

describe('a relying party that answers 400 if the session is over (against 2.7)', () => {
  const over = { status: 400, body: '{"error":"unknown_session","error_description":"no session sid-1"}' }

  test('acknowledges the logout at once if its owner registered the error, and the attempt says so', async () => {
    const rp = await register({ curfew: { already_ended_errors: ['unknown_session'] } })
    rp.behave(over)
    const { deliveries } = await logout(rp)
    expect(deliveries).toMatchObject([{ state: 'acknowledged', level: 'done', attempt_count: 1 }])
    const { attempts } = await curfew.client.getDelivery(deliveries[0]?.id ?? '')
    expect(attempts).toMatchObject([{ outcome: 'acknowledged', status: 400, note: 'already_ended' }])
  })

  test('refuses the logout in any other case', async () => {
    const rp = await register({ curfew: { already_ended_errors: ['no_such_session'] } })
    rp.behave(over)
    const { id } = await curfew.client.postLogoutEvent({
      iss: ISS,
      sub: 'a',
      sid: 's',
      clients: [rp.clientId],
    })
    const attempts = await eventually(async () => {
      const [delivery] = (await curfew.client.getLogoutEvent(id)).deliveries
      const { attempts } = await curfew.client.getDelivery(delivery?.id ?? '')
      expect(attempts).not.toEqual([])
      return attempts
    })
    expect(attempts).toMatchObject([
      { outcome: 'refused', status: 400, error: 'unknown_session', note: null },
    ])
  })
})
