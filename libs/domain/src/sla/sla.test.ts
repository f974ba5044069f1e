import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { LEVELS } from '../delivery/level.ts'
import { mergeHistograms } from './histogram.ts'
import {
  addCounts,
  BURN_LEAST,
  burning,
  burnRate,
  errorBudget,
  NO_COUNTS,
  type PartyDelivery,
  partyVerdict,
  type SlaCounts,
  shareKept,
  waitingOf,
  withinPromise,
} from './sla.ts'
import { burnIntervals, intervalsOf, SLA_SPANS, type SlaInterval, spanStart, TICK_MS } from './spans.ts'
import { type CountKind, sumTicks, tickNumber } from './ticks.ts'

// Goal: deliveries are kept or broken as promised, budgets and alerts follow from the counts, and the chosen rollups cover an
// interval exactly.
// Method: properties, and the SRE Workbook's figures for alerts.

const { hour: HOUR_MS, day: DAY_MS } = SLA_SPANS
const STATES = ['acknowledged', 'superseded', 'lapsed', 'dead_lettered'] as const

test('a promise is kept up to its last millisecond, and never by a dead letter', () => {
  const promise = { withinMs: 5_000, counts: 'done' } as const
  const ends = STATES.map((state) => ({ state, level: state === 'acknowledged' ? ('done' as const) : null }))
  expect(ends.map((end) => withinPromise(end, 5_000, promise))).toEqual([true, true, true, false])
  expect(ends.some((end) => withinPromise(end, 5_001, promise))).toBe(false)
})

test('a promise is kept by an acknowledgement of at least the required level', () => {
  for (const [place, level] of LEVELS.entries()) {
    const kept = LEVELS.map((counts) =>
      withinPromise({ state: 'acknowledged', level }, 1, { withinMs: 1, counts }),
    )
    expect(kept).toEqual(LEVELS.map((_, least) => place <= least))
  }
})

describe('a logout at a relying party with several channels', () => {
  const delivery = (change: Partial<PartyDelivery> = {}): PartyDelivery => ({
    ...{ channel: 'backchannel', fallbackFor: null, sid: null, counts: 'done', withinMs: 100 },
    ...{ state: 'acknowledged', level: 'done', elapsedMs: 50, generation: 0 },
    ...change,
  })
  const begun = (change: Partial<PartyDelivery> = {}) =>
    delivery({ channel: 'global_revocation', counts: 'begun', level: 'begun', ...change })
  const OPEN = { state: 'in_flight', level: null, elapsedMs: null } as const
  const DEAD = { state: 'dead_lettered', level: null } as const
  const asFallback = { fallbackFor: 'backchannel' }

  test.each<[string, readonly PartyDelivery[], ReturnType<typeof partyVerdict>]>([
    ['all are kept', [delivery(), begun({ elapsedMs: 80 })], { verdict: 'kept', elapsedMs: 80 }],
    ['one is open', [delivery(), begun(OPEN)], { verdict: 'open', elapsedMs: null }],
    ['one is dead and another open', [delivery(DEAD), begun(OPEN)], { verdict: 'open', elapsedMs: null }],
    ['one is late', [delivery(), begun({ elapsedMs: 101 })], { verdict: 'broken', elapsedMs: 101 }],
    [
      'one is below the required level',
      [delivery(), begun({ counts: 'done' })],
      { verdict: 'broken', elapsedMs: 50 },
    ],
    ['one is dead', [delivery(), begun(DEAD)], { verdict: 'broken', elapsedMs: null }],
    ['a fallback is kept', [delivery(DEAD), begun(asFallback)], { verdict: 'kept', elapsedMs: 50 }],
    [
      'a fallback is open',
      [delivery(DEAD), begun({ ...asFallback, ...OPEN })],
      { verdict: 'open', elapsedMs: null },
    ],
    [
      'both are dead',
      [delivery(DEAD), begun({ ...asFallback, ...DEAD })],
      { verdict: 'broken', elapsedMs: null },
    ],
    [
      'a fallback is not needed',
      [delivery(), begun({ ...asFallback, ...DEAD })],
      { verdict: 'kept', elapsedMs: 50 },
    ],
    ['a dead letter was replayed', [delivery({ generation: 1 })], { verdict: 'broken', elapsedMs: null }],
    [
      'the session had ended',
      [delivery({ state: 'lapsed', level: null })],
      { verdict: 'kept', elapsedMs: null },
    ],
  ])('counts once if %s', (_, deliveries, verdict) => {
    expect(partyVerdict(deliveries)).toEqual(verdict)
    expect(partyVerdict(deliveries.toReversed())).toEqual(verdict)
  })
})

/** Counts of `decided` deliveries, `spent` of them broken or overdue, at an objective. */
function counts(decided: number, spent: number, objective: number, overdue = 0): SlaCounts {
  const kept = decided - spent
  return { planned: decided, kept, broken: spent - overdue, overdue, allowed: decided * (1 - objective) }
}

