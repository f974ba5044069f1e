import type { ClientId } from '@curfew/domain'
import { describe, expect, test } from 'vitest'
import { type Claims, eventOf } from './event.ts'

const CLIENT = 'shop' as ClientId
const RELAYED = { clientId: CLIENT, token: 'a.b.c', verified: true }
const NOW = new Date('2026-11-30T12:00:00Z')
const CLAIMS: Claims = {
  ...{ iss: 'https://idp.example', aud: 'shop', iat: 1_764_504_000, exp: 1_764_504_120 },
  ...{ jti: 'j-1', sub: 'alice', sid: 's-1', events: {} },
}
const make = (change: Partial<Claims> = {}, relayed = RELAYED) =>
  eventOf({ ...CLAIMS, ...change }, relayed, NOW)
const idOf = (change: Partial<Claims> = {}, relayed = RELAYED) =>
  Object(make(change, relayed)).givenId as string

describe('the id of an event', () => {
  test('is the same for the same token, at any time and verified or not', () => {
    expect(idOf()).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
    expect(Object(eventOf(CLAIMS, { ...RELAYED, verified: false }, new Date())).givenId).toBe(idOf())
  })

  test('differs by issuer, client and jti', () => {
    const ids = [
      idOf(),
      idOf({ jti: 'j-2' }),
      idOf({ iss: 'https://other.example' }),
      idOf({}, { ...RELAYED, clientId: 'blog' as ClientId }),
    ]
    expect(new Set(ids).size).toBe(4)
  })

  test('is ordered by the time of the token', () => {
    const ids = [0, 1, 60, 3_600].map((later) => idOf({ iat: CLAIMS.iat + later }))
    expect([...ids].sort()).toEqual(ids)
  })
})

test.each<[string, Partial<Claims>]>([
  ['iss', { iss: 'urn:idp' }],
  ['sub', { sub: 'x'.repeat(256) }],
  ['sub', { sub: 'a\nb' }],
  ['sid', { sid: 'ü' }],
  ['sid', { sid: 'x'.repeat(256) }],
  ['iat', { iat: -1 }],
])('a token whose %s an event cannot carry is refused with the name of the claim', (claim, change) => {
  expect(make(change)).toMatch(new RegExp(`^${claim} `))
})

test('a txn that is empty, too long or not printable is left out', () => {
  for (const txn of ['t-1', 'Abmeldung für Ärztin']) expect(make({ txn })).toMatchObject({ txn })
  for (const txn of ['', 'x'.repeat(256), 'a\0b', 'a\nb', 'a\ud800'])
    expect(make({ txn })).not.toHaveProperty('txn')
})
