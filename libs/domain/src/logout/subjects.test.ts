import { hash } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { ClientId, Digest } from '../ids.ts'
import type { Binding, Names } from '../registry/binding.ts'
import { type PairwiseClients, pairwiseClients } from '../registry/subject-type.ts'
import type { SessionIndexUse } from '../session/session.ts'
import type { LogoutEvent } from './event.ts'
import { narrowingOf } from './narrowing.ts'
import { plan } from './plan.ts'
import type { LiveSession } from './session-match.ts'

// Goal: every delivery names the user by the `sub` that its client knows, and no client gets the `sub` of another one.
// Method: examples, then random indexes. Clients are letters: a and b are public, p and q are pairwise; capitals take only the
// subject. `u` is the public sub of the user, `up` the one that p knows.

const digest: Digest = (text) => hash('sha256', text)
const at = (minute: number) => new Date(Date.UTC(2026, 10, 21, 12, minute))
const CLIENTS = ['a', 'A', 'p', 'P', 'q']
const bindingOf = (clientId: string, names: Names) =>
  ({
    ...{ id: CLIENTS.indexOf(clientId), clientId, names, widens: true },
    ...{ kind: 'backchannel', fallbackFor: null, disabledReason: null },
    offer: null,
  }) as unknown as Binding
const BINDINGS = CLIENTS.map((clientId) =>
  bindingOf(clientId, clientId === clientId.toUpperCase() ? 'subject' : 'either'),
)
const PAIRWISE = pairwiseClients('public', [
  ['a' as ClientId, null],
  ...['p', 'P', 'q'].map((clientId) => [clientId as ClientId, 'pairwise'] as const),
])
const EVENT = {
  id: '01938c2e-0000-7000-8000-000000000001',
  iss: 'https://idp.example',
  ...{ scope: 'session', sub: null, sid: '1', initiator: null, includeInitiator: false, clients: null },
  ...{ lane: 'interactive', occurredAt: at(10), acceptedAt: at(10) },
} as unknown as LogoutEvent
const SUBJECT = { scope: 'subject', sub: 'u', sid: null }

/** `a:u/1` is session 1 of client a under the sub u. `p:up/1!` is linked to the subject of the event; `+` began after the event. */
function sessionOf(text: string): LiveSession {
  const [, clientId, sub, sid, marks = ''] = /^(\w):(\w+)\/(\w+)([!+]*)$/.exec(text) ?? []
  const startedAt = marks.includes('+') ? at(11) : at(9)
  return {
    ...{ sub, clientId, sid, device: null, startedAt, startedStated: true, acceptedAt: startedAt },
    ...{ expiresAt: at(59), linked: marks.includes('!') },
  } as unknown as LiveSession
}

interface Given {
  readonly use?: SessionIndexUse
  readonly pairwise?: PairwiseClients | null
  readonly to?: string
}

/** The deliveries of a plan to the clients `to`, as `client:sub/sid`; `?` for a sub that is not named, `*` for no sid. */
function planned(
  sessions: string,
  over: object = {},
  { use = 'partial', pairwise = PAIRWISE, to = 'aApP' }: Given = {},
) {
  const known = { kind: 'known' as const, sessions: sessions.split(' ').filter(Boolean).map(sessionOf) }
  const event = { ...EVENT, ...over } as LogoutEvent
  const bindings = BINDINGS.filter(({ clientId }) => to.includes(clientId))
  return plan(event, { bindings, sessionIndex: use, pairwise }, known, digest)
    .deliveries.map(({ delivery: { bindingId, sid, event } }) => {
      return `${CLIENTS[bindingId]}:${event.sub ?? '?'}/${sid ?? '*'}`
    })
    .join(' ')
}

describe('a logout that names only a sid', () => {
  test.each([
    ['names the sub of the client’s own session', 'a:u/1 A:u/1', 'a:u/1 A:u/1 p:?/1 P:?/1'],
    [
      'names the sub of another public client’s session to a public client',
      'a:u/1',
      'a:u/1 A:u/1 p:?/1 P:?/1',
    ],
    [
      'names no sub to a public client if only a pairwise client has the session',
      'p:up/1',
      'a:?/1 A:?/1 p:up/1 P:?/1',
    ],
    ['names each pairwise client’s own sub', 'A:u/1 p:up/1 P:uP/1', 'a:u/1 A:u/1 p:up/1 P:uP/1'],
    [
      'owes a delivery for each sub under which a client has the session',
      'A:u/1 A:v/1',
      'a:u/1 a:v/1 A:u/1 A:v/1 p:?/1 P:?/1',
    ],
    ['names no sub that is unknown', '', 'a:?/1 A:?/1 p:?/1 P:?/1'],
  ])('%s (%s)', (_, sessions, owed) => expect(planned(sessions)).toBe(owed))

  test('names the sub of a known session without any pairwise client, too', () => {
    expect(planned('a:u/1', {}, { pairwise: null, to: 'aA' })).toBe('a:u/1 A:u/1')
  })
})

