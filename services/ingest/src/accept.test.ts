import { hash } from 'node:crypto'
import type { LogoutEventInput } from '@curfew/contract'
import { eventIdOf, type GivenEventId, type Issuer, type LogoutEvent, sameContent } from '@curfew/domain'
import { describe, expect, test } from 'vitest'
import { acceptEvent } from './accept.ts'

const NOW = new Date('2026-11-21T12:00:00.000Z')
const ID = '01938c2e-0000-7000-8000-000000000001'
const ISS = 'https://idp.example'
const accept = (input: Partial<LogoutEventInput>, now = NOW) =>
  acceptEvent({ iss: ISS, ...input }, { now, newId: () => ID, requestedBy: 'idp' })
const accepted = (input: Partial<LogoutEventInput>, now = NOW): LogoutEvent => {
  const event = accept(input, now)
  if ('id' in event) return event
  throw new Error(`refused: ${JSON.stringify(event)}`)
}

// Goal: a posted logout event is completed with defaults, or rejected with a fault per wrong member.
// Method: the pure function, with a fixed clock and id.

describe('acceptEvent', () => {
  test('fills in the members that the IdP left out', () => {
    expect(accept({ sid: 's1' })).toEqual({
      id: eventIdOf(ISS as Issuer, ID as GivenEventId, (text) => hash('sha256', text)),
      givenId: ID,
      iss: ISS,
      scope: 'session',
      sid: 's1',
      sub: null,
      reason: null,
      initiator: null,
      includeInitiator: false,
      clients: null,
      lane: 'interactive',
      occurredAt: null,
      acceptedAt: NOW,
    })
  })

  test.each<[Partial<LogoutEventInput>, object]>([
    [{ sub: 'u1' }, { scope: 'subject', sub: 'u1', sid: null }],
    [
      { sub: 'u1', sid: 's1' },
      { scope: 'session', sub: 'u1', sid: 's1' },
    ],
    [{ scope: 'issuer' }, { scope: 'issuer', sub: null, sid: null, lane: 'bulk', requestedBy: 'idp' }],
    [
      { sub: 'u1', sid: 's1', scope: 'subject' },
      { scope: 'subject', sub: 'u1', sid: 's1' },
    ],
    [
      { sub: 'u1', sid: 's1', scope: 'device', device: 'phone' },
      { scope: 'device', sub: 'u1', sid: 's1', device: 'phone' },
    ],
    [
      { sid: 's1', scope: 'session' },
      { scope: 'session', sub: null, sid: 's1' },
    ],
  ])('derives the scope of %j', (input, expected) => {
    expect(accept(input)).toMatchObject(expected)
  })

  test('keeps the members that were given', () => {
    expect(
      accept({
        id: 'ABCDEF01-0000-4000-8000-00000000000A',
        sub: 'u1',
        email: 'u1@example.com',
        reason: 'admin',
        initiator: 'shop',
        include_initiator: true,
        clients: ['shop', 'mail'],
        lane: 'bulk',
        occurred_at: '2026-11-21T13:59:59.123456+02:00',
      }),
    ).toMatchObject({
      // UUIDs are case-insensitive. Lower case is kept, so that a repeated post is recognised.
      givenId: 'abcdef01-0000-4000-8000-00000000000a',
      email: 'u1@example.com',
      reason: 'admin',
      initiator: 'shop',
      includeInitiator: true,
      clients: ['shop', 'mail'],
      lane: 'bulk',
      occurredAt: new Date('2026-11-21T11:59:59.123Z'),
    })
  })
})

describe('acceptEvent names the member to correct:', () => {
  test.each<[string, Partial<LogoutEventInput>, string]>([
    ['neither sub nor sid', {}, '/sub'],
    ['scope session without sub and sid', { scope: 'session' }, '/sid'],
    ['scope session without a sid', { sub: 'u1', scope: 'session' }, '/sid'],
    ['scope subject without a sub', { sid: 's1', scope: 'subject' }, '/sub'],
    ['scope device without a sub', { sid: 's1', scope: 'device', device: 'phone' }, '/sub'],
    ['scope device without a device', { sub: 'u1', scope: 'device' }, '/device'],
    ['a device without its scope', { sub: 'u1', device: 'phone' }, '/device'],
    ['scope issuer with a sub', { sub: 'u1', scope: 'issuer' }, '/sub'],
    ['scope issuer with a sid', { sid: 's1', scope: 'issuer' }, '/sid'],
    ['scope issuer with an email', { email: 'u1@example.com', scope: 'issuer' }, '/email'],
    ['scope issuer with a device', { device: 'd1', scope: 'issuer' }, '/device'],
    ['scope issuer in the interactive lane', { scope: 'issuer', lane: 'interactive' }, '/lane'],
    ['30 February', { sub: 'u1', occurred_at: '2026-02-30T00:00:00Z' }, '/occurred_at'],
    ['29 February of a common year', { sub: 'u1', occurred_at: '2025-02-29T00:00:00Z' }, '/occurred_at'],
    ['a 13th month', { sub: 'u1', occurred_at: '2026-13-01T00:00:00Z' }, '/occurred_at'],
    ['25 o’clock', { sub: 'u1', occurred_at: '2026-11-20T25:00:00Z' }, '/occurred_at'],
    ['a time before 1970', { sub: 'u1', occurred_at: '1969-12-31T23:59:59Z' }, '/occurred_at'],
    [
      'a time more than five minutes ahead',
      { sub: 'u1', occurred_at: '2026-11-21T12:05:00.001Z' },
      '/occurred_at',
    ],
  ])('%s', (_, input, pointer) => {
    expect(accept(input)).toEqual([{ pointer, detail: expect.stringMatching(/\w/) }])
  })

  test('all faults at once', () => {
    expect(accept({ occurred_at: '2026-02-30T00:00:00Z' })).toMatchObject([
      { pointer: '/sub' },
      { pointer: '/occurred_at' },
    ])
  })
})

test.each([
  '2024-02-29T12:00:00Z',
  '1970-01-01T00:00:00Z',
  '2026-11-21T12:05:00.000Z',
  '2026-11-22T00:00:00+14:00',
])('accepts an existing time up to five minutes ahead: %s', (occurred_at) => {
  expect(accepted({ sub: 'u1', occurred_at }).occurredAt).toEqual(new Date(occurred_at))
})

describe('a repeated post has the same content', () => {
  const DEFERRED = new Date(NOW.getTime() + 60_000)

  test.each([undefined, '2026-11-21T11:00:00Z', NOW.toISOString(), DEFERRED.toISOString()])(
    'with occurred_at %s, even if that is the time of its arrival',
    (occurred_at) => {
      const input = { sub: 'u1', ...(occurred_at !== undefined && { occurred_at }) }
      expect(sameContent(accepted(input, DEFERRED))).toBe(sameContent(accepted(input)))
    },
  )

  test('but a post with occurred_at differs from a post without it', () => {
    expect(sameContent(accepted({ sub: 'u1', occurred_at: NOW.toISOString() }))).not.toBe(
      sameContent(accepted({ sub: 'u1' })),
    )
  })
})
