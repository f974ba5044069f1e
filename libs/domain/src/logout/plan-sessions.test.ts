import { hash } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import type { Digest } from '../ids.ts'
import type { Binding, Names } from '../registry/binding.ts'
import type { SessionIndexUse } from '../session/session.ts'
import type { LogoutEvent } from './event.ts'
import { type KnownSessions, plan } from './plan.ts'
import type { LiveSession } from './session-match.ts'

// Goal: the session index decides which sessions and subjects a logout names.
// Method: examples. Clients are letters: a and b take sids, s takes only the subject, r requires a sid.

const digest: Digest = (text) => hash('sha256', text)
const at = (minute: number) => new Date(Date.UTC(2026, 10, 21, 12, minute))
const bindingOf = (clientId: string, id: number, names: Names = 'either') =>
  ({
    ...{ id, clientId, names, widens: true },
    ...{ kind: 'backchannel', fallbackFor: null, disabledReason: null },
    offer: null,
  }) as unknown as Binding
const BINDINGS = [
  bindingOf('a', 1),
  bindingOf('b', 2),
  bindingOf('s', 3, 'subject'),
  bindingOf('r', 4, 'session'),
]
const EVENT = {
  id: '01938c2e-0000-7000-8000-000000000001',
  iss: 'https://idp.example',
  scope: 'subject',
  sub: 'u',
  sid: null,
  initiator: null,
  includeInitiator: false,
  clients: null,
  lane: 'interactive',
  occurredAt: at(10),
  acceptedAt: at(10),
} as unknown as LogoutEvent

/** `a:1` is session 1 of client a; `a:1+` began after the event; `a:1@phone` is on the phone. */
function sessionOf(text: string): LiveSession {
  const [, clientId, sid, late, device] = /^(\w):(\w+)(\+?)(?:@(\w+))?$/.exec(text) ?? []
  const startedAt = late === '+' ? at(11) : at(10)
  const session = {
    sub: 'u',
    clientId,
    sid,
    device: device ?? null,
    startedAt,
    startedStated: true,
    acceptedAt: startedAt,
    expiresAt: at(59),
  }
  return session as unknown as LiveSession
}

/** The basis of a plan and its deliveries, as `client:sid`, `client:*` for the subject, or `client:?` for a doubtful subject. */
function planned(
  known: string | Exclude<KnownSessions['kind'], 'known'>,
  { use = 'partial', ...over }: { use?: SessionIndexUse } & Readonly<Record<string, unknown>> = {},
) {
  const isKnown = known !== 'silent' && known !== 'unavailable'
  const sessions = isKnown ? known.split(' ').filter(Boolean).map(sessionOf) : []
  const { basis, deliveries } = plan(
    { ...EVENT, ...over } as LogoutEvent,
    { bindings: BINDINGS, sessionIndex: use },
    isKnown ? { kind: 'known', sessions } : { kind: known },
    digest,
  )
  const clientOf = (id: number) => BINDINGS.find((binding) => Number(binding.id) === id)?.clientId
  const owed = deliveries.map(
    ({ delivery: { bindingId, sid }, doubtful }) => `${clientOf(bindingId)}:${sid ?? (doubtful ? '?' : '*')}`,
  )
  return [basis, owed.join(' ')]
}

