/**
 * What an acknowledgement asserts, from the strongest to the weakest. `done`: the session is over. `partial`: the relying party's
 * own sessions are over, those that it passed on are not all. `received`: the relying party has the message. `begun`: it has begun
 * to end the sessions. `unconfirmable`: the message went out by a way that has no answer.
 */
export const LEVELS = ['done', 'partial', 'received', 'begun', 'unconfirmable'] as const
export type Level = (typeof LEVELS)[number]

/** Whether an acknowledgement of `level` asserts at least as much as `least`. */
export function atLeast(level: Level, least: Level): boolean {
  return LEVELS.indexOf(level) <= LEVELS.indexOf(least)
}

/** The one of two levels that asserts less. */
export function weaker(one: Level, other: Level): Level {
  return atLeast(one, other) ? other : one
}
