/** The levels of an acknowledgement, from the strongest to the weakest. */
export const LEVELS = ['done', 'partial', 'received', 'begun', 'unconfirmable'] as const
export type Level = (typeof LEVELS)[number]

export const LEVEL_MEANINGS: Readonly<Record<Level, string>> = {
  done: 'The session is over.',
  partial:
    "The relying party's own sessions are over, but not all sessions at the parties that it passed the logout on to.",
  received: 'The relying party has received the message.',
  begun: 'The relying party has begun to end the sessions.',
  unconfirmable: 'The message was sent by a channel that has no answer.',
}

/** Whether an acknowledgement of `level` asserts at least as much as `least`. */
export function atLeast(level: Level, least: Level): boolean {
  return LEVELS.indexOf(level) <= LEVELS.indexOf(least)
}

/** The weaker of two levels. */
export function weaker(one: Level, other: Level): Level {
  return atLeast(one, other) ? other : one
}