describe('an error budget', () => {
  test('is spent when the kept share falls to the objective, and its burn rate is the spent share', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 1e6 }),
        fc.double({ min: 0.001, max: 0.999, noNaN: true }),
        (left, share) => {
          const all = counts(1e6, 1e6 - left, share)
          const { shareLeft } = errorBudget(all)
          const kept = shareKept(all) ?? 0
          expect(Math.sign(Math.round(shareLeft * 1e6))).toBe(
            Math.sign(Math.round(((kept - share) / (1 - share)) * 1e6)),
          )
          expect(burnRate(all)).toBeCloseTo(1 - shareLeft, 6)
        },
      ),
    )
  })

  test('is whole if no delivery is decided', () => {
    const idle = { ...NO_COUNTS, planned: 3 }
    expect(errorBudget(idle)).toEqual({ allowed: 0, spent: 0, left: 0, shareLeft: 1 })
    expect([shareKept(idle), burnRate(idle), waitingOf(idle)]).toEqual([null, null, 3])
  })

  test('counts overdue deliveries as broken', () => {
    expect(errorBudget(counts(1_000, 5, 0.99, 3)).spent).toBe(5)
    expect(shareKept(counts(1_000, 5, 0.99, 3))).toBe(0.995)
  })
})

describe('a burn alert', () => {
  const QUIET = counts(100_000, 0, 0.999)
  const at = (rates: Readonly<Partial<Record<'5m' | '30m' | '1h' | '6h', number>>>) =>
    burning({
      '5m': QUIET,
      '30m': QUIET,
      '1h': QUIET,
      '6h': QUIET,
      ...Object.fromEntries(
        Object.entries(rates).map(([window, rate]) => [
          window,
          counts(100_000, Math.round(rate * 100), 0.999),
        ]),
      ),
    }).map(({ severity }) => severity)

  test('holds if both the long and the short window burn', () => {
    expect(at({ '1h': 14.41, '5m': 14.41 })).toEqual(['page'])
    expect(at({ '1h': 14.39, '5m': 100 })).toEqual([])
    expect(at({ '1h': 100, '5m': 14.39 })).toEqual([])
    expect(at({ '6h': 6.01, '30m': 6.01 })).toEqual(['ticket'])
    expect(at({ '6h': 5.99, '30m': 100 })).toEqual([])
    expect(at({ '6h': 20, '30m': 20, '1h': 20, '5m': 20 })).toEqual(['page', 'ticket'])
  })

  test.each([0.5, 0.8, 0.9])(
    'holds at the low objective %d if nearly all deliveries are broken',
    (objective) => {
      const severities = (share: number) => {
        const all = counts(1_000, share * 1_000, objective)
        return burning({ '5m': all, '30m': all, '1h': all, '6h': all }).map(({ severity }) => severity)
      }
      expect(severities(1)).toEqual(['page', 'ticket'])
      expect(severities(0.89)).not.toContain('page')
      expect(severities(1 - objective)).toEqual([])
    },
  )

  test('does not hold for a few failures with little traffic', () => {
    const few = (spent: number) => {
      const all = counts(spent, spent, 0.999)
      return burning({ '5m': all, '30m': all, '1h': all, '6h': all }).length
    }
    expect([few(BURN_LEAST - 1), few(BURN_LEAST)]).toEqual([0, 2])
  })
})

test('counts add up', () => {
  expect(addCounts(counts(10, 3, 0.9, 1), counts(5, 5, 0.9))).toEqual({
    ...{ planned: 15, kept: 7, broken: 7, overdue: 1 },
    allowed: expect.closeTo(1.5),
  })
})

