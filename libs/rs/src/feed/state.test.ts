import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { AnswerRefusedError } from '../errors.ts'
import { createFreshness } from './freshness.ts'
import { type Answer, createFeedState, type FeedState } from './state.ts'
import { createTable, keyOf } from './table.ts'

// Goal: however the answers of the feed are split, repeated or replayed, no logout is lost (CUT-03).
// Method: a feed as Curfew keeps it, from which the answers are made. The state is compared with that of the newest snapshot.

const ISS = 'https://idp.example'
const START_S = 1_800_000_000

interface Entry {
  readonly seq: number
  /** Null: the logout of all subjects. */
  readonly sub: string | null
  readonly before: number
}
const keyText = (sub: string) => keyOf(ISS, 'sub', sub).subarray(0, 16).toString('base64url')

/** The answer of a feed with these entries. `asOfS`: seconds after the start. */
function answerOf(
  entries: readonly Entry[],
  { after, seq, asOfS }: { after: number | null; seq: number; asOfS: number },
) {
  const found = entries.filter((entry) => entry.seq > (after ?? 0) && entry.seq <= seq)
  const everybody = entries
    .filter((entry) => entry.sub === null && entry.seq <= seq)
    .map(({ before }) => before)
  const answer: Answer = {
    ...{ after, seq, issuedMs: (START_S + asOfS) * 1_000, asOfMs: (START_S + asOfS) * 1_000 },
    ...{ maxStalenessMs: 30_000, maxTokenTtlS: 3_600, everybodyBefore: Math.max(0, ...everybody) },
    entries: found.flatMap(({ sub, before }) => (sub === null ? [] : [[keyText(sub), before] as const])),
  }
  return answer
}

function newState(): FeedState {
  return createFeedState(ISS, {
    table: createTable(Math.random),
    freshness: createFreshness(Number.POSITIVE_INFINITY),
  })
}
const SUBJECTS = ['a', 'b', 'c', 'd']
const known = (state: FeedState) => [state.everybodyBefore, ...SUBJECTS.map((sub) => state.of('sub', sub))]

const FEED = fc
  .array(
    fc.record({
      sub: fc.constantFrom(...SUBJECTS, null),
      before: fc.integer({ min: START_S - 100, max: START_S }),
    }),
    { maxLength: 12 },
  )
  .map((logouts): readonly Entry[] => logouts.map((logout, index) => ({ ...logout, seq: (index + 1) * 10 })))
/** The places at which a reader asks again, as parts of the feed. */
const CUTS = fc.array(fc.integer({ min: 0, max: 120 }), { maxLength: 6 })

describe('CUT-03: a snapshot and what came after it', () => {
  test('in any split give what the newest snapshot gives', () => {
    fc.assert(
      fc.property(FEED, CUTS, (entries, cuts) => {
        const last = entries.at(-1)?.seq ?? 0
        const stops = [...cuts.filter((cut) => cut < last).sort((one, other) => one - other), last]
        const state = newState()
        for (const [index, seq] of stops.entries()) {
          const after = index === 0 ? null : (stops[index - 1] ?? 0)
          state.apply(answerOf(entries, { after, seq, asOfS: index }), after, index)
        }
        const whole = newState()
        whole.apply(answerOf(entries, { after: null, seq: last, asOfS: 0 }), null, 0)
        expect(known(state)).toEqual(known(whole))
        expect(state.seq).toBe(last)
      }),
    )
  })

  test('keep the later time of a key, although a later answer has an earlier one', () => {
    const entries = [
      { seq: 1, sub: 'a', before: START_S },
      { seq: 2, sub: 'a', before: START_S - 50 },
      { seq: 3, sub: null, before: START_S },
      { seq: 4, sub: null, before: START_S - 50 },
    ]
    const state = newState()
    for (const [after, seq] of [
      [null, 1],
      [1, 2],
      [2, 3],
      [3, 4],
    ] as const)
      state.apply(answerOf(entries.slice(seq - 1, seq), { after, seq, asOfS: seq }), after, 0)
    expect([state.of('sub', 'a'), state.everybodyBefore]).toEqual([START_S, START_S])
  })

  test('keep what a restored Curfew has lost, and go on from its number', () => {
    const state = newState()
    const lost = [{ seq: 50, sub: 'a', before: START_S }]
    state.apply(answerOf(lost, { after: null, seq: 50, asOfS: 0 }), null, 0)
    state.apply(answerOf([], { after: null, seq: 20, asOfS: 5 }), null, 5_000)
    expect([state.of('sub', 'a'), state.seq]).toEqual([START_S, 20])
  })
})

describe('an answer is refused, and changes nothing,', () => {
  const entries = [10, 20, 30].map((seq) => ({ seq, sub: 'a', before: START_S + seq }))
  const at20 = () => {
    const state = newState()
    state.apply(answerOf(entries, { after: null, seq: 20, asOfS: 100 }), null, 0)
    return state
  }

  test.each([
    ['if it begins at a later number than was asked for', { after: 25, seq: 30, asOfS: 101 }, 20],
    ['if it begins at an earlier number than was asked for', { after: 10, seq: 30, asOfS: 101 }, 20],
    ['if it is a snapshot and a delta was asked for', { after: null, seq: 30, asOfS: 101 }, 20],
    ['if it is a delta and a snapshot was asked for', { after: 20, seq: 30, asOfS: 101 }, null],
    ['if it ends before it begins', { after: 20, seq: 10, asOfS: 101 }, 20],
    ['if it is a snapshot from before what is known', { after: null, seq: 10, asOfS: 99 }, null],
  ])('%s', (_, from, asked) => {
    const state = at20()
    expect(() => state.apply(answerOf(entries, from), asked, 0)).toThrow(AnswerRefusedError)
    expect([state.seq, ...known(state)]).toEqual([20, ...known(at20())])
  })
})

describe('CUT-02: an entry is forgotten', () => {
  test('only when the last token that it concerns has expired', () => {
    const state = newState()
    const entries = [
      { seq: 1, sub: 'a', before: START_S },
      { seq: 2, sub: null, before: START_S },
    ]
    state.apply(answerOf(entries, { after: null, seq: 2, asOfS: 0 }), null, 0)
    state.forget((3_600 + 60) * 1_000)
    expect(known(state)).toEqual([START_S, START_S, 0, 0, 0])
    state.forget((3_600 + 62) * 1_000)
    expect(known(state)).toEqual([0, 0, 0, 0, 0])
  })

  test('by the longest life that tokens had while it was read', () => {
    const state = newState()
    const first = answerOf([{ seq: 1, sub: 'a', before: START_S }], { after: null, seq: 1, asOfS: 0 })
    state.apply({ ...first, maxTokenTtlS: 7_200 }, null, 0)
    state.apply(answerOf([], { after: 1, seq: 1, asOfS: 1 }), 1, 1_000)
    state.forget(7_000_000)
    expect(state.of('sub', 'a')).toBe(START_S)
  })
})
