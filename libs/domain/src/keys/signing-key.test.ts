import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  CLOCK_SKEW_MS,
  isPublished,
  JWKS_MAX_AGE_MS,
  KEY_LEAD_MS,
  KEY_LEAD_MS_MIN,
  KEY_OVERLAP_MS,
  KEYRING_TRUST_MS,
  type KeyLife,
  keyState,
  keyTimes,
  nextKey,
  retirementFault,
  rotation,
  rotationDue,
  signingKey,
  TOKEN_LIFETIME_S,
} from './signing-key.ts'

// Goal: exactly one key signs at any time, and an RP that caches the key set for its `max-age` finds the key of every token.
// Method: random histories of keys, made by the console's own decisions, seen by workers with old copies of the keys and inexact
// clocks.

const START = Date.UTC(2026, 10, 21)
const HOUR = 3_600_000
const at = (ms: number) => new Date(START + ms)

type Command =
  | { readonly do: 'rotate'; readonly afterMs: number; readonly leadMs: number }
  | { readonly do: 'retire next'; readonly afterMs: number }

const pause = fc.oneof(fc.integer({ min: 0, max: 60_000 }), fc.integer({ min: 0, max: 72 * HOUR }))
const commands = (leads: fc.Arbitrary<number>): fc.Arbitrary<readonly Command[]> =>
  fc.array(
    fc.oneof(
      fc.record({ do: fc.constant('rotate' as const), afterMs: pause, leadMs: leads }),
      fc.record({ do: fc.constant('retire next' as const), afterMs: pause }),
    ),
    { maxLength: 8 },
  )
const careful = fc.oneof(
  fc.constant(KEY_LEAD_MS_MIN),
  fc.constant(KEY_LEAD_MS),
  fc.integer({ min: KEY_LEAD_MS_MIN, max: 100 * HOUR }),
)

/** The known keys after every change, in order. */
function historyOf(
  list: readonly Command[],
): readonly { readonly sinceMs: number; readonly keys: readonly KeyLife[] }[] {
  let nowMs = 0
  let keys: readonly KeyLife[] = [newKey('k0', at(0), at(0))]
  const history = [{ sinceMs: 0, keys }]
  for (const [number, command] of list.entries()) {
    nowMs += command.afterMs
    const now = at(nowMs)
    if (command.do === 'rotate') {
      const decided = rotation(keys, { now, leadMs: command.leadMs })
      if (decided.kind === 'new')
        keys = [...keys, newKey(`k${number + 1}`, decided.publishedAt, decided.signsFrom)]
      if (decided.kind === 'forward')
        keys = keys.map((key) => (key.kid === decided.kid ? { ...key, signsFrom: decided.signsFrom } : key))
    } else {
      const next = nextKey(keys, now)
      if (next !== null && retirementFault(next, keys, { now, compromised: false }) === null)
        keys = keys.map((key) => (key === next ? { ...key, retiredAt: now } : key))
    }
    history.push({ sinceMs: nowMs, keys })
  }
  return history
}

function newKey(kid: string, publishedAt: Date, signsFrom: Date): KeyLife {
  return { kid, publishedAt, signsFrom, retiredAt: null, withdrawnAt: null }
}

/** An instant, mostly close to a change, where faults are most likely. */
const instant = fc.record({
  change: fc.nat(20),
  offsetMs: fc.oneof(fc.integer({ min: -900_000, max: 900_000 }), fc.integer({ min: 0, max: 200 * HOUR })),
})

function msOf(
  { change, offsetMs }: { change: number; offsetMs: number },
  history: ReturnType<typeof historyOf>,
): number {
  const changes = history.flatMap(({ sinceMs, keys }) => [
    sinceMs,
    ...keys.map(({ signsFrom }) => signsFrom.getTime() - START),
  ])
  return Math.max((changes[change % changes.length] ?? 0) + offsetMs, 0)
}

/** The keys known at `ms`. */
function asOf(history: ReturnType<typeof historyOf>, ms: number): readonly KeyLife[] {
  return history.findLast(({ sinceMs }) => sinceMs <= ms)?.keys ?? []
}

const published = (keys: readonly KeyLife[], ms: number) =>
  keys.filter((key) => isPublished(key, keys, at(ms))).map(({ kid }) => kid)

describe('after any rotations and retirements of the keys of an issuer and algorithm', () => {
  test('exactly one key signs at any time, and it is published', () => {
    fc.assert(
      fc.property(commands(fc.oneof(careful, fc.constant(0))), instant, (list, when) => {
        const history = historyOf(list)
        const ms = msOf(when, history)
        for (const { sinceMs, keys } of history) {
          for (const each of [sinceMs, sinceMs + ms]) {
            const states = keys.map((key) => keyState(key, keys, at(each)))
            expect(states.filter((state) => state === 'current')).toHaveLength(1)
            expect(published(keys, each)).toContain(signingKey(keys, at(each))?.kid)
          }
        }
      }),
      { numRuns: 500 },
    )
  })

  test('a worker with the oldest allowed copy signs with a key that stays published until the token expires', () => {
    fc.assert(
      fc.property(
        commands(fc.oneof(careful, fc.constant(0))),
        instant,
        fc.integer({ min: 0, max: KEYRING_TRUST_MS - 1 }),
        fc.integer({ min: -CLOCK_SKEW_MS, max: CLOCK_SKEW_MS }),
        (list, when, age, skew) => {
          const history = historyOf(list)
          const ms = msOf(when, history)
          const copy = asOf(history, Math.max(ms - age, 0))
          const kid = signingKey(copy, at(Math.max(ms + skew, 0)))?.kid
          const lifetime = TOKEN_LIFETIME_S * 1_000 + CLOCK_SKEW_MS
          for (const later of [ms, ms + lifetime]) {
            // A fast clock may use a new key of the copy before other workers know the key.
            expect(published(asOf(history, later), later)).toContain(kid)
          }
        },
      ),
      { numRuns: 2_000 },
    )
  })

  test('without a rotation at once, the signing key is in every copy of the key set that may still be cached', () => {
    fc.assert(
      fc.property(
        commands(careful),
        instant,
        fc.integer({ min: 0, max: 2 * JWKS_MAX_AGE_MS }),
        fc.integer({ min: 0, max: KEYRING_TRUST_MS - 1 }),
        fc.integer({ min: -CLOCK_SKEW_MS, max: CLOCK_SKEW_MS }),
        (list, when, cacheAge, age, skew) => {
          const history = historyOf(list)
          const ms = msOf(when, history)
          const kid = signingKey(asOf(history, Math.max(ms - age, 0)), at(Math.max(ms + skew, 0)))?.kid
          const cachedMs = Math.max(ms - cacheAge, 0)
          expect(published(asOf(history, cachedMs), cachedMs)).toContain(kid)
        },
      ),
      { numRuns: 2_000 },
    )
  })
})

