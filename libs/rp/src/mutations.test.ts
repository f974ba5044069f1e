import fc from 'fast-check'
import { beforeAll, expect, test } from 'vitest'
import {
  CLIENT_ID,
  claimsWith,
  createKey,
  ISSUER,
  jwksOf,
  logoutRequest,
  NOW,
  type SigningKey,
} from './issuer.fixture.ts'
import { createLogoutReceiver, type Logout } from './receiver.ts'

// Goal: only tokens that the issuer signed reach the app, and every request gets an answer.
// Method: randomly changed tokens; random bytes; random claims with a valid signature.

let key: SigningKey
let token: string
beforeAll(async () => {
  key = await createKey('k1')
  token = await key.sign()
})

function open() {
  const logouts: Logout[] = []
  const receiver = createLogoutReceiver({
    issuer: ISSUER,
    clientId: CLIENT_ID,
    jwks: jwksOf(key),
    lenient: true,
    now: () => NOW,
    onLogout: (logout) => logouts.push(logout),
    onError: () => undefined,
  })
  return { receiver, logouts }
}

const CHARACTERS = 'ABCXYZabcxyz0189-_.=+/ %\u0000é'
const edit = fc.record({
  at: fc.nat(2_000),
  remove: fc.nat(3),
  insert: fc.string({ unit: fc.constantFrom(...CHARACTERS), maxLength: 3 }),
})

/**
 * Whether two tokens have the same header, payload and signature. Their texts may differ, as base64url has unused bits at its
 * end.
 */
function areEqual(one: string, other: string): boolean {
  const [a, b] = [one, other].map((text) => {
    const [header, payload, signature = '', ...more] = text.split('.')
    return [header, payload, Buffer.from(signature, 'base64url').toString('hex'), ...more].join('.')
  })
  return a === b
}

test('a changed token never reaches the app', async () => {
  const { receiver, logouts } = open()
  await fc.assert(
    fc.asyncProperty(fc.array(edit, { minLength: 1, maxLength: 3 }), async (edits) => {
      let changed = token
      for (const { at, remove, insert } of edits) {
        const place = at % changed.length
        changed = changed.slice(0, place) + insert + changed.slice(place + remove)
      }
      fc.pre(!areEqual(changed, token))
      const response = await receiver.handle(logoutRequest({ logout_token: changed }))
      expect(response.status).toBe(400)
      expect(logouts).toEqual([])
    }),
    { numRuns: 500 },
  )
})

test('a body of random bytes gets a 400', async () => {
  const { receiver, logouts } = open()
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 200 }), async (bytes) => {
      const headers = { 'content-type': 'application/x-www-form-urlencoded' }
      const body = new Uint8Array([...new TextEncoder().encode('logout_token='), ...bytes])
      const request = new Request('https://shop.example/', { method: 'POST', headers, body })
      expect((await receiver.handle(request)).status).toBe(400)
    }),
  )
  expect(logouts).toEqual([])
})

test('with random claims, the app gets only logouts for its client that name a subject or session', async () => {
  const odd = fc.oneof(fc.jsonValue(), fc.constantFrom(undefined, '', 0, -1, 1e300, null, [], {}))
  const change = fc.dictionary(
    fc.constantFrom(
      'iss',
      'aud',
      'iat',
      'exp',
      'nbf',
      'jti',
      'sub',
      'sid',
      'events',
      'nonce',
      'txn',
      'other',
    ),
    odd,
    { minKeys: 1, maxKeys: 3 },
  )
  await fc.assert(
    fc.asyncProperty(change, async (changes) => {
      const { receiver, logouts } = open()
      const signed = await key.sign(claimsWith(changes))
      const response = await receiver.handle(logoutRequest({ logout_token: signed }))
      expect([200, 400]).toContain(response.status)
      expect(logouts).toHaveLength(response.status === 200 ? 1 : 0)
      for (const { issuer, subject, sessionId, jti, claims } of logouts) {
        expect(issuer).toBe(ISSUER)
        expect([claims.aud].flat()).toContain(CLIENT_ID)
        expect(subject ?? sessionId).toEqual(expect.stringMatching(/./su))
        expect(jti).not.toBe('')
        expect(claims).not.toHaveProperty('nonce')
      }
    }),
    { numRuns: 300 },
  )
})
