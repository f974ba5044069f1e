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

// Goal: a fallback is owed a logout where the channel before it is unusable, and in no other case.

const digest: Digest = (text) => hash('sha256', text)
const AT = new Date('2026-11-21T12:00:00Z')
const ENDS = new Date('2026-11-21T20:00:00Z')
const EVENT = {
  ...{ id: '01938c2e-0000-8000-8000-000000000001', iss: 'https://idp.example', scope: 'subject', sub: 'u' },
  ...{ sid: null, initiator: null, includeInitiator: false, clients: null, lane: 'interactive' },
  ...{ occurredAt: AT, acceptedAt: AT },
} as unknown as LogoutEvent
const SESSION = { ...EVENT, scope: 'session', sid: 's1' } as LogoutEvent

/** `b` stands in for `a`, and `c` for `b`; `z` is another required channel. */
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

/** What is owed, as `channel:sid`, or `channel:*` for the subject. */
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
  test('owes every required channel, and no fallback while the channel before it is usable', () => {
    expect(planned([binding('a'), binding('b'), binding('c'), binding('z')])).toBe('a:* z:*')
  })

  test('owes a fallback beside the channel before it where that one is disabled or its breaker is open', () => {
    expect(planned([binding('a', OFF), binding('b'), binding('c')])).toBe('a:* b:*')
    expect(planned([binding('a'), binding('b'), binding('c')], { open: 'a' })).toBe('a:* b:*')
  })

  test('owes the next fallback of a chain where each channel before it is unusable', () => {
    expect(planned([binding('a'), binding('b', OFF), binding('c')], { open: 'a' })).toBe('a:* b:* c:*')
    expect(planned([binding('a'), binding('b', OFF), binding('c')])).toBe('a:*')
  })

  test('owes a fallback where one endpoint of the channel before it is unusable', () => {
    const second = { ...binding('a', OFF), id: 'y'.charCodeAt(0) as BindingId, endpoint: 'second' }
    expect(planned([binding('a'), second, binding('b')])).toBe('a:* y:* b:*')
  })

  test('owes a fallback where the channel before it requires a sid and none is known', () => {
    const bindings = [binding('a', SID_REQUIRED), binding('b')]
    expect(planned(bindings)).toBe('a:* b:*')
    expect(planned(bindings, { event: SESSION })).toBe('a:s1')
    expect(planned(bindings, { use: 'complete', sids: ['s1', 's2'] })).toBe('a:s1 a:s2')
  })

  test('owes a fallback where a message of the channel before it would end more than the event', () => {
    const narrow = binding('a', { ...SUBJECT_ONLY, widens: false })
    expect(planned([narrow, binding('b')], { event: SESSION })).toBe('b:s1')
    expect(planned([narrow, binding('b')])).toBe('a:*')
    expect(planned([narrow, binding('b', { ...SUBJECT_ONLY, widens: false })], { event: SESSION })).toBe('')
  })

  test('owes a fallback each session that it would owe a required channel', () => {
    const sids = ['s1', 's2']
    expect(planned([binding('a'), binding('b')], { use: 'complete', sids, open: 'a' })).toBe(
      'a:s1 a:s2 b:s1 b:s2',
    )
    expect(planned([binding('a'), binding('b', SUBJECT_ONLY)], { use: 'complete', sids, open: 'a' })).toBe(
      'a:s1 a:s2 b:*',
    )
  })

  test('owes no fallback that cannot name what the event ends', () => {
    expect(planned([binding('a', OFF), binding('b', SID_REQUIRED)])).toBe('a:*')
    const unnamed = { ...SESSION, sub: null } as LogoutEvent
    expect(planned([binding('a', OFF), binding('b', NARROW)], { event: unnamed })).toBe('a:s1')
  })

  test('owes a fallback of another relying party nothing', () => {
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

  test('owes its fallback what it named itself', () => {
    expect(owed(binding('b'), 's1')).toEqual(['s1', ENDS])
    expect(owed(binding('b'), null)).toEqual([null, null])
    expect(owed(binding('b'), 's1', SESSION)).toEqual(['s1', ENDS])
  })

  test('owes a fallback that takes the subject only one delivery, whatever the number of its sessions', () => {
    expect(owed(binding('b', SUBJECT_ONLY), 's1')).toEqual([null, null])
    expect(owed(binding('b', SUBJECT_ONLY), 's2')).toEqual([null, null])
  })

  test('owes nothing to a fallback that cannot name it', () => {
    expect(owed(binding('b', SID_REQUIRED), null)).toBeNull()
    expect(owed(binding('b', NARROW), 's1', SESSION)).toBeNull()
  })

  test('owes a fallback that takes the subject the session too, where nobody said the subject', () => {
    expect(owed(binding('b', SUBJECT_ONLY), 's1', { ...SESSION, sub: null } as LogoutEvent)).toEqual([
      's1',
      ENDS,
    ])
  })

  test('owes the very delivery that a plan would owe', () => {
    const named = { sid: null, sessionEndsAt: null }
    const issuer = { bindings: [binding('a', OFF), binding('b')], sessionIndex: 'off' as const }
    const { deliveries } = plan(EVENT, issuer, { kind: 'silent' }, digest)
    expect(fallbackOf(EVENT, named, binding('b'), digest)).toEqual(deliveries[1])
  })
})

describe('a dead letter owes', () => {
  const party = [binding('a'), binding('b'), binding('c'), binding('z')]
  const owes = (...[dead, reason, now]: Parameters<typeof successorsOf<Binding>>) =>
    successorsOf(dead, reason, now).map(({ kind }) => kind)

  test('the fallbacks of its channel', () => {
    expect(owes(binding('a'), 'refused', party)).toEqual(['b'])
    expect(owes(binding('z'), 'refused', party)).toEqual([])
  })

  test('nothing where its message would end a later session', () => {
    expect(owes(binding('a'), 'later_session', party)).toEqual([])
  })

  test('the required channels of its client where its own was removed from the registration', () => {
    expect(owes(binding('a'), 'client_removed', [binding('b'), binding('c'), binding('z')])).toEqual([
      'b',
      'z',
    ])
    expect(owes(binding('a'), 'client_removed', [])).toEqual([])
  })
})

test('which fallbacks are due is decided for any registration, circles among them', () => {
  const kinds = fc.constantFrom('a', 'b', 'c', 'd')
  const channel = fc.record({ kind: kinds, fallbackFor: fc.option(kinds), usable: fc.boolean() })
  fc.assert(
    fc.property(fc.uniqueArray(channel, { selector: ({ kind }) => kind }), (party) => {
      for (const each of party) {
        const due = isDue(each, party, ({ usable }) => usable)
        const before = party.find(({ kind }) => kind === each.fallbackFor)
        if (each.fallbackFor === null) expect(due).toBe(true)
        else if (before?.usable && before.kind !== each.kind) expect(due).toBe(false)
      }
    }),
  )
})
