import fc from 'fast-check'
import { expect, test } from 'vitest'
import { unnotifiedAmong, type WithoutDelivery, whyUnnotified } from './unnotified.ts'

// Goal: no client with a known session is left out of the summary, and a client is left out only if the index shows that it holds
// none.
// Method: examples, then properties over every combination of facts.

const sessions = (over: object = {}) => ({ endAt: null, orphaned: true, ...over })
const registered = {
  ...{ clientId: 'wiki', clientName: 'Wiki', sessions: null },
  ...{ registered: true, hadEndpoint: true, hasEndpoint: true, indexComplete: false },
}
const withoutEndpoint = { ...registered, hadEndpoint: false, hasEndpoint: false }
const typo = { ...withoutEndpoint, registered: false, clientName: null }

test.each<[string, WithoutDelivery, ReturnType<typeof whyUnnotified>]>([
  ['a session at a client without an endpoint', { ...withoutEndpoint, sessions: sessions() }, 'no_endpoint'],
  ['a session at a client that is not registered', { ...typo, sessions: sessions() }, 'not_registered'],
  [
    'a session whose logout no endpoint was owed, at a client that has an endpoint since',
    { ...withoutEndpoint, hasEndpoint: true, sessions: sessions() },
    'no_endpoint',
  ],
  [
    'a session that was posted late, at a client with an endpoint',
    { ...registered, sessions: sessions({ orphaned: false }) },
    'not_yet',
  ],
  [
    'a session that was posted late, at a client without an endpoint',
    { ...withoutEndpoint, sessions: sessions({ orphaned: false }) },
    'no_endpoint',
  ],
  ['a named client that is not registered', typo, 'not_registered'],
  [
    'a named client that is not registered, with a complete index',
    { ...typo, indexComplete: true },
    'not_registered',
  ],
  ['a named client without an endpoint', withoutEndpoint, 'no_endpoint'],
  [
    'a named client whose endpoint is newer than the event',
    { ...withoutEndpoint, hasEndpoint: true },
    'no_endpoint',
  ],
  [
    'a named client without an endpoint that holds no session',
    { ...withoutEndpoint, indexComplete: true },
    null,
  ],
  ['a named client with an endpoint that holds no session', registered, null],
])('%s', (_, facts, why) => {
  expect(whyUnnotified(facts)).toBe(why)
})

test('every client with a session is found, and every client that is not registered', () => {
  const facts = fc.record({
    sessions: fc.option(fc.record({ endAt: fc.option(fc.date()), orphaned: fc.boolean() })),
    ...{ registered: fc.boolean(), hadEndpoint: fc.boolean(), hasEndpoint: fc.boolean() },
    indexComplete: fc.boolean(),
  })
  fc.assert(
    fc.property(facts, (given) => {
      const found = unnotifiedAmong([{ clientId: 'wiki', clientName: null, ...given }])
      if (given.sessions !== null || !given.registered) expect(found).toHaveLength(1)
      expect(found.map(({ holdsSession }) => holdsSession)).toEqual(found.map(() => given.sessions !== null))
    }),
  )
})
