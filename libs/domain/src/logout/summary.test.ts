import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { DELIVERY_STATES } from '../delivery/delivery.ts'
import { LEVELS, type Level } from '../delivery/level.ts'
import { type DeliveryProgress, type SummarizedDelivery, summarize } from './summary.ts'
import { ALL_NOTIFIED, type UnnotifiedClient, type UnnotifiedClients } from './unnotified.ts'

// Goal: the summary is true and plain. It never counts a session as ended that is not, never promises too much, and says where
// the person has to sign out.
// Method: examples of every sentence, then properties over random deliveries.

const NOW = new Date('2026-11-21T12:00:00Z')
const MINUTE_MS = 60_000
const inMinutes = (minutes: number) => new Date(NOW.getTime() + minutes * MINUTE_MS)

/** A delivery acknowledged at level done, unless `over` has another state. */
const delivery = (name: string, over: Partial<SummarizedDelivery> = {}): SummarizedDelivery => ({
  clientId: name.toLowerCase(),
  clientName: name,
  ...{ channel: 'backchannel', step: 'notify', fallbackFor: null, sid: null },
  state: 'acknowledged',
  level: over.state === undefined || over.state === 'acknowledged' ? 'done' : null,
  dueAt: null,
  attemptCount: 1,
  sessionEndsAt: null,
  coveredBy: null,
  ...over,
})
const pending = (minutes: number): DeliveryProgress => ({
  state: 'pending',
  level: null,
  dueAt: inMinutes(minutes),
  attemptCount: 3,
  sessionEndsAt: null,
})
const DEAD = { state: 'dead_lettered' } as const
const summary = (...deliveries: readonly SummarizedDelivery[]) =>
  summarize(deliveries, { now: NOW, knownIssuer: true, strategy: null, unnotified: ALL_NOTIFIED })
/** A client that holds a session and gets no delivery. */
const unnotified = (name: string, over: Partial<UnnotifiedClient> = {}): UnnotifiedClient => ({
  clientId: name.toLowerCase(),
  clientName: name,
  why: 'no_endpoint',
  holdsSession: true,
  sessionsEndAt: null,
  ...over,
})
const typo = (name: string) =>
  unnotified(name, { clientName: null, why: 'not_registered', holdsSession: false })
/** The summary of deliveries and of clients without a delivery. */
const summaryWith = (
  over: Partial<UnnotifiedClients>,
  deliveries: readonly SummarizedDelivery[] = [],
  knownIssuer = true,
) =>
  summarize(deliveries, { now: NOW, knownIssuer, strategy: null, unnotified: { ...ALL_NOTIFIED, ...over } })
const at = (name: string, level: Level) => delivery(name, { level })
/** A delivery by another channel, which may be the fallback for the back channel. */
const other = (name: string, over: Partial<SummarizedDelivery>) =>
  delivery(name, { channel: 'global_revocation', ...over })
const FALLBACK = { fallbackFor: 'backchannel' } as const
const five = ['Chat', 'Files', 'Mail', 'News', 'Shop'].map((name) => delivery(name))