describe('a logout of the subject', () => {
  test.each([
    ['names the subject, because a client may hold unposted sessions', 'a:1 a:2 b:1', 'a:* b:* s:*'],
    ['names each earlier session if a later one is known', 'a:1 a:2+', 'a:1 b:* s:*'],
    ['is doubtful if all known sessions of a client are later', 'a:2+ s:3+', 'a:? b:* s:?'],
    ['names the subject to a client that takes only the subject', 's:1 s:2+', 'a:* b:* s:*'],
    ['names each known session to a client that requires a sid', 'r:1 r:2', 'a:* b:* s:* r:1 r:2'],
    ['owes nothing for an unposted session to a client that requires a sid', 'a:1', 'a:* b:* s:*'],
  ])('%s (%s)', (_, known, owed) => {
    expect(planned(known)).toEqual(['sessions', owed])
  })

  test('goes only to clients with a known session if the index is complete', () => {
    expect(planned('a:1 s:1', { use: 'complete' })).toEqual(['sessions', 'a:1 s:*'])
    expect(planned('a:1+', { use: 'complete' })).toEqual(['sessions', ''])
  })

  test.each<SessionIndexUse>(['off', 'partial', 'complete'])(
    'goes to every client if the index does not know the subject (%s)',
    (use) => {
      expect(planned('', { use })).toEqual(['registered', 'a:* b:* s:* r:*'])
      expect(planned('silent', { use })).toEqual(['registered', 'a:* b:* s:* r:*'])
      expect(planned('unavailable', { use })).toEqual(['index_unavailable', 'a:* b:* s:* r:*'])
    },
  )

  test('goes to every client if the index is switched off', () => {
    expect(planned('a:1', { use: 'off' })).toEqual(['registered', 'a:* b:* s:* r:*'])
  })

  test('skips the initiator with all its sessions, and clients that the event leaves out', () => {
    expect(planned('a:1 b:1', { initiator: 'a' })).toEqual(['sessions', 'b:* s:*'])
    expect(planned('a:1 b:1', { clients: ['a'] })).toEqual(['sessions', 'a:*'])
    // The initiator still gets a delivery for its known sessions other than the one that the event names.
    expect(planned('a:1 a:2', { initiator: 'a', sid: '1', clients: ['a'] })).toEqual(['sessions', 'a:2'])
    // The complete index knows only a session of the initiator, so no other client holds one.
    expect(planned('a:1', { initiator: 'a', use: 'complete' })).toEqual(['sessions', ''])
  })
})

describe('a logout started in a session of the initiator', () => {
  test.each<[string, Readonly<Record<string, unknown>>, string, string]>([
    ["names the initiator's other sessions if it is for the subject", {}, 'a:1 a:2 b:1', 'a:2 b:1'],
    ["skips the initiator's later sessions", {}, 'a:1 a:2+ b:1', 'b:1'],
    [
      "names the initiator's other sessions on the device",
      { scope: 'device', device: 'tv' },
      'a:1@tv a:2@tv a:3@pc',
      'a:2',
    ],
    ['skips the initiator if it is for that session', { scope: 'session' }, 'a:1 b:1', 'b:1'],
  ])('%s', (_, change, known, owed) => {
    expect(planned(known, { initiator: 'a', sid: '1', use: 'complete', ...change })).toEqual([
      'sessions',
      owed,
    ])
  })
})

describe('a logout of one session', () => {
  const session = { scope: 'session', sid: '1' }

  test('goes to every client, because each may hold it', () => {
    expect(planned('a:1', session)).toEqual(['sessions', 'a:1 b:1 s:1 r:1'])
  })

  test('goes only to clients that hold it if a complete index knows it', () => {
    expect(planned('a:1 s:1', { ...session, use: 'complete' })).toEqual(['sessions', 'a:1 s:1'])
    expect(planned('', { ...session, use: 'complete' })).toEqual(['registered', 'a:1 b:1 s:1 r:1'])
  })
})

describe('a logout of one device', () => {
  const phone = { scope: 'device', device: 'phone' }

  test('names sessions on the device, and sessions with an unknown device', () => {
    expect(planned('a:1@phone a:2@laptop a:3 b:1@laptop', phone)).toEqual(['sessions', 'a:1 a:3 s:*'])
  })

  test('goes to a client that takes only the subject if the client has a session on the device', () => {
    expect(planned('s:1@laptop', phone)).toEqual(['sessions', 'a:* b:*'])
    expect(planned('s:1@laptop s:2@phone', phone)).toEqual(['sessions', 'a:* b:* s:*'])
  })

  test('names the subject if the index does not answer', () => {
    expect(planned('unavailable', phone)).toEqual(['index_unavailable', 'a:* b:* s:* r:*'])
  })
})

