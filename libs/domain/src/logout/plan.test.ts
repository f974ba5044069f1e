import { hash } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { BindingId, ClientId, Digest, EventId, GivenEventId, Issuer, Sid, Subject } from '../ids.ts'
import type { Binding } from '../registry/binding.ts'
import type { SessionIndexUse } from '../session/session.ts'
import { type LogoutEvent, widened } from './event.ts'
import { type KnownSessions, plan } from './plan.ts'
import type { LiveSession } from './session-match.ts'

const digest: Digest = (text) => hash('sha256', text)
const bindingOf = (clientId: string, id: number) =>
  ({
    id,
    clientId,
    kind: 'backchannel',
    fallbackFor: null,
    offer: null,
    disabledReason: null,
  }) as unknown as Binding
const BINDINGS = ['shop', 'mail', 'wiki'].map(bindingOf)
const EVENT: LogoutEvent = {
  id: '01938c2e-0000-8000-8000-000000000001' as EventId,
  givenId: '01938c2e-0000-7000-8000-000000000001' as GivenEventId,
  iss: 'https://idp.example' as Issuer,
  scope: 'session',
  sid: 's1' as Sid,
  sub: 'u1' as Subject,
  reason: null,
  initiator: null,
  includeInitiator: false,
  clients: null,
  lane: 'interactive',
  occurredAt: new Date('2026-11-21T12:00:00Z'),
  acceptedAt: new Date('2026-11-21T12:00:00Z'),
}
const clients = (...names: string[]) => names as unknown as readonly ClientId[]
const SILENT: KnownSessions = { kind: 'silent' }
const issuerOf = (bindings: readonly Binding[], sessionIndex: SessionIndexUse = 'partial') => ({
  bindings,
  sessionIndex,
})
/** The deliveries of a plan without knowledge of the session index. */
const planned = (event: LogoutEvent, bindings: readonly Binding[] = BINDINGS) =>
  plan(event, issuerOf(bindings), SILENT, digest).deliveries.map(({ delivery }) => delivery)
const plannedClients = (over: Partial<LogoutEvent>) =>
  planned({ ...EVENT, ...over } as LogoutEvent).map(
    ({ bindingId }) => BINDINGS.find(({ id }) => id === bindingId)?.clientId,
  )