describe('the text covers', () => {
  test.each<[string, readonly SummarizedDelivery[], string, string]>([
    ['several signed-out applications', five, 'complete', 'Signed out of all 5 applications.'],
    ['a single signed-out application', [delivery('Wiki')], 'complete', 'Signed out of Wiki.'],
    ['a logout without applications', [], 'complete', 'There was no application to sign out of.'],
    [
      'a session that had already ended',
      [delivery('Wiki', { state: 'lapsed' })],
      'complete',
      'Signed out of Wiki.',
    ],
    [
      'a dead letter whose session has since ended by itself',
      [delivery('Wiki', { ...DEAD, sessionEndsAt: inMinutes(-1) })],
      'complete',
      'Signed out of Wiki.',
    ],
    [
      'one application with a retry',
      [...five, delivery('Wiki', pending(8))],
      'in_progress',
      'Signed out of 5 of 6 applications. Wiki has not confirmed yet: it is tried again within 10 minutes.',
    ],
    [
      'an application that fetches its logouts',
      [...five, delivery('Wiki', { ...pending(60), state: 'offered' })],
      'in_progress',
      'Signed out of 5 of 6 applications. Wiki has not fetched the request to sign you out yet.',
    ],
    [
      'several applications with retries, by the latest time',
      [...five, delivery('Wiki', pending(8)), delivery('Time', pending(0.1))],
      'in_progress',
      'Signed out of 5 of 7 applications. Wiki and Time have not confirmed yet: they are tried again within 10 minutes.',
    ],
    [
      'a single application with a retry',
      [delivery('Wiki', pending(50))],
      'in_progress',
      'Wiki has not confirmed yet: it is tried again within an hour.',
    ],
    [
      'attempts under way',
      [
        delivery('Wiki', { state: 'in_flight', attemptCount: 0 }),
        delivery('Mail', { ...pending(0), attemptCount: 0 }),
      ],
      'in_progress',
      'Signed out of none of 2 applications yet. Signing out of Wiki and Mail is under way.',
    ],
    [
      'an unavailable application that has been due for long',
      [delivery('Wiki', pending(-5)), delivery('Mail')],
      'in_progress',
      'Signed out of 1 of 2 applications. Wiki has not confirmed yet: it is tried again as soon as possible.',
    ],
    [
      'a session that ends before the next attempt',
      [delivery('Wiki', { ...pending(30), sessionEndsAt: inMinutes(4) }), delivery('Mail')],
      'in_progress',
      'Signed out of 1 of 2 applications. Wiki ends by itself within 5 minutes.',
    ],
    [
      'a session that ends after the next attempt, by the attempt',
      [delivery('Wiki', { ...pending(4), sessionEndsAt: inMinutes(30) })],
      'in_progress',
      'Wiki has not confirmed yet: it is tried again within 5 minutes.',
    ],
    [
      'one dead letter',
      [...five, delivery('Wiki', DEAD)],
      'incomplete',
      'Signed out of 5 of 6 applications. Signing out of Wiki did not work: please sign out there, or close it.',
    ],
    [
      'several dead letters, some with sessions that end by themselves',
      [
        ...['Wiki', 'Mail', 'Chat', 'News'].map((name) => delivery(name, DEAD)),
        ...[90, 40].map((minutes) =>
          delivery(`In ${minutes}`, { ...DEAD, sessionEndsAt: inMinutes(minutes) }),
        ),
      ],
      'incomplete',
      'Signed out of none of 6 applications. Signing out of In 90 and In 40 did not work: their sessions end by themselves ' +
        'within 2 hours. Signing out of Wiki, Mail and 2 more did not work: please sign out there, or close them.',
    ],
    [
      'one retry and one dead letter',
      [delivery('Wiki', DEAD), delivery('Mail', pending(90))],
      'in_progress',
      'Signed out of none of 2 applications yet. Mail has not confirmed yet: it is tried again within 2 hours. ' +
        'Signing out of Wiki did not work: please sign out there, or close it.',
    ],
    [
      'an application that ended its own sessions only',
      [...five, at('Hub', 'partial')],
      'complete',
      'Signed out of all 6 applications. Signed out of Hub, but not of everything that it has signed you in to.',
    ],
    [
      'applications that have acknowledged but not finished',
      [...five, at('Wiki', 'begun'), at('Time', 'begun'), at('News feed', 'received')],
      'in_progress',
      'Signed out of 5 of 8 applications. News feed has received the request to sign you out. ' +
        'Wiki and Time have begun to sign you out.',
    ],
    [
      'a single application that has begun',
      [at('Wiki', 'begun')],
      'in_progress',
      'Wiki has begun to sign you out.',
    ],
    [
      'an application that cannot confirm',
      [delivery('Mail'), at('Wiki', 'unconfirmable')],
      'incomplete',
      'Signed out of 1 of 2 applications. You may still be signed in at Wiki: please sign out there, or close it.',
    ],
  ])('%s', (_, deliveries, status, text) => {
    expect(summary(...deliveries)).toMatchObject({ status, text })
  })

  test('an unregistered issuer, without success', () => {
    expect(summaryWith({}, [], false)).toMatchObject({
      status: 'incomplete',
      total: 0,
      text: 'It is not known which applications to sign out of.',
    })
  })

  test.each<[string, Partial<UnnotifiedClients>, readonly SummarizedDelivery[], string, string]>([
    [
      'an application without an endpoint',
      { clients: [unnotified('Wiki')] },
      [],
      'incomplete',
      'Wiki could not be notified: please sign out there, or close it.',
    ],
    [
      'applications without an endpoint, beside others',
      { clients: [unnotified('Wiki'), unnotified('Legacy', { why: 'not_registered' })] },
      five,
      'incomplete',
      'Signed out of 5 of 7 applications. Wiki and Legacy could not be notified: please sign out there, or close them.',
    ],
    [
      'an application without an endpoint while another one is retried',
      { clients: [unnotified('Wiki')] },
      [delivery('Mail', pending(8))],
      'in_progress',
      'Signed out of none of 2 applications yet. Mail has not confirmed yet: it is tried again within 10 minutes. ' +
        'Wiki could not be notified: please sign out there, or close it.',
    ],
    [
      'a client_id that is not registered',
      { clients: [typo('typo')] },
      [],
      'incomplete',
      'typo is not registered, so it was not notified: if you are signed in there, please sign out.',
    ],
    [
      'client_ids that are not registered, beside others',
      { clients: [typo('typo'), typo('oops')] },
      [delivery('Mail')],
      'incomplete',
      'Signed out of 1 of 3 applications. typo and oops are not registered, so they were not notified: ' +
        'if you are signed in there, please sign out.',
    ],
    [
      'a session that was posted late',
      { clients: [unnotified('Wiki', { why: 'not_yet' })] },
      [delivery('Mail')],
      'in_progress',
      'Signed out of 1 of 2 applications. Signing out of Wiki is under way.',
    ],
    [
      'the application that started the logout, alone',
      { initiator: { clientId: 'wiki', clientName: 'Wiki' } },
      [],
      'complete',
      'Wiki started the logout and was not notified. There was no other application to sign out of.',
    ],
    [
      'the application that started the logout, beside one other',
      { initiator: { clientId: 'wiki', clientName: null } },
      [delivery('Mail')],
      'complete',
      'Signed out of Mail. wiki started the logout and was not notified.',
    ],
    [
      'the application that started the logout, beside several others',
      { initiator: { clientId: 'https://rp.example/', clientName: null } },
      five,
      'complete',
      'Signed out of all 5 applications. The application that started the logout was not notified.',
    ],
    [
      'more sessions than the ledger reads',
      { complete: false },
      five,
      'incomplete',
      'Signed out of all 5 applications. There may be more applications to sign out of.',
    ],
  ])('%s', (_, over, deliveries, status, text) => {
    expect(summaryWith(over, deliveries)).toMatchObject({ status, text })
  })

  test('an unregistered issuer whose clients hold sessions', () => {
    const initiator = { clientId: 'mail', clientName: null }
    expect(
      summaryWith({ clients: [unnotified('Wiki', { why: 'not_registered' })], initiator }, [], false),
    ).toMatchObject({
      status: 'incomplete',
      total: 1,
      text: 'Wiki could not be notified: please sign out there, or close it. mail started the logout and was not notified.',
    })
    expect(summaryWith({ initiator }, [], false)).toMatchObject({
      status: 'incomplete',
      text: 'mail started the logout and was not notified. It is not known which other applications to sign out of.',
    })
  })

  test.each([
    [['Wiki', 'Mail', 'Chat'], 'Wiki, Mail and Chat'],
    [['Wiki', 'Mail', 'Chat', 'News', 'Shop'], 'Wiki, Mail and 3 more'],
    [['Wiki', 'https://rp.example/'], 'Wiki and 1 more'],
    [['urn:rp:1', '01938c2e-0000-7000-8000-000000000001'], '2 applications'],
    [['01938c2e-0000-7000-8000-000000000001'], '1 application'],
    [['Wi\u0000ki\n\u202e'], 'Wi ki'],
    [['x'.repeat(100)], `${'x'.repeat(59)}…`],
  ])('the applications %j by name', (clientIds, named) => {
    const { text } = summary(
      ...clientIds.map((id) => ({ ...delivery('', DEAD), clientId: id, clientName: null })),
    )
    expect(text).toContain(`Signing out of ${named} did not work`)
  })
})

