import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { ClientId, Issuer, Sid, Subject } from '../ids.ts'
import { mergeStarts, netOf, type Session, type SessionChange, type SessionStart } from './session.ts'

// Goal: a batch applied as ends and then starts has the same effect as its changes one by one.
// Method: a model applies the changes one by one and is compared with netOf, over an index that is not empty.

const few = <Text extends string>(...names: string[]) => fc.constantFrom(...(names as Text[]))
const iss = few<Issuer>('https://a.example', 'https://b.example')
const sid = few<Sid>('s1', 's2')
const clientId = few<ClientId>('mail', 'wiki')
const time = fc.integer({ min: 1, max: 9 }).map((hour) => new Date(hour * 3_600_000))
const session: fc.Arbitrary<Session> = fc.record({
  iss,
  sub: few<Subject>('alice', 'bob'),
  sid,
  clientId,
  device: fc.option(fc.constantFrom('phone', 'laptop')),
  startedAt: time,
  startedStated: fc.boolean(),
  acceptedAt: time,
  expiresAt: fc.option(time),
})
const change: fc.Arbitrary<SessionChange> = fc.oneof(
  session.map((each) => ({ kind: 'started' as const, session: each })),
  fc.record({ iss, sid, clientId: fc.option(clientId) }).map((end) => ({ kind: 'ended' as const, end })),
)

type Index = Map<string, SessionStart>

function start(index: Index, each: SessionStart): void {
  const key = JSON.stringify([each.iss, each.sub, each.sid, each.clientId])
  const earlier = index.get(key)
  index.set(key, earlier === undefined ? each : mergeStarts(earlier, each))
}

function apply(index: Index, one: SessionChange): void {
  if (one.kind === 'started') {
    start(index, one.session)
    return
  }
  const { end } = one
  for (const [key, held] of index) {
    const matches = held.iss === end.iss && held.sid === end.sid
    if (matches && (end.clientId === null || end.clientId === held.clientId)) index.delete(key)
  }
}

test('ends followed by starts have the same effect as the changes one by one', () => {
  fc.assert(
    fc.property(fc.array(session), fc.array(change), (before, changes) => {
      const oneByOne: Index = new Map()
      const net: Index = new Map()
      for (const index of [oneByOne, net]) for (const each of before) start(index, each)
      for (const one of changes) apply(oneByOne, one)
      const { ends, starts } = netOf(changes)
      for (const end of ends) apply(net, { kind: 'ended', end })
      for (const each of starts) start(net, each)
      expect(net).toEqual(oneByOne)
    }),
    { numRuns: 1_000 },
  )
})

test('the starts contain every session of a client once, because a statement cannot write a row twice', () => {
  fc.assert(
    fc.property(fc.array(change), (changes) => {
      const { starts } = netOf(changes)
      const keys = starts.map((each) => JSON.stringify([each.iss, each.sub, each.sid, each.clientId]))
      expect(new Set(keys).size).toBe(keys.length)
    }),
  )
})

test.each<[string, readonly (number | null)[], number | null]>([
  ['the later of two ends counts', [9, 8], 9],
  ['a post without an end takes the end away', [9, null], null],
  ['a post with an end gives one to a session without', [null, 8], 8],
  ['an end that was taken away does not count again', [9, null, 8], 8],
  ['after it got an end, the later end counts', [null, 8, 7], 8],
  ['a post whose end had passed changes nothing', [null, -1], null],
])('of the posts of one session, %s', (_rule, hours, expected) => {
  const [template] = fc.sample(session, { numRuns: 1, seed: 1 })
  if (template === undefined) throw new Error('expected a session')
  const at = (hour: number | null) => (hour === null ? null : new Date(hour * 3_600_000))
  const starts = hours.map(
    (hour): SessionStart => ({
      ...template,
      acceptedAt: new Date(0),
      expiresAt: at(hour),
    }),
  )
  expect(starts.reduce(mergeStarts).expiresAt).toEqual(at(expected))
})

test('a session posted again keeps its first start, its latest restart, its latest end, its device and its tokens', () => {
  const one: Session = {
    ...{ iss: 'https://a.example' as Issuer, sub: 'alice' as Subject, sid: 's' as Sid },
    ...{ clientId: 'mail' as ClientId, device: 'phone' },
    ...{
      startedAt: new Date(1_000),
      startedStated: true,
      acceptedAt: new Date(1_500),
      expiresAt: new Date(9_000),
    },
  }
  const began = { startedAt: new Date(2_000), startedStated: false, acceptedAt: new Date(2_000) }
  const again = { ...one, ...began, device: null, expiresAt: new Date(8_000) }
  const both = { ...one, restarted: began }
  expect(mergeStarts(one, again)).toEqual(both)
  expect(mergeStarts(again, one)).toEqual(both)
  expect(mergeStarts(one, one)).toEqual(one)
  expect(mergeStarts(one, { ...again, device: 'laptop' }).device).toBe('laptop')
  const email = { email: 'alice@example.com' }
  expect(mergeStarts({ ...one, ...email }, again)).toMatchObject(email)
  expect(mergeStarts({ ...one, email: 'old@example.com' }, { ...again, ...email })).toMatchObject(email)
  expect(mergeStarts(one, again)).not.toHaveProperty('email')
  const tokens = { sealedTokens: 'sealed' }
  expect(mergeStarts({ ...one, ...tokens }, again)).toMatchObject(tokens)
  expect(mergeStarts({ ...one, sealedTokens: 'old' }, { ...again, ...tokens })).toMatchObject(tokens)
  expect(mergeStarts(one, again)).not.toHaveProperty('sealedTokens')
})