test('a delivery has no end if one of the sessions that it ends has none', () => {
  const issuer = { bindings: BINDINGS.slice(0, 1), sessionIndex: 'complete' as const }
  const one = { ...EVENT, scope: 'session', sid: 'a:1' } as LogoutEvent
  const endOf = (...ends: readonly (Date | null)[]) => {
    const sessions = ends.map((expiresAt) => ({ ...sessionOf('a:1'), expiresAt }))
    const { deliveries } = plan(one, issuer, { kind: 'known', sessions }, digest)
    return deliveries.map(({ delivery }) => delivery.sessionEndsAt)
  }
  expect([endOf(at(30), at(40)), endOf(at(30), null), endOf(null)]).toEqual([[at(40)], [null], [null]])
})

test('a delivery ends with its session, and every session is a separate target', () => {
  const sessions = [sessionOf('a:1'), { ...sessionOf('a:2'), expiresAt: at(30) }]
  const issuer = { bindings: BINDINGS.slice(0, 1), sessionIndex: 'complete' as const }
  const { deliveries } = plan(EVENT, issuer, { kind: 'known', sessions }, digest)
  expect(deliveries.map(({ delivery }) => delivery.sessionEndsAt)).toEqual([at(59), at(30)])
  const targets = new Set(deliveries.map(({ target }) => target))
  expect(targets.size).toBe(2)
  expect(new Set(deliveries.map(({ delivery }) => delivery.id)).size).toBe(2)
})

describe('a binding that needs the tokens of a session', () => {
  const owedTo = (
    known: string | 'silent' | 'unavailable',
    over: object = {},
    sessionIndex: 'partial' | 'complete' = 'partial',
  ) => {
    const binding = { ...bindingOf('t', 9, 'session'), posted: true } as Binding
    const sessions = known.split(' ').filter(Boolean)
    const found: KnownSessions =
      known === 'silent' || known === 'unavailable'
        ? { kind: known }
        : { kind: 'known', sessions: sessions.map(sessionOf) }
    const event = { ...EVENT, ...over } as LogoutEvent
    return plan(event, { bindings: [binding], sessionIndex }, found, digest).deliveries.map(
      ({ delivery }) => delivery.sid,
    )
  }
  const session = { scope: 'session', sid: '1' }

  test('is owed each posted session of its client that the logout ends', () => {
    for (const index of ['partial', 'complete'] as const)
      expect(owedTo('t:1 t:2 t:3+ a:1', {}, index)).toEqual(['1', '2'])
    expect(owedTo('t:1 a:1', session)).toEqual(['1'])
    expect(owedTo('t:1@phone t:2@desk', { scope: 'device', device: 'phone' })).toEqual(['1'])
  })

  test('is owed nothing of sessions that are not posted, because only the index has tokens', () => {
    for (const known of ['', 'a:1', 'silent', 'unavailable'])
      for (const over of [{}, session]) expect(owedTo(known, over)).toEqual([])
  })
})