describe('with the strategy revoke_then_notify', () => {
  const revoking = (name: string, over: Partial<SummarizedDelivery> = {}) =>
    delivery(name, { channel: 'cutoff', step: 'revoke', level: 'received', ...over })
  const offered = { state: 'offered', level: null, dueAt: inMinutes(60) } as const
  const withStrategy = (...deliveries: readonly SummarizedDelivery[]) =>
    summarize(deliveries, {
      ...{ now: NOW, knownIssuer: true, strategy: 'revoke_then_notify', unnotified: ALL_NOTIFIED },
    })

  test.each<[readonly SummarizedDelivery[], string, string]>([
    [[delivery('Wiki')], '0/0 1/1', 'Signed out of Wiki.'],
    [
      [delivery('Wiki'), revoking('Wiki')],
      '1/1 1/1',
      'Your access was revoked. Wiki has received the request to sign you out.',
    ],
    [
      [delivery('Wiki'), revoking('Orders', offered)],
      '0/1 1/1',
      'Your access is being revoked. Signed out of 1 of 2 applications. Orders has not fetched the request to sign you out yet.',
    ],
    [
      [revoking('Orders'), revoking('Users', offered)],
      '1/2 0/0',
      'Your access was revoked at 1 of 2 places. Signed out of none of 2 applications yet. Orders has received the request to sign you out. Users has not fetched the request to sign you out yet.',
    ],
    [
      [revoking('Orders', { state: 'lapsed', level: null }), delivery('Wiki', DEAD)],
      '1/1 0/1',
      'Your access was revoked. Signed out of 1 of 2 applications. Signing out of Wiki did not work: please sign out there, or close it.',
    ],
  ])('%#: the steps are %s', (deliveries, expected, text) => {
    const { steps, text: said } = withStrategy(...deliveries)
    const shown = [steps?.revoke, steps?.notify].map((step) => `${step?.done}/${step?.total}`).join(' ')
    expect([shown, said]).toEqual([expected, text])
  })

  test('only it has steps', () => {
    expect(summary(revoking('Orders'))).toMatchObject({ steps: null })
  })
})

