import { describe, expect, test } from 'vitest'
import { beganAfter } from './session-match.ts'

// Goal: a logout ends sessions that began before it, by either clock, and never a session that began after it.
// Method: a table of stated and unstated times, in seconds after the logout was accepted, by our clock.

const at = (seconds: number) => new Date(Date.UTC(2026, 10, 21, 12) + seconds * 1_000)
/** A session as its IdP posted it. `started` is null if the IdP stated no time. */
const session = (started: number | null, accepted: number) => ({
  startedAt: at(started ?? accepted),
  startedStated: started !== null,
  acceptedAt: at(accepted),
})
const event = (occurred: number | null, parentAccepted?: number) => ({
  occurredAt: occurred === null ? null : at(occurred),
  acceptedAt: at(0),
  ...(parentAccepted !== undefined && { parentAcceptedAt: at(parentAccepted) }),
})

describe('beganAfter', () => {
  test.each<[string, number | null, number | null, number, boolean]>([
    ['both times stated, start after the logout', 20, 21, -1, true],
    ['both times stated, start at the same instant', 20, 20, 9, false],
    ['both times stated, both before acceptance by our clock', -3_600, -1_800, -900, true],
    ['no occurred_at, an IdP 20 s ahead, login three seconds before', null, 17, -3, false],
    ['no occurred_at, an IdP 20 s ahead, login one minute after', null, 80, 60, true],
    ['no occurred_at, an IdP 20 s behind, login one minute after', null, 40, 60, true],
    ['no occurred_at, a session posted late', null, -30, 60, false],
    ['no occurred_at, a start ahead by the largest clock difference', null, 300, -3, false],
    ['no occurred_at, a start ahead by more than the largest clock difference', null, 301, -3, true],
    ['no time stated, posted before', null, null, -1, false],
    ['no time stated, posted after', null, null, 1, true],
    ['no started_at, an IdP 20 s ahead, posted before', 20, null, -1, false],
    ['no started_at, an IdP 20 s ahead, login ten seconds after', 20, null, 10, true],
    ['no started_at, an IdP 20 s behind, login just before', -20, null, -1, false],
    ['no started_at, a logout posted an hour late, a login since', -3_600, null, -1_800, true],
  ])('%s (%s, %s, %s): %s', (_, occurred, started, accepted, after) => {
    expect(beganAfter(session(started, accepted), event(occurred))).toBe(after)
  })

  test('compares a part of an issuer logout by the time of the issuer logout', () => {
    expect(beganAfter(session(null, -1), event(null, -60))).toBe(true)
    expect(beganAfter(session(null, -61), event(null, -60))).toBe(false)
    expect(beganAfter(session(null, -1), event(-30, -60))).toBe(true)
  })
})
