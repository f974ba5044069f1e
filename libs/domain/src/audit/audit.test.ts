import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { DELIVERY_STATES } from '../delivery/delivery.ts'
import { LEVELS } from '../delivery/level.ts'
import {
  AUDIT_BEGUN,
  AUDIT_OBSTACLES,
  type AuditFact,
  type AuditState,
  advanceAudit,
  auditPauseMs,
  concludeAudit,
  hasEnded,
  summarizeAuditDeliveries,
  wasSent,
} from './audit.ts'
import { readCheck } from './setup.ts'
import { describeAudit } from './words.ts'

const LIMITS = { timeoutMs: 60_000, watchMs: 2_000 }
const ACKNOWLEDGED = { state: 'acknowledged', level: 'done' } as const

const checked = (
  says: 'logged_in' | 'logged_out' | 'unclear',
  atMs: number,
  refreshedMs: number | null = null,
  startedMs = atMs,
): AuditFact => ({ kind: 'checked', says, startedMs, atMs, refreshedMs })
const after = (...facts: readonly AuditFact[]): AuditState =>
  facts.reduce<AuditState>((state, fact) => advanceAudit(state, fact, LIMITS), AUDIT_BEGUN)
const alive = [checked('logged_in', 0), { kind: 'accepted', atMs: 100 }] as const

describe('an audit', () => {
  test('passes when the session is over in time and stays over', () => {
    const state = after(
      ...alive,
      checked('logged_in', 200),
      checked('logged_out', 350),
      checked('logged_out', 2_350),
    )
    expect(state).toEqual({ phase: 'over', acceptedMs: 100, overMs: 350 })
  })

  test('waits after the last refresh, and not only after the first answer that says logged out', () => {
    const watching = [...alive, checked('logged_out', 350)] as const
    expect(after(...watching, checked('logged_out', 9_000, Number.POSITIVE_INFINITY)).phase).toBe('watching')
    expect(after(...watching, checked('logged_out', 9_000, 7_001)).phase).toBe('watching')
    expect(after(...watching, checked('logged_out', 9_001, 7_001)).phase).toBe('over')
  })

  test('fails when the session outlives its time, even if it ends later', () => {
    for (const says of ['logged_in', 'logged_out'] as const)
      expect(after(...alive, checked(says, 60_351))).toEqual({ phase: 'survived', revived: false })
    expect(after(...alive, checked('logged_out', 60_100)).phase).toBe('watching')
  })

  test('judges an answer by the time at which its check was sent', () => {
    const slow = (says: 'logged_in' | 'logged_out' | 'unclear') => checked(says, 66_000, null, 60_000)
    expect(after(...alive, slow('logged_out')).phase).toBe('watching')
    expect(after(...alive, slow('logged_in')).phase).toBe('ending')
    // Whether the session was over in time is unknown.
    expect(after(...alive, slow('unclear'), checked('logged_out', 70_000))).toEqual({
      phase: 'stopped',
      reason: 'check_unclear',
    })
  })

  test('checks the session at the end of its time', () => {
    const ending = after(...alive, checked('logged_in', 59_500))
    const limits = { timeoutMs: LIMITS.timeoutMs, nowMs: 59_500 }
    expect(auditPauseMs(50, ending, limits)).toBe(600)
    expect(auditPauseMs(50, ending, { ...limits, nowMs: 60_100 })).toBe(1_000)
    expect(after(...alive, checked('logged_in', 60_100)).phase).toBe('survived')
  })

  test('fails when the session comes back', () => {
    const state = after(
      ...alive,
      checked('logged_out', 350),
      checked('unclear', 400),
      checked('logged_in', 500),
    )
    expect(state).toEqual({ phase: 'survived', revived: true })
  })

  test('is inconclusive without a session, or with unclear answers', () => {
    const stopped = (reason: string) => ({ phase: 'stopped', reason })
    expect(after(checked('logged_out', 0))).toEqual(stopped('not_logged_in'))
    expect(after(checked('unclear', 0))).toEqual(stopped('check_unclear'))
    expect(after(...alive, checked('unclear', 60_101))).toEqual(stopped('check_unclear'))
    expect(after(...alive, checked('logged_out', 350), checked('unclear', 62_351))).toEqual(
      stopped('check_unclear'),
    )
  })
})