describe('an application', () => {
  const only = (...deliveries: readonly SummarizedDelivery[]) => summary(...deliveries).applications[0]

  test('counts once for several endpoints and sessions, with the progress of the last', () => {
    const [signedOut, ending, dead] = [delivery('Wiki'), delivery('Wiki', pending(1)), delivery('Wiki', DEAD)]
    const later = delivery('Wiki', pending(100))
    expect(summary(signedOut, ending, later)).toMatchObject({ signedOut: 0, total: 1, status: 'in_progress' })
    expect(only(later, signedOut, ending)).toMatchObject({ state: 'ending', withinS: 7_200 })
    expect(only(ending, dead, signedOut)).toMatchObject({ state: 'not_signed_out', withinS: null })
    expect(only(signedOut, signedOut)).toMatchObject({ state: 'signed_out', withinS: null })
  })

  test('with a superseded delivery has the progress of the newer one', () => {
    const covered = (coveredBy: DeliveryProgress | null) =>
      only(delivery('Wiki', { state: 'superseded', coveredBy }))
    expect(covered(delivery(''))).toMatchObject({ state: 'signed_out' })
    expect(covered(delivery('', DEAD))).toMatchObject({ state: 'not_signed_out' })
    expect(covered(pending(4))).toMatchObject({ state: 'ending', withinS: 300 })
    expect(covered(null)).toMatchObject({ state: 'ending', withinS: null })
  })

  test('with several channels has the progress of its weakest required channel', () => {
    expect(only(delivery('Wiki'), other('Wiki', { level: 'begun' }))).toMatchObject({
      ...{ state: 'ending', level: 'begun', withinS: null },
    })
    expect(only(delivery('Wiki', pending(1)), other('Wiki', { level: 'begun' }))).toMatchObject({
      ...{ state: 'ending', level: null, withinS: 120 },
    })
    expect(only(at('Wiki', 'unconfirmable'), other('Wiki', pending(1)))).toMatchObject({
      ...{ state: 'not_signed_out', level: null },
    })
    expect(only(delivery('Wiki'), other('Wiki', DEAD))).toMatchObject({
      state: 'not_signed_out',
      level: null,
    })
  })

  test('with a dead letter has the progress of the fallback', () => {
    const dead = delivery('Wiki', DEAD)
    expect(only(dead, other('Wiki', { ...FALLBACK, level: 'begun' }))).toMatchObject({
      ...{ state: 'ending', level: 'begun' },
    })
    expect(only(dead, other('Wiki', { ...FALLBACK, ...pending(1) }))).toMatchObject({
      state: 'ending',
      level: null,
    })
    expect(only(dead, other('Wiki', { ...FALLBACK, ...DEAD }))).toMatchObject({ state: 'not_signed_out' })
    expect(only(delivery('Wiki'), other('Wiki', { ...FALLBACK, ...DEAD }))).toMatchObject({
      ...{ state: 'signed_out', level: 'done' },
    })
  })

  test('is not signed out while its fallback has ended only one of two sessions', () => {
    const sessions = ['one', 'two'].map((sid) => ({ sid, ...DEAD }))
    const dead = sessions.map((session) => delivery('Wiki', session))
    const fallback = (sid: string) => other('Wiki', { ...FALLBACK, sid })
    expect(only(...dead, fallback('one'))).toMatchObject({ state: 'not_signed_out', level: null })
    expect(only(...dead, fallback('one'), fallback('two'))).toMatchObject({
      state: 'signed_out',
      level: 'done',
    })
  })

  test('without an endpoint says when its session ends by itself, and why it is not notified', () => {
    const sessionsEndAt = inMinutes(50)
    const { applications } = summaryWith({
      clients: [unnotified('Wiki', { sessionsEndAt }), unnotified('Time'), typo('typo')],
    })
    expect(applications).toMatchObject([
      { state: 'not_signed_out', level: null, withinS: 3_600, byItself: true, notNotified: 'no_endpoint' },
      { state: 'not_signed_out', withinS: null, byItself: false, notNotified: 'no_endpoint' },
      { state: 'not_signed_out', withinS: null, byItself: false, notNotified: 'not_registered' },
    ])
  })

  test('without a registered name has its client_id as name, and a text without it', () => {
    const unnamed = { ...delivery('', pending(1)), clientId: 'https://rp.example/', clientName: null }
    expect(only(unnamed)).toEqual({
      clientId: 'https://rp.example/',
      name: 'https://rp.example/',
      state: 'ending',
      level: null,
      withinS: 120,
      byItself: false,
      notNotified: null,
      text: 'The application has not confirmed yet: it is tried again within 2 minutes.',
    })
  })
})

