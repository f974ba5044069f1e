import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { Sid } from '../ids.ts'
import type { Binding } from '../registry/binding.ts'
import {
  disablesBinding,
  type InFlightDelivery,
  type Settlement,
  settle,
  type Tries,
  undeliverable,
} from './delivery.ts'
import type { AttemptOutcome, ErrorText } from './outcome.ts'
import { DEFAULT_RETRY_POLICY, type RetryPolicy } from './retry.ts'

// Goal: every outcome settles as the table of answers says, and every delivery ends, for any policy, answer and random number.
// Method: one example for each row of the table, then properties over random policies and outcomes.

const NOW = new Date('2026-11-21T12:00:00Z')
const SECOND = 1_000
const HOUR = 3_600 * SECOND
const NO_JITTER = { ...DEFAULT_RETRY_POLICY, jitter: 0 }
const UNTRIED: Tries & Pick<InFlightDelivery, 'sessionEndsAt'> = {
  attempts: 0,
  retries: 0,
  refusals: 0,
  sessionEndsAt: null,
}
const NO_TEXT: ErrorText = { error: null, errorDescription: null }

type Unavailable = Extract<AttemptOutcome, { kind: 'unavailable' }>

const unavailable = (over: Partial<Unavailable> = {}): AttemptOutcome => ({
  kind: 'unavailable',
  status: 503,
  failure: null,
  retryAfterMs: null,
  ...NO_TEXT,
  ...over,
})
const refused = (status: number, said: ErrorText = NO_TEXT): AttemptOutcome => ({
  kind: 'refused',
  status,
  ...said,
})
const misconfigured = (status: number, said: ErrorText = NO_TEXT): AttemptOutcome => ({
  kind: 'misconfigured',
  status,
  ...said,
})
const NO_KEY: AttemptOutcome = { kind: 'undeliverable', reason: 'no_encryption_key', detail: 'none fits' }
const waitMs = (settlement: Settlement) =>
  settlement.state === 'pending' ? settlement.dueAt.getTime() - NOW.getTime() : null

describe('settle', () => {
  test.each([200, 204] as const)('BCL-14: %d closes the delivery at level done', (status) => {
    const outcome: AttemptOutcome = { kind: 'acknowledged', level: 'done', status }
    expect(settle(UNTRIED, outcome, NO_JITTER, NOW, 0.5)).toEqual({ state: 'acknowledged', level: 'done' })
  })

  test('BCL-15: an unavailable delivery waits every step of the schedule in order, then is a dead letter', () => {
    const waits = NO_JITTER.scheduleMs.map((_, retries) =>
      waitMs(settle({ ...UNTRIED, retries }, unavailable(), NO_JITTER, NOW, 0.5)),
    )
    expect(waits).toEqual([5, 30, 120, 600, 1_800, 3_600, 10_800, 21_600, 43_200].map((s) => s * SECOND))
    expect(
      settle({ ...UNTRIED, retries: NO_JITTER.scheduleMs.length }, unavailable(), NO_JITTER, NOW, 0.5),
    ).toEqual({ state: 'dead_lettered', reason: 'attempts_exhausted' })
  })

  test.each([
    { kind: 'refused' as const, outcome: refused(400) },
    { kind: 'refused' as const, outcome: refused(501) },
    { kind: 'misconfigured' as const, outcome: misconfigured(401) },
    { kind: 'misconfigured' as const, outcome: misconfigured(302) },
    { kind: 'no_encryption_key' as const, outcome: NO_KEY },
  ])(
    '$outcome.kind $outcome.status gets three more attempts within about ten minutes, then is a dead letter with reason $kind',
    ({ kind, outcome }) => {
      const waits = [0, 1, 2].map((refusals) =>
        waitMs(settle({ ...UNTRIED, refusals }, outcome, NO_JITTER, NOW, 0.5)),
      )
      expect(waits).toEqual([30 * SECOND, 150 * SECOND, 420 * SECOND])
      expect(settle({ ...UNTRIED, refusals: 3 }, outcome, NO_JITTER, NOW, 0.5)).toEqual({
        state: 'dead_lettered',
        reason: kind,
      })
    },
  )

  test('410 makes a dead letter at once and disables the binding; no other answer does', () => {
    expect(settle(UNTRIED, misconfigured(410), NO_JITTER, NOW, 0.5)).toEqual({
      state: 'dead_lettered',
      reason: 'endpoint_gone',
    })
    expect(disablesBinding(misconfigured(410))).toBe(true)
    const others = [misconfigured(404), refused(400), unavailable({ status: 503 })]
    expect(others.map(disablesBinding)).toEqual([false, false, false])
  })

  test.each([
    'address_not_allowed',
    'binding_disabled',
    'client_key_unreadable',
    'client_removed',
    'no_signing_key',
    'sid_required',
  ] as const)('an undeliverable delivery is a dead letter at once: %s', (reason) => {
    const outcome: AttemptOutcome = { kind: 'undeliverable', reason, detail: 'in words' }
    expect(settle(UNTRIED, outcome, NO_JITTER, NOW, 0.5)).toEqual({ state: 'dead_lettered', reason })
  })

  test.each([
    { asked: 'less than the schedule', retryAfterMs: 2 * SECOND, expected: 5 * SECOND },
    { asked: 'more than the schedule', retryAfterMs: 90 * SECOND, expected: 90 * SECOND },
    { asked: 'more than the cap', retryAfterMs: 48 * HOUR, expected: HOUR },
  ])('BCL-16: a Retry-After of $asked waits $expected ms', ({ retryAfterMs, expected }) => {
    expect(waitMs(settle(UNTRIED, unavailable({ retryAfterMs }), NO_JITTER, NOW, 0.5))).toBe(expected)
  })

  test('a kind of failure uses its own schedule and leaves the other unchanged', () => {
    const tries = { ...UNTRIED, attempts: 5, retries: 2, refusals: 1 }
    expect(settle(tries, unavailable(), NO_JITTER, NOW, 0.5)).toMatchObject({ retries: 3, refusals: 1 })
    expect(settle(tries, refused(400), NO_JITTER, NOW, 0.5)).toMatchObject({ retries: 2, refusals: 2 })
  })
})

