import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { ClaimsError } from './errors.ts'
import { type Cutoffs, isCutOff, type TokenClaims } from './rule.ts'

// Goal: a token is dead if and only if any logout covers it (CUT-01).
// Method: properties over few sessions, subjects and seconds, so that logouts and tokens meet often.

const ISS = 'https://idp.example'

interface Logout {
  readonly kind: 'sid' | 'sub' | 'everybody'
  readonly value: string
  readonly before: number
}

/** The logouts as they are read, one after another. */
function cutoffsOf(logouts: readonly Logout[]): Cutoffs {
  const times = new Map<string, number>()
  for (const { kind, value, before } of logouts) {
    const key = kind === 'everybody' ? kind : `${kind} ${value}`
    times.set(key, Math.max(before, times.get(key) ?? 0))
  }
  return {
    of: (kind, value) => times.get(`${kind} ${value}`) ?? 0,
    everybodyBefore: times.get('everybody') ?? 0,
  }
}
const dead = (claims: object, logouts: readonly Logout[], since: 'iat' | 'auth_time' = 'iat') =>
  isCutOff({ iss: ISS, ...claims } as TokenClaims, cutoffsOf(logouts), { issuer: ISS, since })

const NAMES = fc.constantFrom('a', 'b', 'c')
const SECOND = fc.integer({ min: 1, max: 20 })
const LOGOUT: fc.Arbitrary<Logout> = fc.record({
  kind: fc.constantFrom('sid', 'sub', 'everybody'),
  value: NAMES,
  before: SECOND,
})
const LOGOUTS = fc.array(LOGOUT, { maxLength: 6 })
const TOKEN = fc.record(
  { sid: NAMES, sub: NAMES, iat: fc.double({ min: 0, max: 22, noNaN: true }) },
  { requiredKeys: ['iat'] },
)

describe('CUT-01: a token is dead', () => {
  test('if and only if any single logout covers it', () => {
    fc.assert(
      fc.property(TOKEN, LOGOUTS, (token, logouts) => {
        const covers = ({ kind, value, before }: Logout) =>
          kind === 'sid'
            ? token.sid === value
            : (kind === 'everybody' || token.sub === value) && Math.floor(token.iat) <= before
        expect(dead(token, logouts)).toBe(logouts.some(covers))
      }),
    )
  })

  test('whatever the order and the number of times in which logouts are read', () => {
    fc.assert(
      fc.property(TOKEN, LOGOUTS, fc.infiniteStream(fc.nat()), (token, logouts, numbers) => {
        const shuffled = [...logouts, ...logouts]
          .map((logout) => ({ logout, place: numbers.next().value ?? 0 }))
          .sort((one, other) => one.place - other.place)
          .map(({ logout }) => logout)
        expect(dead(token, shuffled)).toBe(dead(token, logouts))
      }),
    )
  })

  test.each(['sub', 'everybody'] as const)(
    'by a logout of %s in the same second, and lives in the next',
    (kind) => {
      const logouts = [{ kind, value: 'alice', before: 100 }]
      expect(dead({ sub: 'alice', iat: 100 }, logouts)).toBe(true)
      expect(dead({ sub: 'alice', iat: 100.999 }, logouts)).toBe(true)
      expect(dead({ sub: 'alice', iat: 101 }, logouts)).toBe(false)
    },
  )

  test('by the logout of its session, whenever it was issued', () => {
    const logouts: Logout[] = [{ kind: 'sid', value: 's1', before: 100 }]
    expect(dead({ sub: 'alice', sid: 's1', iat: 4_000_000_000 }, logouts)).toBe(true)
    expect(dead({ sub: 'alice', sid: 's2', iat: 1 }, logouts)).toBe(false)
  })

  test('by its auth_time if so configured, although it was issued later', () => {
    const logouts: Logout[] = [{ kind: 'sub', value: 'alice', before: 100 }]
    expect(dead({ sub: 'alice', iat: 200, auth_time: 50 }, logouts, 'auth_time')).toBe(true)
    expect(dead({ sub: 'alice', iat: 50, auth_time: 200 }, logouts, 'auth_time')).toBe(false)
    expect(dead({ sub: 'alice', iat: 200 }, logouts, 'auth_time')).toBe(true)
  })

  test.each([
    ['absent', undefined],
    ['text', '4000000000'],
    ['not finite', Number.POSITIVE_INFINITY],
    ['not a number', Number.NaN],
    ['null', null],
  ])('if its time is %s and its subject or its issuer has a logout', (_, iat) => {
    expect(dead({ sub: 'alice', iat }, [{ kind: 'sub', value: 'alice', before: 1 }])).toBe(true)
    expect(dead({ sub: 'alice', iat }, [{ kind: 'everybody', value: '', before: 1 }])).toBe(true)
    expect(dead({ sub: 'alice', iat }, [{ kind: 'sub', value: 'bob', before: 1 }])).toBe(false)
  })
})

describe('a token about which the feed says nothing is an error and not alive', () => {
  test.each([
    ['of another issuer', { iss: 'https://other.example' }, 'iss'],
    ['of the issuer with a slash', { iss: `${ISS}/` }, 'iss'],
    ['without an issuer', { iss: undefined }, 'iss'],
    ['with a number as sid', { sid: 7 }, 'sid'],
    ['with a list as sub', { sub: ['alice'] }, 'sub'],
    ['with an object as sub', { sub: {} }, 'sub'],
  ])('%s', (_, claims, claim) => {
    const check = () => dead({ sub: 'alice', iat: 1, ...claims }, [])
    expect(check).toThrow(ClaimsError)
    expect(check).toThrow(expect.objectContaining({ claim }))
  })
})