const ends = fc
  .tuple(fc.constantFrom(...DELIVERY_STATES), fc.constantFrom(...LEVELS))
  .map(([state, level]) => ({ state, level: state === 'acknowledged' ? level : null }))
const times = fc.record({
  dueAt: fc.option(fc.integer({ min: -100, max: 5_000 }).map(inMinutes)),
  attemptCount: fc.nat(20),
  sessionEndsAt: fc.option(fc.integer({ min: -10, max: 50_000 }).map(inMinutes)),
})
const progresses = fc.tuple(ends, times).map(([end, time]) => ({ ...end, ...time }))
const channels = fc.record({
  channel: fc.constantFrom('backchannel', 'global_revocation', 'saml'),
  step: fc.constantFrom('revoke', 'notify'),
  fallbackFor: fc.option(fc.constantFrom('backchannel', 'global_revocation')),
  sid: fc.option(fc.constantFrom('one', 'two')),
})
const BUG = /undefined|null|NaN|Infinity/
const names = fc
  .oneof(fc.webUrl(), fc.uuid(), fc.string(), fc.constantFrom('Wiki', 'Mail', 'Chat'))
  .filter((name) => !BUG.test(name))
const summarized: fc.Arbitrary<SummarizedDelivery> = fc
  .tuple(progresses, channels, names, fc.option(names), fc.option(progresses))
  .map(([progress, channel, clientId, clientName, coveredBy]) => ({
    ...{ ...progress, ...channel, clientId, clientName, coveredBy },
  }))

