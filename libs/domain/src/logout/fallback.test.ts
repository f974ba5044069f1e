import { hash } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { DeadLetterReason } from '../delivery/delivery.ts'
import type { BindingId, Digest, Sid } from '../ids.ts'
import type { Binding } from '../registry/binding.ts'
import type { SessionIndexUse } from '../session/session.ts'
import type { LogoutEvent } from './event.ts'
import { isDue, successionOf } from './fallback.ts'
import { plan } from './plan.ts'
import type { LiveSession } from './session-match.ts'

// Goal: a fallback is owed a logout if the channel that it replaces is unusable, and only then.

const digest: Digest = (text) => hash('sha256', text)
const AT = new Date('2026-11-21T12:00:00Z')
const ENDS = new Date('2026-11-21T20:00:00Z')
const EVENT = {
  ...{ id: '01938c2e-0000-8000-8000-000000000001', iss: 'https://idp.example', scope: 'subject', sub: 'u' },
  ...{ sid: null, initiator: null, includeInitiator: false, clients: null, lane: 'interactive' },
  ...{ occurredAt: AT, acceptedAt: AT },
} as unknown as LogoutEvent
const SESSION = { ...EVENT, scope: 'session', sid: 's1' } as LogoutEvent

/** `b` is the fallback for `a`, and `c` for `b`; `z` is another required channel. */
function binding(name: 'a' | 'b' | 'c' | 'z', more: Partial<Binding> = {}): Binding {
  const fallbackFor = { a: null, b: 'a', c: 'b', z: null }[name]
  return {
    ...{ id: name.charCodeAt(0), kind: name, fallbackFor, clientId: 'rp', endpoint: 'main' },
    ...{ names: 'either', widens: true, always: false, disabledReason: null, ...more },
    offer: null,
  } as unknown as Binding
}
const OFF = { disabledReason: 'by its owner' }
const SID_REQUIRED = { names: 'session' as const }
const SUBJECT_ONLY = { names: 'subject' as const }
const NARROW = { ...SUBJECT_ONLY, widens: false }

interface How {
  readonly event?: LogoutEvent
  readonly use?: SessionIndexUse
  readonly sids?: readonly string[]
  /** Bindings whose breaker is open. */
  readonly open?: string
}

/** The owed deliveries, as `channel:sid`, or `channel:*` for the subject. */
function planned(
  bindings: readonly Binding[],
  { event = EVENT, use = 'off', sids = [], open = '' }: How = {},
) {
  const began = { startedAt: AT, startedStated: true, acceptedAt: AT, expiresAt: ENDS }
  const sessions = sids.map((sid) => ({ ...began, sid, sub: 'u', clientId: 'rp', device: null }))
  const { deliveries } = plan(
    event,
    { bindings, sessionIndex: use },
    { kind: 'known', sessions: sessions as unknown as readonly LiveSession[] },
    digest,
    (id) => open.includes(String.fromCharCode(id)),
  )
  const owed = deliveries.map(
    ({ delivery: { bindingId, sid } }) => `${String.fromCharCode(bindingId)}:${sid ?? '*'}`,
  )
  return owed.join(' ')
}