describe('the outcome of a surviving session', () => {
  const conclude = (
    revived: boolean,
    refreshes: boolean,
    delivery: Parameters<typeof concludeAudit>[1]['delivery'],
  ) => concludeAudit({ phase: 'survived', revived }, { delivery, sent: true, refreshes }).reason
  test.each([
    [false, false, ACKNOWLEDGED, 'session_survived'],
    [false, true, ACKNOWLEDGED, 'session_survived'],
    [true, false, ACKNOWLEDGED, 'session_survived'],
    [true, true, ACKNOWLEDGED, 'revived_by_refresh'],
    [false, true, { state: 'pending', level: null }, 'not_delivered'],
    [false, false, { state: 'dead_lettered', level: null }, 'not_delivered'],
    [false, false, null, 'not_delivered'],
  ] as const)('revived %s, refreshes %s, delivery %o: %s', (revived, refreshes, delivery, reason) => {
    expect(conclude(revived, refreshes, delivery)).toBe(reason)
  })
})

test.each([
  [[], false],
  [[{ state: 'pending', attempts: 0 }], false],
  [[{ state: 'dead_lettered', attempts: 0 }], false],
  [[{ state: 'lapsed', attempts: 0 }], false],
  [[{ state: 'pending', attempts: 1 }], true],
  [[{ state: 'in_flight', attempts: 0 }], true],
  [[{ state: 'superseded', attempts: 0 }], true],
] as const)('a session that is over after the deliveries %o: passed %s', (deliveries, passes) => {
  const over = { phase: 'over', acceptedMs: 0, overMs: 10 } as const
  expect(concludeAudit(over, { delivery: null, sent: wasSent(deliveries), refreshes: false })).toEqual(
    passes ? { result: 'passed', reason: null } : { result: 'inconclusive', reason: 'ended_otherwise' },
  )
})

const facts = fc.oneof(
  fc.record({
    kind: fc.constant('checked' as const),
    says: fc.constantFrom('logged_in' as const, 'logged_out' as const, 'unclear' as const),
    gapMs: fc.integer({ min: 0, max: 40_000 }),
    refreshed: fc.constantFrom(null, 'now' as const, 'never' as const),
  }),
  fc.record({ kind: fc.constant('accepted' as const), gapMs: fc.integer({ min: 0, max: 100 }) }),
  fc.record({
    kind: fc.constant('hindered' as const),
    gapMs: fc.constant(0),
    reason: fc.constantFrom(...AUDIT_OBSTACLES),
  }),
)

/** Facts with times that grow. */
const histories = fc.array(facts, { maxLength: 30 }).map((given) => {
  let atMs = 0
  return given.map((fact): AuditFact => {
    atMs += fact.gapMs
    if (fact.kind === 'hindered') return { kind: 'hindered', reason: fact.reason }
    if (fact.kind === 'accepted') return { kind: 'accepted', atMs }
    const refreshedMs =
      fact.refreshed === null ? null : fact.refreshed === 'now' ? atMs : Number.POSITIVE_INFINITY
    return { kind: 'checked', says: fact.says, startedMs: atMs, atMs, refreshedMs }
  })
})

test('a passed audit saw the session alive before the logout, and over in time, and never alive after that', () => {
  fc.assert(
    fc.property(histories, (history) => {
      const state = after(...history)
      if (state.phase !== 'over') return
      const accepted = history.findIndex(({ kind }, at) => kind === 'accepted' && at > 0)
      const before = history.slice(0, accepted).filter(({ kind }) => kind === 'checked')
      expect(before[0]).toMatchObject({ says: 'logged_in' })
      expect(state.overMs - state.acceptedMs).toBeLessThanOrEqual(LIMITS.timeoutMs + 250)
      expect(state.overMs).toBeGreaterThanOrEqual(state.acceptedMs)
    }),
  )
})