const withoutDelivery: fc.Arbitrary<UnnotifiedClients> = fc.record({
  clients: fc.uniqueArray(
    fc.record({
      clientId: names.map((name) => `without ${name}`),
      clientName: fc.option(names),
      why: fc.constantFrom('not_registered', 'no_endpoint', 'not_yet'),
      holdsSession: fc.boolean(),
      sessionsEndAt: fc.option(fc.integer({ min: -10, max: 50_000 }).map(inMinutes)),
    }),
    { maxLength: 5, selector: ({ clientId }) => clientId },
  ),
  initiator: fc.option(fc.record({ clientId: names, clientName: fc.option(names) })),
  complete: fc.boolean(),
})

test('no summary overstates the progress, leaves out an application, or contains an address or an id', () => {
  fc.assert(
    fc.property(fc.array(summarized, { maxLength: 12 }), fc.boolean(), withoutDelivery, (...given) => {
      const [deliveries, knownIssuer, unnotified] = given
      const { status, signedOut, total, text, applications, initiator } = summarize(deliveries, {
        ...{ now: NOW, knownIssuer, strategy: null, unnotified },
      })
      const isOver = ({ state, level, sessionEndsAt, coveredBy }: SummarizedDelivery) => {
        const end = state === 'superseded' ? coveredBy : { state, level }
        const acknowledged =
          end?.state === 'acknowledged' && (end.level === 'done' || end.level === 'partial')
        return acknowledged || end?.state === 'lapsed' || (sessionEndsAt !== null && sessionEndsAt <= NOW)
      }
      const clients = Map.groupBy(deliveries, ({ clientId }) => clientId)
      const without = new Map(unnotified.clients.map((client) => [client.clientId, client]))
      expect(applications.map(({ clientId }) => clientId)).toEqual([...clients.keys(), ...without.keys()])
      for (const { clientId, state } of applications) {
        const own = clients.get(clientId)
        const left = without.get(clientId)
        if (left !== undefined) expect(state).toBe(left.why === 'not_yet' ? 'ending' : 'not_signed_out')
        if (own === undefined) continue
        if (own.every(isOver)) expect(state).toBe('signed_out')
        // Without fallbacks, an application is signed out exactly if all its deliveries are over.
        if (own.every(({ fallbackFor }) => fallbackFor === null))
          expect(state === 'signed_out').toBe(own.every(isOver))
        if (!own.some(isOver)) expect(state).not.toBe('signed_out')
      }
      expect(signedOut).toBe(applications.filter(({ state }) => state === 'signed_out').length)
      expect(total).toBe(clients.size + without.size)
      if (total > 0)
        expect(status === 'complete').toBe(
          signedOut === total && unnotified.complete && (knownIssuer || deliveries.length > 0),
        )
      if (status === 'complete') expect([...without.keys(), !unnotified.complete]).toEqual([false])
      expect(initiator?.clientId).toBe(unnotified.initiator?.clientId)
      if (initiator !== null) expect(text).toMatch(/started the logout (and )?was not notified\./)
      for (const sentences of [text, ...applications.map((application) => application.text)]) {
        expect(sentences).not.toMatch(/:\/\/|[0-9a-f]{8}-[0-9a-f]{4}-/i)
        expect(sentences).toMatch(/^\S.*\.$/)
        expect(sentences).not.toMatch(BUG)
      }
    }),
    { numRuns: 1_000 },
  )
})
