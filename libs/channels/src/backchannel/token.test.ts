import type { InFlightDelivery } from '@curfew/domain'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { BackchannelSettings } from './settings.ts'
import { LOGOUT_TOKEN_TYPE, logoutTokenClaims } from './token.ts'

const NOW = new Date('2026-11-21T12:00:00.999Z')
const EVENT_MEMBER = 'http://schemas.openid.net/event/backchannel-logout'

type Delivery = Pick<InFlightDelivery, 'sid' | 'event'>
type Receiver = Parameters<typeof logoutTokenClaims>[1]
type SubjectClaims = BackchannelSettings['subject_claims']

const deliveryOf = (sub: string | null, sid: string | null): Delivery =>
  ({
    sid,
    event: {
      ...{ iss: 'https://idp.example/', givenId: '01938c2e-0000-7000-8000-000000000001' },
      ...{ sub, scope: sid === null ? 'subject' : 'session' },
    },
  }) as unknown as Delivery
const receiverOf = (subjectClaims: SubjectClaims, sessionRequired = false, clientId = 'mail'): Receiver =>
  ({ clientId, subject_claims: subjectClaims, session_required: sessionRequired }) as Receiver
const claimsOf = (delivery: Delivery, receiver: Receiver, jti = 'j1', now = NOW) =>
  logoutTokenClaims(delivery, receiver, { now, jti })

const subs = fc.option(fc.string({ minLength: 1 }))
const sids = fc.option(fc.string({ minLength: 1 }))
const receivers = fc
  .record({ claims: fc.constantFrom<SubjectClaims>('sid', 'sub', 'both'), required: fc.boolean() })
  .map(({ claims, required }) => receiverOf(claims, required))
const named = fc.tuple(subs, sids).filter(([sub, sid]) => sub !== null || sid !== null)

describe('logoutTokenClaims', () => {
  test('BCL-03, BCL-04, BCL-05, BCL-06: has exactly the claims of the specification, and txn', () => {
    expect(claimsOf(deliveryOf('u1', 's1'), receiverOf('both'))).toEqual({
      iss: 'https://idp.example/',
      aud: 'mail',
      iat: 1_795_262_400,
      exp: 1_795_262_520,
      jti: 'j1',
      txn: '01938c2e-0000-7000-8000-000000000001',
      sub: 'u1',
      sid: 's1',
      events: { [EVENT_MEMBER]: {} },
    })
    expect(LOGOUT_TOKEN_TYPE).toBe('logout+jwt')
  })

  test('BCL-03, BCL-06, BCL-07: always has sub or sid and one empty member in events, and never a nonce', () => {
    fc.assert(
      fc.property(named, receivers, ([sub, sid], receiver) => {
        const delivery = deliveryOf(sub, sid)
        const tainted = { ...delivery, nonce: 'n', event: { ...delivery.event, nonce: 'n' } }
        const claims = claimsOf(tainted, receiver)
        expect('sub' in claims || 'sid' in claims).toBe(true)
        expect(JSON.stringify(claims.events)).toBe(`{"${EVENT_MEMBER}":{}}`)
        expect(claims).not.toHaveProperty('nonce')
        expect([null, undefined]).not.toContain(claims.sub ?? claims.sid)
      }),
    )
  })

  test('BCL-08: expires at most 120 s after the attempt, and iat is never ahead of the clock', () => {
    const times = fc.date({ min: new Date(0), max: new Date('9999-01-01'), noInvalidDate: true })
    fc.assert(
      fc.property(times, (now) => {
        const { iat, exp } = claimsOf(deliveryOf('u1', 's1'), receiverOf('both'), 'j1', now)
        expect(exp - iat).toBeGreaterThan(0)
        expect(exp - iat).toBeLessThanOrEqual(120)
        expect(iat * 1_000).toBeLessThanOrEqual(now.getTime())
        expect(iat * 1_000).toBeGreaterThan(now.getTime() - 1_000)
      }),
    )
  })

  test('BCL-13: another attempt of the same delivery differs only in jti', () => {
    const one = claimsOf(deliveryOf('u1', 's1'), receiverOf('both'), 'j1')
    const other = claimsOf(deliveryOf('u1', 's1'), receiverOf('both'), 'j2')
    expect(other).toEqual({ ...one, jti: 'j2' })
  })

  test('BCL-05: each RP gets its own client_id as the only audience', () => {
    const audiences = ['mail', 'wiki'].map(
      (clientId) => claimsOf(deliveryOf('u1', 's1'), receiverOf('both', false, clientId)).aud,
    )
    expect(audiences).toEqual(['mail', 'wiki'])
  })

  test.each<[SubjectClaims, boolean, string | null, string | null, { sub?: string; sid?: string }]>([
    ['both', false, 'u1', 's1', { sub: 'u1', sid: 's1' }],
    ['sid', false, 'u1', 's1', { sid: 's1' }],
    ['sub', false, 'u1', 's1', { sub: 'u1' }],
    ['both', true, 'u1', 's1', { sub: 'u1', sid: 's1' }],
    ['sid', true, 'u1', 's1', { sid: 's1' }],
    // BCL-11: a required sid overrides the setting subject_claims.
    ['sub', true, 'u1', 's1', { sid: 's1' }],
    // A missing claim is replaced by the other one.
    ['both', false, null, 's1', { sid: 's1' }],
    ['sid', false, null, 's1', { sid: 's1' }],
    ['sub', false, null, 's1', { sid: 's1' }],
    ['sub', true, null, 's1', { sid: 's1' }],
    // BCL-12: a logout of the subject never carries a sid.
    ['both', false, 'u1', null, { sub: 'u1' }],
    ['sid', false, 'u1', null, { sub: 'u1' }],
    ['sub', false, 'u1', null, { sub: 'u1' }],
  ])('subject_claims %s, session required %s, sub %s, sid %s: %j', (claims, required, sub, sid, expected) => {
    const made = claimsOf(deliveryOf(sub, sid), receiverOf(claims, required))
    const carried = Object.fromEntries(
      Object.entries(made).filter(([name]) => name === 'sub' || name === 'sid'),
    )
    expect(carried).toEqual(expected)
  })
})
