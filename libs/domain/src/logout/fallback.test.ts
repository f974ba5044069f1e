import { hash } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { BindingId, Digest } from '../ids.ts'
import type { Binding } from '../registry/binding.ts'
import type { SessionIndexUse } from '../session/session.ts'
import type { LogoutEvent } from './event.ts'
import { fallbackOf, isDue, successorsOf } from './fallback.ts'
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
    ...{ names: 'either', widens: true, disabledReason: null, ...more },
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

describe('a dead letter', () => {
  const owed = (fallback: Binding, sid: string | null, event: LogoutEvent = EVENT) => {
    const named = { sid, sessionEndsAt: sid === null ? null : ENDS } as Parameters<typeof fallbackOf>[1]
    const found = fallbackOf(event, named, fallback, digest)
    return found && [found.delivery.sid, found.delivery.sessionEndsAt]
  }

  test('owes its fallback the same session or subject', () => {
    expect(owed(binding('b'), 's1')).toEqual(['s1', ENDS])
    expect(owed(binding('b'), null)).toEqual([null, null])
    expect(owed(binding('b'), 's1', SESSION)).toEqual(['s1', ENDS])
  })

  test('owes one delivery to a fallback that takes only the subject, for any number of sessions', () => {
    expect(owed(binding('b', SUBJECT_ONLY), 's1')).toEqual([null, null])
    expect(owed(binding('b', SUBJECT_ONLY), 's2')).toEqual([null, null])
  })

  test('owes nothing to a fallback that cannot name its session or subject', () => {
    expect(owed(binding('b', SID_REQUIRED), null)).toBeNull()
    expect(owed(binding('b', NARROW), 's1', SESSION)).toBeNull()
  })

  test('owes the session to a fallback that takes only the subject, if the subject is unknown', () => {
    expect(owed(binding('b', SUBJECT_ONLY), 's1', { ...SESSION, sub: null } as LogoutEvent)).toEqual([
      's1',
      ENDS,
    ])
  })

  test('owes the same delivery as a plan would', () => {
    const named = { sid: null, sessionEndsAt: null }
    const issuer = { bindings: [binding('a', OFF), binding('b')], sessionIndex: 'off' as const }
    const { deliveries } = plan(EVENT, issuer, { kind: 'silent' }, digest)
    expect(fallbackOf(EVENT, named, binding('b'), digest)).toEqual(deliveries[1])
  })
})

describe('the successors of a dead letter', () => {
  const party = [binding('a'), binding('b'), binding('c'), binding('z')]
  const owes = (...[dead, reason, now]: Parameters<typeof successorsOf<Binding>>) =>
    successorsOf(dead, reason, now).map(({ kind }) => kind)

  test('are the fallbacks of its channel', () => {
    expect(owes(binding('a'), 'refused', party)).toEqual(['b'])
    expect(owes(binding('z'), 'refused', party)).toEqual([])
  })

  test('are none if its message would end a later session', () => {
    expect(owes(binding('a'), 'later_session', party)).toEqual([])
  })

  test("include the client's required channels if its own channel was removed from the registration", () => {
    expect(owes(binding('a'), 'client_removed', [binding('b'), binding('c'), binding('z')])).toEqual([
      'b',
      'z',
    ])
    expect(owes(binding('a'), 'client_removed', [])).toEqual([])
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