const randoms = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true })
const delays = fc.array(fc.integer({ min: 0, max: 24 * HOUR }), { maxLength: 12 })
const policies: fc.Arbitrary<RetryPolicy> = fc.record({
  scheduleMs: delays,
  refusedScheduleMs: delays,
  retryAfterMsMax: fc.integer({ min: 0, max: 2 * HOUR }),
  jitter: fc.double({ min: 0, max: 1, noNaN: true }),
})
const said: fc.Arbitrary<ErrorText> = fc.record({
  error: fc.option(fc.string()),
  errorDescription: fc.option(fc.string()),
})
const failing: fc.Arbitrary<AttemptOutcome> = fc.oneof(
  fc
    .record({
      status: fc.option(fc.integer({ min: 408, max: 599 })),
      retryAfterMs: fc.option(fc.integer({ min: 0, max: 1e15 })),
      said,
    })
    .map(({ said: words, ...over }) => unavailable({ ...over, ...words })),
  fc.tuple(fc.constantFrom(400, 501), said).map(([status, words]) => refused(status, words)),
  fc
    .tuple(
      fc.integer({ min: 201, max: 499 }).filter((status) => status !== 410),
      said,
    )
    .map(([status, words]) => misconfigured(status, words)),
)

describe('a delivery for a session that ends by itself', () => {
  const [first = Number.NaN] = NO_JITTER.scheduleMs

  test('lapses if the next attempt would start after the end', () => {
    const endingIn = (ms: number) => ({ ...UNTRIED, sessionEndsAt: new Date(NOW.getTime() + ms) })
    expect(settle(endingIn(first), unavailable(), NO_JITTER, NOW, 0.5)).toEqual({ state: 'lapsed' })
    expect(settle(endingIn(first), refused(400), NO_JITTER, NOW, 0.5)).toEqual({ state: 'lapsed' })
    expect(waitMs(settle(endingIn(first + 1), unavailable(), NO_JITTER, NOW, 0.5))).toBe(first)
  })

  test('is acknowledged or dead-lettered after the end if the answer says so', () => {
    const ended = { ...UNTRIED, sessionEndsAt: NOW }
    expect(
      settle(ended, { kind: 'acknowledged', level: 'done', status: 200 }, NO_JITTER, NOW, 0.5),
    ).toMatchObject({ state: 'acknowledged' })
    expect(settle(ended, misconfigured(410), NO_JITTER, NOW, 0.5)).toMatchObject({ reason: 'endpoint_gone' })
  })
})

