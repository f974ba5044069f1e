import { describe, expect, test } from 'vitest'
import { beganAfter } from './session-match.ts'

// Goal: a logout ends what began before it, whichever clock says so, and never a session that began after it.
// Times are seconds after the logout was accepted, by our clock.

const at = (seconds: number) => new Date(Date.UTC(2026, 10, 21, 12) + seconds * 1_000)
/** A session, as its IdP posted it; `started` null where it stated no time. */
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

describe('a session began after a logout', () => {
  test.each<[string, number | null, number | null, number, boolean]>([
    ['both times stated: the later one', 20, 21, -1, true],
    ['both times stated: the same instant is before', 20, 20, 9, false],
    ['both times stated: whatever our clock says', -3_600, -1_800, -900, true],
    ['no occurred_at, an IdP 20 s ahead, login three seconds before', null, 17, -3, false],
    ['no occurred_at, an IdP 20 s ahead, login one minute after', null, 80, 60, true],
    ['no occurred_at, an IdP 20 s behind, login one minute after', null, 40, 60, true],
    ['no occurred_at, a session posted late', null, -30, 60, false],
    ['no occurred_at, a start at the edge of what clocks may differ', null, 300, -3, false],
    ['no occurred_at, a start beyond what clocks may differ', null, 301, -3, true],
    ['no time stated at all, posted before', null, null, -1, false],
    ['no time stated at all, posted after', null, null, 1, true],
    ['no started_at, an IdP 20 s ahead, posted before', 20, null, -1, false],
    ['no started_at, an IdP 20 s ahead, login ten seconds after', 20, null, 10, true],
    ['no started_at, an IdP 20 s behind, login just before', -20, null, -1, false],
    ['no started_at, a logout posted an hour late, a login since', -3_600, null, -1_800, true],
  ])('%s', (_, occurred, started, accepted, after) => {
    expect(beganAfter(session(started, accepted), event(occurred))).toBe(after)
  })

  test('the part of an issuer logout is as old as the whole, whenever it is made', () => {
    expect(beganAfter(session(null, -1), event(null, -60))).toBe(true)
    expect(beganAfter(session(null, -61), event(null, -60))).toBe(false)
    expect(beganAfter(session(null, -1), event(-30, -60))).toBe(true)
  })
})
