import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { allowedBy, BREAKER_POLICY, type Breaker, breakerAfter, breakerStarted, CLOSED } from './breaker.ts'
import type { AttemptOutcome } from './outcome.ts'

// Goal: an unavailable RP gets only probes, and a recovered RP gets its backlog at a growing pace.
// Method: examples of outages, then properties over any sequence of outcomes.

const ACKNOWLEDGED: AttemptOutcome = { kind: 'acknowledged', level: 'done', status: 200 }
const DOWN: AttemptOutcome = {
  kind: 'unavailable',
  status: null,
  failure: 'connection_refused',
  retryAfterMs: null,
  error: null,
  errorDescription: null,
}
const REFUSED: AttemptOutcome = { kind: 'refused', status: 400, error: null, errorDescription: null }
const NOT_OURS: AttemptOutcome = { kind: 'undeliverable', reason: 'binding_disabled', detail: '' }

const { failures, openMs, openMsMax, provenAt } = BREAKER_POLICY
const after = (breaker: Breaker, outcomes: readonly (AttemptOutcome | null)[], nowMs = 0) =>
  outcomes.reduce((was, outcome) => breakerAfter(was, outcome, { nowMs, random: 0.5 }), breaker)
const OPEN = after(
  CLOSED,
  Array.from({ length: failures }, () => DOWN),
)

describe('closed', () => {
  test('allows as many attempts as the binding may have', () => {
    expect(allowedBy(CLOSED, 16, 0)).toBe(16)
  })

  test('opens at the limit of consecutive failures, not before', () => {
    expect(
      after(
        CLOSED,
        Array.from({ length: failures - 1 }, () => DOWN),
      ).state,
    ).toBe('closed')
    expect(OPEN).toEqual({ state: 'open', openings: 1, untilMs: openMs })
  })

  test.each([
    ['an acknowledgement', ACKNOWLEDGED],
    ['a refusal', REFUSED],
  ])('restarts the count after %s', (_, outcome) => {
    const nearly = Array.from({ length: failures - 1 }, () => DOWN)
    expect(after(CLOSED, [...nearly, outcome, ...nearly]).state).toBe('closed')
  })

  test('ignores attempts that Curfew could not send', () => {
    const nearly = Array.from({ length: failures - 1 }, () => DOWN)
    const signer: AttemptOutcome = { ...DOWN, failure: 'signer' }
    const local: AttemptOutcome = { ...DOWN, failure: 'local' }
    expect(after(CLOSED, [...nearly, NOT_OURS, signer, local, null, DOWN]).state).toBe('open')
    expect(
      after(
        CLOSED,
        [signer, local].flatMap((outcome) => Array.from({ length: 100 }, () => outcome)),
      ),
    ).toEqual(CLOSED)
  })
})

describe('open', () => {
  test('allows no attempt until its time has passed, then one probe', () => {
    expect([0, openMs - 1, openMs].map((nowMs) => allowedBy(OPEN, 16, nowMs))).toEqual([0, 0, 1])
    const probing = breakerStarted(OPEN)
    expect(probing.state).toBe('half_open')
    expect(allowedBy(probing, 16, openMs)).toBe(1)
  })

  test('stays open twice as long after every failed probe, up to a few minutes', () => {
    const waits: number[] = []
    let breaker = OPEN
    for (let probes = 0; probes < 10; probes++) {
      breaker = breakerAfter(breakerStarted(breaker), DOWN, { nowMs: 0, random: 0.5 })
      if (breaker.state === 'open') waits.push(breaker.untilMs)
    }
    expect(waits.slice(0, 3)).toEqual([2 * openMs, 4 * openMs, 8 * openMs])
    expect(waits.at(-1)).toBe(openMsMax)
  })

  test('ignores failures of attempts that were under way when it opened', () => {
    expect(after(OPEN, [DOWN, DOWN, DOWN], openMs - 1)).toEqual(OPEN)
  })

  test('closes on any answer, and allows one more attempt after every further answer', () => {
    const closed = after(breakerStarted(OPEN), [ACKNOWLEDGED])
    expect(allowedBy(closed, 16, 0)).toBe(2)
    expect(allowedBy(after(closed, [ACKNOWLEDGED, REFUSED]), 16, 0)).toBe(4)
    expect(
      after(
        closed,
        Array.from({ length: provenAt }, () => ACKNOWLEDGED),
      ),
    ).toEqual(CLOSED)
  })

  test('allows another probe at once after a probe without a result', () => {
    const again = after(breakerStarted(OPEN), [null], 7_000)
    expect(allowedBy(again, 16, 7_000)).toBe(1)
  })
})

const outcomes = fc.array(fc.constantFrom(ACKNOWLEDGED, DOWN, REFUSED, NOT_OURS, null), { maxLength: 60 })

test('after any outcomes, it allows an attempt within a few minutes, and all attempts once answers come', () => {
  fc.assert(
    fc.property(
      outcomes,
      fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
      (history, random) => {
        let breaker = CLOSED
        for (const outcome of history) {
          breaker = breakerAfter(breakerStarted(breaker), outcome, { nowMs: 0, random })
        }
        const laterMs = openMsMax * (1 + BREAKER_POLICY.jitter)
        expect(allowedBy(breaker, 16, laterMs)).toBeGreaterThan(0)
        const answers = Array.from({ length: provenAt + 1 }, () => ACKNOWLEDGED)
        expect(allowedBy(after(breakerStarted(breaker), answers), 16, 0)).toBe(16)
      },
    ),
  )
})