describe('settle, for any failures', () => {
  test('ends in a dead letter, after no more retries than the schedules have steps', () => {
    fc.assert(
      fc.property(
        policies,
        fc.array(failing, { minLength: 30, maxLength: 30 }),
        randoms,
        (policy, outcomes, random) => {
          let tries = UNTRIED
          for (const outcome of outcomes) {
            const settlement = settle(tries, outcome, policy, NOW, random)
            if (settlement.state === 'dead_lettered') {
              expect(tries.attempts).toBeLessThanOrEqual(
                policy.scheduleMs.length + policy.refusedScheduleMs.length,
              )
              return
            }
            if (settlement.state !== 'pending') return expect.fail(`${settlement.state} without a reason`)
            tries = { ...tries, attempts: tries.attempts + 1, ...settlement }
          }
          expect.fail('the delivery is pending after thirty failures')
        },
      ),
    )
  })

  test('BCL-15: the wait lies within the jitter around its delay, unless Retry-After extends it up to the cap', () => {
    fc.assert(
      fc.property(policies, failing, randoms, (policy, outcome, random) => {
        const settlement = settle(UNTRIED, outcome, policy, NOW, random)
        const waited = waitMs(settlement)
        if (waited === null) return
        const schedule = outcome.kind === 'unavailable' ? policy.scheduleMs : policy.refusedScheduleMs
        const delayMs = schedule[0] ?? Number.NaN
        const capMs = outcome.kind === 'unavailable' ? policy.retryAfterMsMax : 0
        expect(waited).toBeGreaterThanOrEqual(0)
        expect(waited).toBeGreaterThanOrEqual(Math.floor(delayMs * (1 - policy.jitter)))
        expect(waited).toBeLessThanOrEqual(Math.max(Math.ceil(delayMs * (1 + policy.jitter)), capMs))
      }),
    )
  })

  test("BCL-17: the RP's error text does not change the decision", () => {
    fc.assert(
      fc.property(failing, said, policies, randoms, (outcome, words, policy, random) => {
        const withoutText = { ...outcome, ...NO_TEXT } as AttemptOutcome
        const withText = { ...outcome, ...words } as AttemptOutcome
        expect(settle(UNTRIED, withText, policy, NOW, random)).toEqual(
          settle(UNTRIED, withoutText, policy, NOW, random),
        )
      }),
    )
  })
})

describe('undeliverable', () => {
  const binding = { disabledReason: null, names: 'either' } as Binding
  const event = { scope: 'subject' } as const
  const named = { sid: 's1' as Sid, event }
  const nameless = { sid: null, event }

  test('is null for an enabled binding', () => {
    expect(undeliverable(binding, named)).toBeNull()
    expect(undeliverable(binding, nameless)).toBeNull()
    expect(undeliverable({ ...binding, names: 'session' }, named)).toBeNull()
  })

  test('BCL-11: an RP that requires a sid gets no delivery without a sid', () => {
    expect(undeliverable({ ...binding, names: 'session' }, nameless)).toMatchObject({
      reason: 'sid_required',
    })
  })

  test('GTR-04: a channel that names only the subject is not used for one session, unless it widens', () => {
    const subjectOnly = { ...binding, names: 'subject', widens: false } as Binding
    const ofSession = { ...named, event: { scope: 'session' } as const }
    expect(undeliverable(subjectOnly, named)).toBeNull()
    expect(undeliverable(subjectOnly, ofSession)).toMatchObject({ reason: 'widen_required' })
    expect(undeliverable({ ...subjectOnly, widens: true }, ofSession)).toBeNull()
  })

  test('contains the reason of a disabled binding', () => {
    expect(undeliverable({ ...binding, disabledReason: 'answered 410' }, named)).toEqual({
      kind: 'undeliverable',
      reason: 'binding_disabled',
      detail: 'answered 410',
    })
  })
})
