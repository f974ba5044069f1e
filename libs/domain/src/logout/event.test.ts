import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { ClientId, EventId, GivenEventId, Issuer, Sid, Subject } from '../ids.ts'
import { type LogoutEvent, logKey, sameContent } from './event.ts'

const ACCEPTED_AT = new Date('2026-11-21T12:00:00Z')
const BASE: LogoutEvent = {
  id: '01938c2e-0000-8000-8000-000000000001' as EventId,
  givenId: '01938c2e-0000-7000-8000-000000000001' as GivenEventId,
  iss: 'https://idp.example' as Issuer,
  scope: 'session',
  sid: 's1' as Sid,
  sub: 'u1' as Subject,
  reason: 'user',
  initiator: 'shop' as ClientId,
  includeInitiator: false,
  clients: ['mail' as ClientId],
  lane: 'interactive',
  occurredAt: new Date('2026-11-21T11:59:58Z'),
  acceptedAt: ACCEPTED_AT,
}

describe('logKey', () => {
  const iss = 'https://idp.example' as Issuer
  const keyOf = (sub: string | null, sid: string | null, issuer = iss) =>
    logKey({ iss: issuer, sub: sub as Subject, sid: sid as Sid | null })

  test('logouts of a subject and of its sessions share a key, so they stay in order', () => {
    expect(keyOf('u1', 's1')).toBe(keyOf('u1', null))
    expect(keyOf('u1', 's2')).toBe(keyOf('u1', 's1'))
  })

  test('different issuers, subjects and sessions have different keys, even with quotes in their names', () => {
    const keys = [
      keyOf('u1', null),
      keyOf('u2', null),
      keyOf(null, 'u1'),
      keyOf(null, 's1'),
      keyOf(null, 'null'),
      keyOf('u1', null, 'https://idp.example/b' as Issuer),
      keyOf('b","u1', null),
    ]
    expect(new Set(keys).size).toBe(keys.length)
  })
})

describe('sameContent', () => {
  const others: Partial<LogoutEvent>[] = [
    { id: '01938c2e-0000-7000-8000-000000000002' as EventId },
    { iss: 'https://other.example' as Issuer },
    { sub: null },
    { sub: 'u2' as Subject },
    { sid: 's2' as Sid },
    { scope: 'subject' },
    { reason: null },
    { reason: 'admin' },
    { initiator: null },
    { includeInitiator: true },
    { clients: null },
    { clients: ['mail' as ClientId, 'wiki' as ClientId] },
    { lane: 'bulk' },
    { occurredAt: new Date('2026-11-21T11:59:59Z') },
  ]

  test.each(others)('differs with %j', (other) => {
    expect(sameContent({ ...BASE, ...other } as LogoutEvent)).not.toBe(sameContent(BASE))
  })

  test('the same post accepted later has the same content, with or without a stated time', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 1e10 }), (laterMs) => {
        const acceptedAt = new Date(ACCEPTED_AT.getTime() + laterMs)
        expect(sameContent({ ...BASE, acceptedAt })).toBe(sameContent(BASE))
        const unstated = sameContent({ ...BASE, acceptedAt, occurredAt: null })
        expect(unstated).toBe(sameContent({ ...BASE, occurredAt: null }))
        // A stated time makes a different content, even if it equals the time of acceptance.
        expect(sameContent({ ...BASE, acceptedAt, occurredAt: acceptedAt })).not.toBe(unstated)
      }),
    )
  })

  test('is equal for the same members in any order, and different for other members', () => {
    const arbitrary = fc.record({
      sub: fc.constantFrom('a', 'b', null),
      sid: fc.constantFrom('a', 'b'),
      initiator: fc.constantFrom('a', 'b', null),
      clients: fc.option(fc.uniqueArray(fc.constantFrom('a', 'b'), { minLength: 1 })),
      occurredAt: fc.constantFrom(new Date(1), new Date(2)),
    })
    fc.assert(
      fc.property(arbitrary, arbitrary, (one, other) => {
        const shuffled = Object.fromEntries(Object.entries({ ...BASE, ...one }).reverse())
        expect(sameContent(shuffled as unknown as LogoutEvent)).toBe(
          sameContent({ ...BASE, ...one } as LogoutEvent),
        )
        expect(
          sameContent({ ...BASE, ...one } as LogoutEvent) ===
            sameContent({ ...BASE, ...other } as LogoutEvent),
        ).toBe(JSON.stringify(one) === JSON.stringify(other))
      }),
    )
  })
})