describe('a plan', () => {
  test('owes every required channel, and no fallback for a usable channel', () => {
    expect(planned([binding('a'), binding('b'), binding('c'), binding('z')])).toBe('a:* z:*')
  })

  test('owes a fallback in addition to a channel that is disabled or has an open breaker', () => {
    expect(planned([binding('a', OFF), binding('b'), binding('c')])).toBe('a:* b:*')
    expect(planned([binding('a'), binding('b'), binding('c')], { open: 'a' })).toBe('a:* b:*')
  })

  test('owes a later fallback of a chain if every channel before it is unusable', () => {
    expect(planned([binding('a'), binding('b', OFF), binding('c')], { open: 'a' })).toBe('a:* b:* c:*')
    expect(planned([binding('a'), binding('b', OFF), binding('c')])).toBe('a:*')
  })

  test('owes a fallback if one endpoint of the replaced channel is unusable', () => {
    const second = { ...binding('a', OFF), id: 'y'.charCodeAt(0) as BindingId, endpoint: 'second' }
    expect(planned([binding('a'), second, binding('b')])).toBe('a:* y:* b:*')
  })

  test('owes a fallback if the replaced channel requires a sid and none is known', () => {
    const bindings = [binding('a', SID_REQUIRED), binding('b')]
    expect(planned(bindings)).toBe('a:* b:*')
    expect(planned(bindings, { event: SESSION })).toBe('a:s1')
    expect(planned(bindings, { use: 'complete', sids: ['s1', 's2'] })).toBe('a:s1 a:s2')
  })

  test('owes a fallback if a message of the replaced channel would end more than the event', () => {
    const narrow = binding('a', { ...SUBJECT_ONLY, widens: false })
    expect(planned([narrow, binding('b')], { event: SESSION })).toBe('b:s1')
    expect(planned([narrow, binding('b')])).toBe('a:*')
    expect(planned([narrow, binding('b', { ...SUBJECT_ONLY, widens: false })], { event: SESSION })).toBe('')
  })

  test('owes a fallback the same sessions as a required channel', () => {
    const sids = ['s1', 's2']
    expect(planned([binding('a'), binding('b')], { use: 'complete', sids, open: 'a' })).toBe(
      'a:s1 a:s2 b:s1 b:s2',
    )
    expect(planned([binding('a'), binding('b', SUBJECT_ONLY)], { use: 'complete', sids, open: 'a' })).toBe(
      'a:s1 a:s2 b:*',
    )
  })

  test('owes no fallback that cannot name the session or subject of the event', () => {
    expect(planned([binding('a', OFF), binding('b', SID_REQUIRED)])).toBe('a:*')
    const unnamed = { ...SESSION, sub: null } as LogoutEvent
    expect(planned([binding('a', OFF), binding('b', NARROW)], { event: unnamed })).toBe('a:s1')
  })

  test('owes nothing to a fallback of another relying party', () => {
    const other = { clientId: 'other' } as unknown as Partial<Binding>
    expect(planned([binding('a', OFF), binding('a', other), binding('b', other)])).toBe('a:* a:*')
  })

  test('owes a fallback for a channel that its relying party does not have', () => {
    expect(planned([binding('b'), binding('c')])).toBe('b:*')
  })
})

/**
 * What a dead letter owes, as `channel:sid`, or `channel:*` for the subject.
 *
 * @param party the other bindings of its relying party, each with whether it has a delivery of the event.
 */
function owes(
  party: readonly (readonly [Binding, delivered: boolean])[],
  { kind = 'a', always = false, sid = null, reason = 'refused', event = EVENT }: DeadLetter = {},
): string {
  const named = { sid: sid as Sid | null, sessionEndsAt: sid === null ? null : ENDS, sub: event.sub }
  const dead = { ...named, kind, always }
  const now = party.map(([each, delivered]) => ({ ...each, delivered }))
  return successionOf(event, dead, reason, now, digest)
    .map(({ delivery: { bindingId, sid } }) => `${String.fromCharCode(bindingId)}:${sid ?? '*'}`)
    .join(' ')
}
interface DeadLetter {
  readonly kind?: string
  readonly always?: boolean
  readonly sid?: string | null
  readonly reason?: DeadLetterReason
  readonly event?: LogoutEvent
}
const fallback = (more: Partial<Binding> = {}) => [binding('b', more), false] as const

