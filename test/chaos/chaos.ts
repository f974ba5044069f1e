import { randomInt } from 'node:crypto'
import { type TestContext, test } from 'vitest'
import { createRandom, type Random } from './random.ts'

// What makes a test a case of chaos: a seed, a length, and a report. In `npm test` a case takes every blow once; `npm run
// chaos` gives it a length, and it takes them again and again until the time is up.

/** What a case came to. */
export interface Report {
  readonly case: string
  readonly seed: number
  seconds: number
  /** Events that were answered with 202. */
  accepted: number
  /** Sessions that were answered with 202. */
  sessions: number
  /** Processes that were killed, stopped or cut off. */
  kills: number
  /** Of both, what the ledger, a relying party or the event log does not have; null when it did not come to that. */
  lost: number | null
  /** Accepted logouts that arrived, and later than the limit. */
  late: number | null
  /** Logout tokens beyond the first for an event at a relying party. */
  duplicates: number | null
  /** Deliveries that ended because a later logout covered them. */
  superseded: number | null
  /** The longest time from a 202 to the first byte at a relying party, in milliseconds. */
  slowestMs: number | null
}

declare module 'vitest' {
  interface TaskMeta {
    chaos?: Report
  }
}

export interface Chaos {
  readonly random: Random
  /** Whether it goes on for minutes. */
  readonly long: boolean
  readonly report: Report
  /** Every item once, in random order; and, where it is long, again until the time is up. */
  turns<Item>(items: readonly Item[]): Iterable<Item>
  /** Counts a blow, and says so where people wait for long. */
  struck(what: string, kills?: number): void
  say(line: string): void
}

/** How long the beginning and the account at the end may take. The account waits longer for a late logout than for a sound run. */
const SLACK_MS = 420_000

/**
 * Defines a test of the name `title`. `CHAOS_SECONDS` makes it long; `CHAOS_SEED` gives the random numbers of an earlier
 * run, to see a failure again as far as time allows.
 */
export function chaosTest(
  name: string,
  title: string,
  run: (chaos: Chaos, context: TestContext) => Promise<void>,
): void {
  const long = process.env.CHAOS_SECONDS !== undefined
  const lengthMs = Number(process.env.CHAOS_SECONDS ?? 0) * 1_000
  // A blow may begin when the time is all but up.
  test(`${name}: ${title}`, { timeout: lengthMs * 2 + SLACK_MS }, async (context) => {
    const seed = Number(process.env.CHAOS_SEED ?? randomInt(2 ** 31))
    const random = createRandom(seed)
    const report: Report = {
      case: name,
      seed,
      seconds: 0,
      accepted: 0,
      sessions: 0,
      kills: 0,
      lost: null,
      late: null,
      duplicates: null,
      superseded: null,
      slowestMs: null,
    }
    context.task.meta.chaos = report
    const beganAt = Date.now()
    const say = (line: string) => {
      const seconds = ((Date.now() - beganAt) / 1_000).toFixed(1).padStart(6)
      process.stderr.write(`${name} ${seconds} s: ${line}\n`)
    }
    say(`CHAOS_SEED=${seed}`)
    try {
      await run(
        {
          random,
          long,
          report,
          *turns(items) {
            do yield* random.shuffled(items)
            while (Date.now() - beganAt < lengthMs)
          },
          struck(what, kills = 1) {
            report.kills += kills
            if (long) say(`${what}; ${report.accepted} accepted`)
          },
          say,
        },
        context,
      )
    } finally {
      report.seconds = (Date.now() - beganAt) / 1_000
    }
  })
}