test('an ended audit is changed by no fact, and every ended audit has an outcome with words', () => {
  const deliveries = fc.array(
    fc.record({
      state: fc.constantFrom(...DELIVERY_STATES),
      level: fc.constantFrom(null, ...LEVELS),
      attempts: fc.nat(3),
    }),
    { maxLength: 4 },
  )
  fc.assert(
    fc.property(histories, histories, deliveries, fc.boolean(), (first, second, owed, refreshes) => {
      const state = after(...first)
      if (!hasEnded(state)) return
      expect(second.reduce<AuditState>((now, fact) => advanceAudit(now, fact, LIMITS), state)).toEqual(state)
      const delivery = summarizeAuditDeliveries(owed)
      const outcome = concludeAudit(state, { delivery, sent: wasSent(owed), refreshes })
      const words = describeAudit({
        ...{ outcome, delivery, timeoutS: 60, hindrance: null },
        propagationMs: state.phase === 'over' ? state.overMs - state.acceptedMs : null,
      })
      expect(words.what).toMatch(/^[A-Z].*\.$/)
      expect(words.what).not.toContain('{')
      expect(words.fix === null).toBe(outcome.result === 'passed')
    }),
  )
})

test('with checks at its own pace, an audit ends soon after its time', () => {
  const says = fc.array(fc.constantFrom('logged_in' as const, 'logged_out' as const, 'unclear' as const), {
    minLength: 1,
    maxLength: 20,
  })
  fc.assert(
    fc.property(says, (answers) => {
      let state = after(...alive)
      let atMs = 100
      for (let checks = 0; !hasEnded(state) && atMs < 1_000_000; checks++) {
        atMs += auditPauseMs(checks, state, { timeoutMs: LIMITS.timeoutMs, nowMs: atMs })
        state = advanceAudit(state, checked(answers[checks % answers.length] ?? 'unclear', atMs, 300), LIMITS)
      }
      expect(hasEnded(state)).toBe(true)
      expect(atMs).toBeLessThan(2 * LIMITS.timeoutMs + LIMITS.watchMs + 3_000)
    }),
  )
})

test.each([
  [{ status: 200, location: null }, undefined, 'logged_in'],
  [{ status: 401, location: null }, 'https://idp.example/', 'logged_out'],
  [{ status: 302, location: 'https://idp.example/auth' }, undefined, 'logged_out'],
  [{ status: 302, location: 'https://idp.example/auth' }, 'https://idp.example/', 'logged_out'],
  [{ status: 302, location: 'https://shop.example/home' }, 'https://idp.example/', 'unclear'],
  [{ status: 302, location: null }, 'https://idp.example/', 'unclear'],
  [{ status: 500, location: null }, undefined, 'unclear'],
  [null, undefined, 'unclear'],
] as const)('the answer %o with the prefix %s says %s', (answer, prefix, says) => {
  const check = {
    logged_in: { status: [200] },
    logged_out: { status: [401, 302] },
    ...(prefix !== undefined && { location_prefix: prefix }),
  }
  expect(readCheck(check, answer)).toBe(says)
})

test.each([
  [[], null],
  [[{ state: 'acknowledged', level: 'done' }], ACKNOWLEDGED],
  [
    [
      { state: 'acknowledged', level: 'done' },
      { state: 'acknowledged', level: 'received' },
    ],
    { state: 'acknowledged', level: 'received' },
  ],
  [
    [
      { state: 'acknowledged', level: 'done' },
      { state: 'in_flight', level: null },
    ],
    { state: 'pending', level: null },
  ],
  [
    [
      { state: 'dead_lettered', level: null },
      { state: 'pending', level: null },
    ],
    { state: 'dead_lettered', level: null },
  ],
  [[{ state: 'superseded', level: null }], { state: 'superseded', level: null }],
] as const)('deliveries %o are %o together', (deliveries, together) => {
  expect(summarizeAuditDeliveries(deliveries)).toEqual(together)
})
