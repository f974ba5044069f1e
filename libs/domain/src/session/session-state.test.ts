import { hash } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import type { DeliveryState } from '../delivery/delivery.ts'
import { LEVELS, type Level } from '../delivery/level.ts'
import type { Digest } from '../ids.ts'
import type { LogoutEvent } from '../logout/event.ts'
import type { LiveSession } from '../logout/session-match.ts'
import { type SessionBinding, type SessionDelivery, sessionStateOf } from './session-state.ts'

// Goal: a session is over when every required channel of its relying party, or its fallback, has acknowledged the logout as done.
// Method: tables of deliveries and their states.

const digest: Digest = (text) => hash('sha256', text)
const AT = new Date('2026-11-21T12:00:00Z')
const EVENT = {
  ...{ id: '01938c2e-0000-8000-8000-000000000001', iss: 'https://idp.example', scope: 'session', sid: 's1' },
  ...{ sub: 'u', initiator: null, includeInitiator: false, clients: null, lane: 'interactive' },
  ...{ occurredAt: AT, acceptedAt: AT },
} as unknown as LogoutEvent
const SESSION = {
  ...{
    sub: 'u',
    sid: 's1',
    clientId: 'rp',
    device: null,
    startedAt: AT,
    startedStated: true,
    acceptedAt: AT,
  },
  expiresAt: new Date('2026-11-21T20:00:00Z'),
} as unknown as LiveSession

/** `b` is the fallback for `a`, and `c` for `b`; `z` is another required channel. */
const FALLBACK_FOR = { a: null, b: 'a', c: 'b', z: null }
type Name = keyof typeof FALLBACK_FOR
const bindingOf = (name: Name, more: Partial<SessionBinding> = {}) =>
  ({
    ...{ id: name.charCodeAt(0), kind: name, offer: null, fallbackFor: FALLBACK_FOR[name] },
    ...{ names: 'either', widens: true, ...more },
  }) as unknown as SessionBinding

/**
 * @param states the delivery to each channel, as `a:dead_lettered`; only the name if nothing is owed. A level means the state
 *   `acknowledged` with that level.
 * @param narrow a channel whose messages would end more than the session.
 */
function stateAfter(states: string, narrow?: Name, removed?: Name): string {
  const channels = states.split(' ').map((entry) => entry.split(':') as [Name, (DeliveryState | Level)?])
  const deliveries = channels.flatMap(([name, state]): readonly SessionDelivery[] => {
    if (state === undefined) return []
    const level = state === 'acknowledged' ? 'done' : LEVELS.find((one) => one === state)
    const waits = state === 'pending' || state === 'in_flight'
    const named = {
      bindingId: bindingOf(name).id,
      ...{ sid: SESSION.sid, sub: null, lacksSubject: false },
      id: name as unknown as SessionDelivery['id'],
    }
    const settled = { settledAt: waits ? null : AT, sessionEndsAt: null, supersededBy: null, withheld: false }
    const reached = level === undefined ? (state as DeliveryState) : 'acknowledged'
    return [{ ...named, state: reached, level: level ?? null, ...settled }]
  })
  const registered = channels.filter(([name]) => name !== removed)
  const bindings = registered.map(([name]) =>
    bindingOf(name, narrow === name ? { names: 'subject', widens: false } : {}),
  )
  const found = sessionStateOf(EVENT, SESSION, { alreadyCovered: false, bindings, deliveries, digest })
  if (found.kind !== 'covered') return found.kind
  const owed = found.owed.map(({ delivery }) => String.fromCharCode(delivery.bindingId))
  if (owed.length > 0) return `owed to ${owed.join(' ')}`
  return found.orphaned ? 'orphaned' : 'covered'
}

test.each([
  ['is owed a delivery, which becomes a visible dead letter', 'a', 'owed to a'],
  ['is orphaned once that delivery is a dead letter', 'a:dead_lettered', 'orphaned'],
])('a session posted late that no channel may name %s (%s): %s', (_, states, expected) => {
  expect(stateAfter(states, 'a')).toBe(expected)
})

describe('a session at a relying party with a fallback', () => {
  test.each([
    ['the required channel acknowledged', 'a:acknowledged b', 'over'],
    ['the required channel acknowledged, and the fallback is pending', 'a:acknowledged b:pending', 'over'],
    ['the required channel acknowledged, and the fallback is dead', 'a:acknowledged b:dead_lettered', 'over'],
    ['the required channel is pending, and the fallback acknowledged', 'a:pending b:acknowledged', 'covered'],
    ['the required channel is in flight', 'a:in_flight b', 'covered'],
    ['the fallback of a dead letter is pending', 'a:dead_lettered b:pending', 'covered'],
    ['the fallback of a dead letter acknowledged', 'a:dead_lettered b:acknowledged', 'over'],
    ['the fallback of a dead letter is dead', 'a:dead_lettered b:dead_lettered', 'orphaned'],
    ['the next fallback acknowledged', 'a:dead_lettered b:dead_lettered c:acknowledged', 'over'],
    ['the next fallback is pending', 'a:dead_lettered b:dead_lettered c:pending', 'covered'],
    ['the logout lapsed', 'a:lapsed b', 'orphaned'],
    ['nothing is owed to the required channel', 'a b', 'owed to a'],
    ['a fallback was registered after the dead letter', 'a:dead_lettered b', 'owed to b'],
  ])('%s (%s): %s', (_, states, expected) => {
    expect(stateAfter(states)).toBe(expected)
  })
})

test.each([
  ['a:acknowledged z:acknowledged', 'over'],
  ['a:acknowledged z:pending', 'covered'],
  ['a:acknowledged z:dead_lettered', 'orphaned'],
  ['a:dead_lettered b:acknowledged z:acknowledged', 'over'],
  ['a:dead_lettered b:acknowledged z:pending', 'covered'],
  ['a:dead_lettered b:pending z:dead_lettered', 'covered'],
  ['a:acknowledged z', 'owed to z'],
])(
  'a session is over when every required channel or its fallback acknowledged (%s): %s',
  (states, expected) => {
    expect(stateAfter(states)).toBe(expected)
  },
)

test.each([
  ['a b:acknowledged', 'over'],
  ['a b:pending', 'covered'],
  ['a b', 'owed to b'],
])(
  'a fallback counts if a message of the replaced channel would end more than the session (%s): %s',
  (states, expected) => {
    expect(stateAfter(states, 'a')).toBe(expected)
  },
)

describe('an acknowledgement below the level done keeps the session in the index', () => {
  test.each([
    ['a:begun', 'covered'],
    ['a:received', 'covered'],
    ['a:partial', 'covered'],
    ['a:unconfirmable', 'covered'],
    ['a:done z:begun', 'covered'],
    ['a:dead_lettered b:begun', 'covered'],
    ['a:begun z:dead_lettered', 'orphaned'],
    ['a:done z:done', 'over'],
  ])('%s: %s', (states, expected) => {
    expect(stateAfter(states)).toBe(expected)
  })
})

describe('a session at a relying party that removed a channel from its registration', () => {
  test.each([
    ['a:pending z', 'owed to z'],
    ['a:pending z:done', 'covered'],
    ['a:dead_lettered z', 'owed to z'],
    ['a:dead_lettered z:done', 'over'],
    ['a:dead_lettered', 'orphaned'],
    ['a:done', 'over'],
  ])('%s: %s', (states, expected) => {
    expect(stateAfter(states, undefined, 'a')).toBe(expected)
  })
})