describe('plan', () => {
  test.each<[string, Partial<LogoutEvent>, string[]]>([
    ['every registered client', {}, ['shop', 'mail', 'wiki']],
    ['every client except the initiator', { initiator: 'shop' as ClientId }, ['mail', 'wiki']],
    [
      'the initiator as well if the event includes it',
      { initiator: 'shop' as ClientId, includeInitiator: true },
      ['shop', 'mail', 'wiki'],
    ],
    [
      'every client if the initiator is unregistered',
      { initiator: 'x' as ClientId },
      ['shop', 'mail', 'wiki'],
    ],
    ['only the named clients', { clients: clients('wiki', 'shop') }, ['shop', 'wiki']],
    ['only the registered ones of the named clients', { clients: clients('wiki', 'gone') }, ['wiki']],
    [
      'the named clients except the initiator',
      { clients: clients('wiki', 'shop'), initiator: 'shop' as ClientId },
      ['wiki'],
    ],
    ['no client if none of the named ones is registered', { clients: clients('gone') }, []],
  ])('owes %s', (_, over, expected) => {
    expect(plannedClients(over)).toEqual(expected)
  })

  test('distinguishes an unknown issuer from an issuer without relying parties', () => {
    expect(plan(EVENT, null, SILENT, digest)).toMatchObject({ basis: 'unknown_issuer', deliveries: [] })
    expect(plan(EVENT, issuerOf([]), SILENT, digest)).toMatchObject({ basis: 'registered', deliveries: [] })
  })

  test('BCL-12: a session logout names the session; a subject logout names none, not even its own sid', () => {
    expect(planned(EVENT).map(({ sid }) => sid)).toEqual(['s1', 's1', 's1'])
    const subjectWide = { ...EVENT, scope: 'subject' } as LogoutEvent
    expect(planned(subjectWide).map(({ sid }) => sid)).toEqual([null, null, null])
  })

  test('a new delivery has no attempts', () => {
    expect(planned(EVENT)[0]).toMatchObject({
      state: 'in_flight',
      attempts: 0,
      retries: 0,
      refusals: 0,
      eventId: EVENT.id,
    })
  })

  test('planning twice gives the same ids, one for each binding; another event gives other ids', () => {
    const many = fc.uniqueArray(fc.integer({ min: 1 }), { maxLength: 40 })
    fc.assert(
      fc.property(many, fc.uuid(), fc.uuid(), (ids, one, other) => {
        fc.pre(one !== other)
        const bindings = ids.map((id) => bindingOf(`client ${id}`, id))
        const idsOf = (id: string) =>
          planned({ ...EVENT, id: id as EventId }, bindings).map((delivery) => delivery.id)
        expect(idsOf(one)).toEqual(idsOf(one))
        expect(new Set([...idsOf(one), ...idsOf(other)]).size).toBe(2 * ids.length)
      }),
    )
  })

  test('owes every client that is neither the initiator nor left out by name', () => {
    fc.assert(
      fc.property(
        fc.uniqueArray(fc.constantFrom(...'abcdef')),
        fc.option(fc.constantFrom(...'abcdef')),
        fc.option(fc.uniqueArray(fc.constantFrom(...'abcdef'), { minLength: 1 })),
        fc.boolean(),
        (registered, initiator, named, includeInitiator) => {
          const event = { ...EVENT, initiator, clients: named, includeInitiator } as unknown as LogoutEvent
          const bindings = registered.map(bindingOf)
          const owed = registered.filter(
            (name) => (named === null || named.includes(name)) && (name !== initiator || includeInitiator),
          )
          expect(planned(event, bindings).length).toBe(owed.length)
        },
      ),
    )
  })
})

test('delivery ids do not depend on the order of registration', () => {
  const forwards = planned(EVENT)
  const backwards = planned(EVENT, [...BINDINGS].reverse())
  const byBinding = (id: BindingId) => backwards.find(({ bindingId }) => bindingId === id)
  expect(forwards.map(({ bindingId }) => byBinding(bindingId)?.id)).toEqual(forwards.map(({ id }) => id))
})

describe('a relayed event', () => {
  const relayed = { clientId: 'mail' as ClientId, token: 't', verified: true }
  const event = { ...EVENT, relayed, clients: clients('mail') }
  const owedBy = (widen: boolean, known: KnownSessions = SILENT) =>
    plan(widened(event, { widen }), issuerOf(BINDINGS), known, digest).deliveries

  test('is about the client of its token', () => {
    expect(owedBy(false).map(({ delivery, dueAt }) => [delivery.bindingId, dueAt])).toEqual([[1, undefined]])
  })

  test('is about all clients of an issuer that widens, and the others wait for tokens of their own', () => {
    const later = new Date(EVENT.acceptedAt.getTime() + 2_000)
    expect(owedBy(true).map(({ delivery, dueAt }) => [delivery.bindingId, dueAt])).toEqual([
      ...[[0, later] as const, [1, undefined] as const, [2, later] as const],
    ])
  })

  test('is not widened if it was posted', () => {
    expect(widened({ ...EVENT, clients: clients('mail') }, { widen: true }).clients).toEqual(['mail'])
  })
})

test('a delivery for one session knows when the session was last posted', () => {
  const acceptedAt = new Date('2026-11-21T11:00:00Z')
  const session = {
    ...{ clientId: 'mail' as ClientId, sid: EVENT.sid, sub: EVENT.sub, device: null, startedStated: false },
    ...{ startedAt: acceptedAt, acceptedAt, expiresAt: new Date('2026-11-22T00:00:00Z') },
  } as LiveSession
  const { deliveries } = plan(EVENT, issuerOf(BINDINGS), { kind: 'known', sessions: [session] }, digest)
  expect(deliveries.map(({ postedAt }) => postedAt)).toEqual([undefined, acceptedAt, undefined])
})
