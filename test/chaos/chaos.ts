import { randomInt } from 'node:crypto'
import { type TestContext, test } from 'vitest'
import { createRandom, type Random } from './random.ts'

// Defines chaos cases: tests with a seed, a length and a report. In `npm test` a case applies every fault once. In `npm run
// chaos` it has a length, and repeats the faults until its time is up.

/** The result of a case. */
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
  /** Accepted events and sessions that the ledger, a relying party or the event log lacks; null if they were not counted. */
  lost: number | null
  /** Accepted logouts that arrived later than the limit. */
  late: number | null
  /** Logout tokens beyond the first of an event at a relying party. */
  duplicates: number | null
  /** Deliveries that a later logout superseded. */
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
  /** Whether the case runs for minutes. */
  readonly long: boolean
  readonly report: Report
  /** Every item once, in random order. In a long case the items repeat until the time is up. */
  rounds<Item>(items: readonly Item[]): Iterable<Item>
  /** Counts a fault. A long case prints it too. */
  struck(what: string, kills?: number): void
  say(line: string): void
}

/** Time for the start and the final comparison, which waits longer for a late logout than for a sound run. */
const SLACK_MS = 420_000

/**
 * Defines a chaos case as a test. `CHAOS_SECONDS` makes it long. `CHAOS_SEED` gives the random numbers of an earlier run, to
 * reproduce a failure; timing may still differ.
 */
export function chaosTest(
  name: string,
  title: string,
  run: (chaos: Chaos, context: TestContext) => Promise<void>,
): void {
  const long = process.env.CHAOS_SECONDS !== undefined
  const lengthMs = Number(process.env.CHAOS_SECONDS ?? 0) * 1_000
  // A fault may begin shortly before the time is up.
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
          *rounds(items) {
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