describe('a rotation', () => {
  const first = newKey('a', at(0), at(0))

  test('makes a first key that signs at once, because no cached key set lacks it', () => {
    expect(rotation([], { now: at(0), leadMs: KEY_LEAD_MS })).toEqual({
      kind: 'new',
      publishedAt: at(0),
      signsFrom: at(0),
    })
  })

  test('is not needed for a worker whose clock is behind: the first key signs before its time', () => {
    expect(signingKey([first], at(-5_000))).toBe(first)
    expect(keyState(first, [first], at(-5_000))).toBe('current')
    expect(isPublished(first, [first], at(-5_000))).toBe(true)
    expect(nextKey([first], at(-5_000))).toBeNull()
    const both = [newKey('b', at(0), at(HOUR)), first]
    expect([signingKey(both, at(-1))?.kid, nextKey(both, at(-1))?.kid]).toEqual(['a', 'b'])
  })

  test('publishes the next key, and the current key gets its end', () => {
    const decided = rotation([first], { now: at(HOUR), leadMs: 2 * HOUR })
    expect(decided).toEqual({ kind: 'new', publishedAt: at(HOUR), signsFrom: at(3 * HOUR) })
    const keys = [first, newKey('b', at(HOUR), at(3 * HOUR))]
    expect(keyTimes(first, keys)).toEqual({
      signsUntil: at(3 * HOUR),
      publishedUntil: at(3 * HOUR + KEY_OVERLAP_MS),
    })
    const states = (ms: number) => keys.map((key) => keyState(key, keys, at(ms)))
    expect(states(3 * HOUR - 1)).toEqual(['current', 'next'])
    expect(states(3 * HOUR)).toEqual(['previous', 'current'])
    expect(states(3 * HOUR + KEY_OVERLAP_MS)).toEqual(['retired', 'current'])
  })

  test('leaves an existing next key as it is, unless the rotation is immediate: then that key signs at once', () => {
    const keys = [first, newKey('b', at(0), at(9 * HOUR))]
    expect(rotation(keys, { now: at(HOUR), leadMs: HOUR })).toMatchObject({ kind: 'under_way', kid: 'b' })
    expect(rotation(keys, { now: at(HOUR), leadMs: 0 })).toEqual({
      kind: 'forward',
      kid: 'b',
      signsFrom: at(HOUR),
    })
  })

  test('by schedule is due early enough for the next key to sign at the end of the interval', () => {
    const schedule = { everyMs: 30 * 24 * HOUR, leadMs: 24 * HOUR }
    expect(rotationDue([first], { now: at(0), ...schedule })).toEqual(at(29 * 24 * HOUR))
    expect(rotationDue([first, newKey('b', at(0), at(9))], { now: at(0), ...schedule })).toBeNull()
    expect(rotationDue([], { now: at(0), ...schedule })).toBeNull()
  })
})

describe('a retirement', () => {
  const keys = [
    newKey('old', at(0), at(0)),
    newKey('now', at(0), at(HOUR)),
    newKey('next', at(0), at(9 * HOUR)),
  ]
  const fault = (index: number, compromised = false) =>
    retirementFault(keys[index] as KeyLife, keys, { now: at(2 * HOUR), compromised })

  test('is allowed for the next key, refused for the current key, and allowed for a previous key only if compromised', () => {
    expect([fault(0), fault(0, true)]).toEqual(['previous', null])
    expect([fault(1), fault(1, true)]).toEqual(['current', 'current'])
    expect([fault(2), fault(2, true)]).toEqual([null, null])
  })

  test('stops a key from signing, and removes it from the key set after the overlap, or at once if withdrawn', () => {
    const retired = { ...(keys[2] as KeyLife), retiredAt: at(2 * HOUR) }
    const all = [...keys.slice(0, 2), retired]
    expect(signingKey(all, at(10 * HOUR))?.kid).toBe('now')
    expect(keyTimes(keys[1] as KeyLife, all).signsUntil).toBeNull()
    expect(isPublished(retired, all, at(2 * HOUR + KEY_OVERLAP_MS - 1))).toBe(true)
    expect(isPublished(retired, all, at(2 * HOUR + KEY_OVERLAP_MS))).toBe(false)
    const withdrawn = { ...retired, withdrawnAt: at(2 * HOUR) }
    expect(isPublished(withdrawn, [...keys.slice(0, 2), withdrawn], at(2 * HOUR))).toBe(false)
  })
})