describe('intervals', () => {
  const times = fc.record({
    nowMs: fc.integer({ min: 1.7e12, max: 1.9e12 }),
    withinMs: fc.integer({ min: 1, max: DAY_MS }),
    agoHours: fc.integer({ min: -1, max: 900 }),
    hours: fc.integer({ min: 1, max: 900 }),
  })

  /** Expects that the intervals cover the time from `fromMs` to `toMs` without gap or overlap. */
  function expectWhole(intervals: readonly SlaInterval[], fromMs: number, toMs: number): void {
    const sorted = intervals.toSorted((a, b) => a.fromMs - b.fromMs)
    let reachedMs = fromMs
    for (const interval of sorted) {
      expect(interval.fromMs).toBe(reachedMs)
      expect(spanStart(interval.span, interval.fromMs)).toBe(interval.fromMs)
      expect(spanStart(interval.span, interval.toMs)).toBe(interval.toMs)
      reachedMs = interval.toMs
    }
    expect(reachedMs).toBe(toMs)
  }

  /** Expects that no interval of ticks crosses the start of a slot: its rollup is found by that start. */
  function expectWithinSlots(intervals: readonly SlaInterval[]): void {
    for (const { span, fromMs, toMs } of intervals)
      if (span === 'tick') expect(spanStart('slot', toMs - 1)).toBe(spanStart('slot', fromMs))
  }

  test('count every tick of a time once, and as overdue only the ticks past the time limit', () => {
    fc.assert(
      fc.property(times, fc.boolean(), ({ nowMs, withinMs, agoHours, hours }, byHour) => {
        const fromMs = spanStart('hour', nowMs) - agoHours * HOUR_MS
        const toMs = fromMs + hours * HOUR_MS
        const intervals = intervalsOf({ fromMs, toMs }, { nowMs, withinMs, byHour })
        expectWhole(
          intervals.filter(({ counted }) => counted),
          fromMs,
          toMs,
        )
        const decidedMs = Math.min(toMs, Math.max(fromMs, spanStart('tick', nowMs - withinMs)))
        expectWhole(
          intervals.filter(({ past }) => past),
          fromMs,
          decidedMs,
        )
        expect(intervals.some(({ span }) => byHour && span === 'day')).toBe(false)
        // Slots cover less than an hour.
        for (const { span, ...interval } of intervals)
          if (span === 'slot') expect(interval.toMs - interval.fromMs).toBeLessThan(HOUR_MS)
        expectWithinSlots(intervals)
      }),
    )
  })

  test('count a delivery once, and as overdue within a tick after its promise has passed, but never before', () => {
    const cases = fc.record({
      within: times,
      // Most cases are near the end of the promise.
      sinceMs: fc.oneof(
        fc.integer({ min: -20_000, max: 400_000 }),
        fc.integer({ min: -DAY_MS, max: DAY_MS }),
      ),
      byHour: fc.boolean(),
    })
    fc.assert(
      fc.property(cases, ({ within: { nowMs, withinMs }, sinceMs, byHour }) => {
        const agoMs = Math.max(0, withinMs + sinceMs)
        const acceptedMs = nowMs - agoMs
        const range = {
          fromMs: spanStart('day', nowMs) - 3 * DAY_MS,
          toMs: spanStart('hour', nowMs) + HOUR_MS,
        }
        const holding = (intervals: Iterable<SlaInterval>) =>
          [...intervals].filter(({ fromMs, toMs }) => fromMs <= acceptedMs && acceptedMs < toMs)
        const found = holding(intervalsOf(range, { nowMs, withinMs, byHour }))
        expect(found.filter(({ counted }) => counted)).toHaveLength(1)
        const overdue = found.filter(({ past }) => past).length
        if (agoMs >= withinMs + TICK_MS) expect(overdue).toBe(1)
        if (agoMs <= withinMs) expect(overdue).toBe(0)
        expect(overdue).toBeLessThanOrEqual(1)
        const burnt = holding([...burnIntervals({ nowMs, withinMs }).values()].flat()).length
        expect(burnt).toBe(
          overdue === 1 && acceptedMs >= spanStart('tick', nowMs - withinMs) - 6 * HOUR_MS ? 1 : 0,
        )
      }),
    )
  })

  test('of ticks sum up the deliveries that were accepted within them', () => {
    const accepted = fc.array(
      fc.record({
        offsetMs: fc.integer({ min: 0, max: SLA_SPANS.slot - 1 }),
        end: fc.constantFrom<CountKind | null>('kept', 'broken', null),
      }),
    )
    const ticks = fc.integer({ min: 0, max: SLA_SPANS.slot / TICK_MS })
    fc.assert(
      fc.property(times, accepted, ticks, ticks, ({ nowMs }, deliveries, a, b) => {
        const slotMs = spanStart('slot', nowMs)
        const kinds = deliveries.flatMap(({ offsetMs, end }) =>
          (['planned', end] as const).flatMap((kind) =>
            kind === null ? [] : [new Map([[tickNumber(kind, slotMs + offsetMs), 1]])],
          ),
        )
        const interval = {
          fromMs: slotMs + Math.min(a, b) * TICK_MS,
          toMs: slotMs + Math.max(a, b) * TICK_MS,
        }
        const within = deliveries.filter(
          ({ offsetMs }) => slotMs + offsetMs >= interval.fromMs && slotMs + offsetMs < interval.toMs,
        )
        const number = (kind: CountKind | null) => within.filter(({ end }) => end === kind).length
        expect(sumTicks(mergeHistograms(kinds), interval)).toEqual({
          ...{
            planned: within.length,
            kept: number('kept'),
            broken: number('broken'),
            unsettled: number(null),
          },
        })
      }),
    )
  })

  test('of burn rates cover the windows, split at the start of every window', () => {
    fc.assert(
      fc.property(times, ({ nowMs, withinMs }) => {
        const parts = burnIntervals({ nowMs, withinMs })
        const all = [...parts.values()].flat()
        // Later logouts cannot be overdue yet.
        const endMs = nowMs - withinMs
        const toMs = spanStart('tick', endMs)
        expectWhole(all, toMs - 6 * HOUR_MS, toMs)
        expectWhole(parts.get('5m') ?? [], toMs - 5 * 60_000, toMs)
        expectWithinSlots(all)
        // Undecided intervals would count kept deliveries, but no broken ones.
        expect(all.every(({ counted, past }) => counted && past)).toBe(true)
      }),
    )
  })
})