describe('a logout of a session with its sub', () => {
  test.each([
    [
      'names the sub of the event to public clients and the sid alone to pairwise ones',
      '',
      'a:u/1 A:u/1 p:?/1 P:?/1',
    ],
    ['names a pairwise client’s own sub if it is known', 'p:up/1', 'a:u/1 A:u/1 p:up/1 P:?/1'],
    ['names the sub of a public client’s own session if it differs', 'a:w/1', 'a:w/1 A:u/1 p:?/1 P:?/1'],
  ])('%s (%s)', (_, sessions, owed) => expect(planned(sessions, { sub: 'u' })).toBe(owed))

  test('names a pairwise sub to no other client', () => {
    expect(planned('p:up/1', { sub: 'up' })).toBe('a:?/1 A:?/1 p:up/1 P:?/1')
    expect(planned('p:up/1 a:u/1', { sub: 'up' })).toBe('a:u/1 A:u/1 p:up/1 P:?/1')
  })

  test('names the sub of the event to the pairwise client that it is for', () => {
    expect(planned('', { sub: 'up', clients: ['p'] })).toBe('p:up/1')
    expect(planned('p:up/1', { sub: 'u', clients: ['p'] })).toBe('p:up/1')
    expect(planned('', { sub: 'u', clients: ['p', 'P'] })).toBe('p:?/1 P:?/1')
  })

  test('names the sub of a relayed token to its pairwise client only, also if the issuer widens', () => {
    const relayed = { clientId: 'p', token: 'x.y.z', verified: true }
    expect(planned('', { sub: 'up', relayed })).toBe('a:?/1 A:?/1 p:up/1 P:?/1')
    expect(planned('a:u/1 P:uP/1', { sub: 'up', relayed })).toBe('a:u/1 A:u/1 p:up/1 P:uP/1')
  })
})

describe('a logout of a subject', () => {
  test.each<[string, string, string, object?]>([
    [
      'names the sub of linked sessions to pairwise clients',
      'a:u/1 p:up/1! P:uP/1!',
      'a:u/* A:u/* p:up/* P:uP/*',
    ],
    [
      'names the sid of the event to a pairwise client without a known session',
      'a:u/1',
      'a:u/* A:u/* p:?/1 P:?/*',
      { sid: '1' },
    ],
    ['names nothing to a pairwise client of which nothing is known', 'a:u/1', 'a:u/* A:u/* p:?/* P:?/*'],
    [
      'names each earlier linked session if a later one is known',
      'a:u/1 p:up/1! p:up/2!+',
      'a:u/* A:u/* p:up/1 P:?/*',
    ],
    ['names a pairwise sub to no other client', 'p:up/1 a:u/1!', 'a:u/* A:u/* p:up/* P:?/*', { sub: 'up' }],
    [
      'names no sub to a public client if the event has a pairwise one',
      'p:up/1',
      'a:?/* A:?/* p:up/* P:?/*',
      { sub: 'up' },
    ],
  ])('%s (%s)', (_, sessions, owed, over = {}) => {
    expect(planned(sessions, { ...SUBJECT, ...over })).toBe(owed)
  })

  test('names the session and the sub of each client if the index is complete', () => {
    expect(planned('a:u/1 p:up/1! p:up/2!', SUBJECT, { use: 'complete' })).toBe('a:u/1 p:up/1 p:up/2')
  })

  test('names the sid to clients of an issuer that makes all of them pairwise, except those that say public', () => {
    const pairwise = pairwiseClients('pairwise', [['a' as ClientId, 'public']])
    expect(planned('', { sub: 'u' }, { pairwise, to: 'apA' })).toBe('a:u/1 A:?/1 p:?/1')
  })

  test('is narrowed to the earlier sessions under the client’s own sub', () => {
    const held = ['p:up/1!', 'p:up/2!+'].map(sessionOf)
    const event = { ...EVENT, ...SUBJECT } as LogoutEvent
    const narrowing = narrowingOf(event, bindingOf('p', 'either'), held, digest)
    const owed = narrowing.kind === 'narrowed' ? narrowing.owed : []
    expect(owed.map(({ delivery, own }) => [delivery.sid, own])).toEqual([['1', 'up']])
  })
})

// Every person has a public sub, and a pairwise one at each pairwise client.
const person = fc.constantFrom('u', 'v')
const subOf = (who: string, clientId: string) => (clientId.toLowerCase() === 'a' ? who : `${who}${clientId}`)
const session = fc.record({
  who: person,
  clientId: fc.constantFrom(...CLIENTS),
  sid: fc.constantFrom('1', '2'),
})

test('no client is ever named a sub that is neither public nor its own', () => {
  fc.assert(
    fc.property(
      ...[fc.array(session, { maxLength: 6 }), person, fc.constantFrom(...CLIENTS)],
      fc.record({
        scope: fc.constantFrom('session', 'subject'),
        named: fc.boolean(),
        how: fc.constantFrom('posted', 'relayed', 'addressed'),
        use: fc.constantFrom<SessionIndexUse>('off', 'partial', 'complete'),
      }),
      (all, who, clientId, { scope, named, how, use }) => {
        // The sid is a person's, and a posted event has the public sub.
        const sub = named || scope === 'subject' ? (how === 'posted' ? who : subOf(who, clientId)) : null
        const sessions = all
          .filter((each) => each.who === who)
          .map((each) => {
            const own = subOf(who, each.clientId)
            return sessionOf(`${each.clientId}:${own}/${each.sid}${own === sub ? '' : '!'}`)
          })
        const event = {
          ...{ ...EVENT, scope, sub, sid: scope === 'session' ? '1' : null },
          ...(how === 'relayed' && sub !== null && { relayed: { clientId, token: 'x', verified: true } }),
          ...(how === 'addressed' && { clients: [clientId] }),
        } as unknown as LogoutEvent
        const held = sessions.filter(({ sid }) => scope === 'subject' || sid === '1')
        const issuer = { bindings: BINDINGS, sessionIndex: use, pairwise: PAIRWISE }
        for (const { delivery } of plan(event, issuer, { kind: 'known', sessions: held }, digest)
          .deliveries) {
          const to = CLIENTS[delivery.bindingId] ?? ''
          expect([null, subOf(who, to)]).toContain(delivery.event.sub)
        }
      },
    ),
  )
})