describe('a binding for the sessions of the issuer itself', () => {
  const owedTo = (names: Names, known: string, over: Readonly<Record<string, unknown>> = {}) => {
    const binding = { ...bindingOf('i', 9, names), always: true } as Binding
    const sessions = known.split(' ').filter(Boolean).map(sessionOf)
    return plan(
      { ...EVENT, ...over } as LogoutEvent,
      { bindings: [binding], sessionIndex: 'complete' },
      { kind: 'known', sessions },
      digest,
    ).deliveries.map(({ delivery, dueAt }) => [delivery.sid, delivery.event.sub, dueAt])
  }
  const subject = [[null, 'u', undefined]]
  const session = { scope: 'session', sid: '1' }

  test('is owed one delivery for each logout, although its client holds no session', () => {
    expect(owedTo('either', 'a:1 b:2')).toEqual(subject)
    expect(owedTo('subject', 'a:1 b:2')).toEqual(subject)
    expect(owedTo('either', 'a:1 b:1', session)).toEqual([['1', 'u', undefined]])
    expect(owedTo('either', '')).toEqual(subject)
  })

  test('is owed the logout that its client started, or that the identity provider relayed for another client', () => {
    expect(owedTo('either', 'i:1 a:1', { ...session, initiator: 'i' })).toEqual([['1', 'u', undefined]])
    const relayed = { clientId: 'a', token: 't', verified: true }
    expect(owedTo('either', 'a:1', { ...session, relayed })).toEqual([['1', 'u', undefined]])
  })

  test('is owed nothing of a logout that is about other clients only', () => {
    expect(owedTo('either', 'a:1', { clients: ['a'] })).toEqual([])
  })

  test('names each session once where the subject would end another device or a later login', () => {
    const phone = { scope: 'device', device: 'phone' }
    const each = [...'12'].map((sid) => [sid, 'u', undefined])
    expect(owedTo('either', 'a:1@phone b:1@phone b:2@phone a:3@desk', phone)).toEqual(each)
    expect(owedTo('either', 'a:3@desk', phone)).toEqual([])
    expect(owedTo('either', 'a:1 b:2 b:3+')).toEqual(each)
  })

  test('names the subject although a later login is known, if it takes no session or no earlier one is known', () => {
    expect(owedTo('subject', 'a:1 b:3+')).toEqual(subject)
    expect(owedTo('either', 'b:3+')).toEqual(subject)
  })

  test('names each session of the subject if it takes sessions only', () => {
    expect(owedTo('session', 'a:1 b:2').map(([sid]) => sid)).toEqual(['1', '2'])
    expect(owedTo('session', '').map(([sid]) => sid)).toEqual([null])
  })

  test('learns the subject of a session from the index', () => {
    expect(owedTo('either', 'a:1', { ...session, sub: null })).toEqual([['1', 'u', undefined]])
  })
})

describe('a binding that can name anything', () => {
  const feed = { ...bindingOf('api', 9, 'any'), offer: { lastsMs: 60_000, onDeadline: 'lapsed' } } as Binding
  /** The sids of the deliveries to the feed, `*` without one. */
  function owedToFeed(over: Readonly<Record<string, unknown>>, known: readonly string[] = []) {
    const { deliveries } = plan(
      { ...EVENT, ...over } as LogoutEvent,
      { bindings: [...BINDINGS, feed], sessionIndex: 'complete' },
      { kind: 'known', sessions: known.map(sessionOf) },
      digest,
    )
    return deliveries
      .filter(({ delivery }) => delivery.bindingId === feed.id)
      .map(({ delivery, offerMs }) => `${delivery.sid ?? '*'} ${offerMs}`)
  }

  test('gets one delivery of each logout, whatever sessions are known', () => {
    expect(owedToFeed({}, ['a:1', 'a:2', 'b:1'])).toEqual(['* 60000'])
    expect(owedToFeed({ scope: 'session', sid: '1' }, ['a:1'])).toEqual(['1 60000'])
    expect(owedToFeed({ scope: 'device', device: 'tv' }, ['a:1@tv'])).toEqual(['* 60000'])
  })

  test('gets an issuer logout whole, and none of its parts', () => {
    expect(owedToFeed({ scope: 'issuer', sub: null })).toEqual(['* 60000'])
    expect(owedToFeed({ parentId: EVENT.id })).toEqual([])
  })

  test('gets a logout that the identity provider relayed for another client, and of a session that a post narrows to others', () => {
    const relayed = { clientId: 'a', token: 't', verified: true }
    expect(owedToFeed({ scope: 'session', sid: '1', clients: ['a'], relayed })).toEqual(['1 60000'])
    expect(owedToFeed({ scope: 'session', sid: '1', clients: ['a'] })).toEqual(['1 60000'])
    expect(owedToFeed({ clients: ['a'] })).toEqual([])
  })
})