describe('a dead letter', () => {
  test('owes its fallback the same session or subject', () => {
    expect(owes([fallback()], { sid: 's1' })).toBe('b:s1')
    expect(owes([fallback()])).toBe('b:*')
    expect(owes([fallback()], { sid: 's1', event: SESSION })).toBe('b:s1')
  })

  test('owes one delivery to a fallback that takes only the subject, for any number of sessions', () => {
    expect(owes([fallback(SUBJECT_ONLY)], { sid: 's1' })).toBe('b:*')
  })

  test('owes nothing to a fallback that cannot name its session or subject', () => {
    expect(owes([fallback(SID_REQUIRED)])).toBe('')
    expect(owes([fallback(NARROW)], { sid: 's1', event: SESSION })).toBe('')
  })

  test('owes the session of a session logout to a fallback that takes only the subject, even if the subject is unknown', () => {
    const event = { ...SESSION, sub: null } as LogoutEvent
    expect(owes([fallback(SUBJECT_ONLY)], { sid: 's1', event })).toBe('b:s1')
  })

  test('owes the same delivery as a plan would', () => {
    const issuer = { bindings: [binding('a', OFF), binding('b')], sessionIndex: 'off' as const }
    const { deliveries } = plan(EVENT, issuer, { kind: 'silent' }, digest)
    const dead = { kind: 'a', always: false, sid: null, sessionEndsAt: null, sub: EVENT.sub }
    const party = [{ ...binding('b'), delivered: false }]
    expect(successionOf(EVENT, dead, 'refused', party, digest)).toEqual([deliveries[1]])
  })

  test('of a binding for the sessions of the issuer itself owes its fallback only, and is owed by no other channel', () => {
    const missed = [binding('z'), false] as const
    expect(owes([fallback(), missed])).toBe('b:* z:*')
    expect(owes([fallback(), missed], { always: true })).toBe('b:*')
    expect(owes([fallback(), [binding('z', { always: true }), false]])).toBe('b:*')
  })

  test('owes nothing to the fallback of another channel, or to a required channel that has the logout', () => {
    expect(owes([fallback(), [binding('c'), false], [binding('z'), true]])).toBe('b:*')
    expect(owes([[binding('a'), true], fallback()], { kind: 'z' })).toBe('')
  })

  test('owes nothing if its message would end a later session', () => {
    expect(owes([fallback(), [binding('z'), false]], { reason: 'later_session' })).toBe('')
  })
})

describe('a dead letter of a registration that changed while the logout waited', () => {
  const REQUIRED = { fallbackFor: null }

  test.each<DeadLetterReason>(['client_removed', 'endpoint_gone', 'attempts_exhausted', 'unreachable'])(
    'owes the logout to the required channels that have none of it (%s)',
    (reason) => {
      expect(owes([[binding('z'), false]], { reason })).toBe('z:*')
      expect(owes([[binding('z'), false]], { reason, sid: 's1' })).toBe('z:s1')
      expect(owes([[binding('z'), true]], { reason })).toBe('')
    },
  )

  test('owes it to a fallback that its owner made required', () => {
    expect(owes([[binding('b', REQUIRED), false]])).toBe('b:*')
    const demoted = binding('a', { fallbackFor: 'b' })
    expect(
      owes(
        [
          [demoted, true],
          [binding('b', REQUIRED), false],
        ],
        { kind: 'x' },
      ),
    ).toBe('b:*')
  })

  test('owes it to its own channel, if that is registered again', () => {
    expect(owes([[binding('a'), false]], { reason: 'client_removed' })).toBe('a:*')
  })

  test('owes it to a channel that cannot name it if no other channel can, so that people see a dead letter', () => {
    const removed = { kind: 'x', reason: 'client_removed' } as const
    expect(owes([[binding('a', SID_REQUIRED), false]], removed)).toBe('a:*')
    expect(owes([[binding('a', NARROW), false]], { ...removed, sid: 's1', event: SESSION })).toBe('a:s1')
    const party = [
      [binding('a', NARROW), false],
      [binding('z'), false],
    ] as const
    expect(owes(party, { ...removed, sid: 's1', event: SESSION })).toBe('z:s1')
    expect(owes([[binding('a', NARROW), false]], { kind: 'x', sid: 's1', event: SESSION })).toBe('')
  })

  test('owes nothing if its client was removed', () => {
    expect(owes([], { reason: 'client_removed' })).toBe('')
  })
})

test('the due fallbacks are decided for any registration, including circular fallbacks', () => {
  const kinds = fc.constantFrom('a', 'b', 'c', 'd')
  const channel = fc.record({ kind: kinds, fallbackFor: fc.option(kinds), usable: fc.boolean() })
  fc.assert(
    fc.property(fc.uniqueArray(channel, { selector: ({ kind }) => kind }), (party) => {
      for (const channel of party) {
        const due = isDue(channel, party, ({ usable }) => usable)
        const replaced = party.find(({ kind }) => kind === channel.fallbackFor)
        if (channel.fallbackFor === null) expect(due).toBe(true)
        else if (replaced?.usable && replaced.kind !== channel.kind) expect(due).toBe(false)
      }
    }),
  )
})
