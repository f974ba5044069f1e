import {
  type BurnCounts,
  type Database,
  type IssuerRecord,
  listIssuers,
  type SlaNow,
  slaBurns,
  slaFiledUntil,
} from '@curfew/ledger'
import type { Log, Metrics } from '@curfew/runtime'
import { createReading } from '../readings/reading.ts'
import type { Job } from '../repeat.ts'
import { measureBudget } from './budget.ts'
import { exposeMetrics } from './gauges.ts'
import { notifyOfBurns } from './notify.ts'

/** The pause between measurements of the burn rates, in milliseconds. With a tick, a delivery is overdue within 15 seconds. */
const PAUSE_MS = 5_000
/** The pause is at least this many times as long as the measurement, which bounds its cost with thousands of relying parties. */
const PAUSE_SHARE = 20
/** The pause between measurements of the whole window of the error budget, in milliseconds. */
const BUDGET_PAUSE_MS = 60_000
const ISSUERS_AT_ONCE = 500

interface SlaDeps {
  readonly db: Database
  readonly now: () => Date
  readonly log: Log
  readonly metrics: Metrics
  /** Monotonic time in milliseconds. Default: of this process. */
  readonly monotonicMs?: () => number
}

/**
 * Creates the jobs that report the SLA of every issuer as metrics. One measures the burn rates and the overdue deliveries every
 * few seconds, and notifies operators when an error budget burns. The other measures the window of the budget every minute.
 */
export function createSlaJobs(deps: SlaDeps): readonly Job[] {
  const { db, now, log, monotonicMs = () => performance.now() } = deps
  let pauseMs = PAUSE_MS
  const burns = createReading(
    'sla',
    async () => {
      const startedMs = monotonicMs()
      const nowMs = await judgedAt(db, now())
      const issuers = await allIssuers(db)
      const found = await measureBurns(db, issuers, nowMs)
      pauseMs = Math.max(PAUSE_MS, PAUSE_SHARE * (monotonicMs() - startedMs))
      return { burns: found, issuers, nowMs }
    },
    { pauseMs: () => pauseMs, monotonicMs },
  )
  const budgets = createReading('sla budget', () => measureBudgets(db, now()), {
    pauseMs: () => BUDGET_PAUSE_MS,
    monotonicMs,
  })
  exposeMetrics(deps.metrics, { burns: () => burns.latest()?.burns ?? null, budgets: budgets.latest })
  const notifying: Job = {
    name: burns.name,
    get pauseMs() {
      return burns.pauseMs
    },
    failurePauseMs: burns.failurePauseMs,
    async round() {
      await burns.round()
      const measured = burns.latest()
      // A failed notification leaves the values as they are.
      if (measured !== null) await notifyOfBurns(db, measured.issuers, { ...measured, now: now(), log })
      return false
    },
  }
  return [notifying, budgets]
}

async function measureBudgets(db: Database, now: Date): Promise<ReadonlyMap<string, SlaNow>> {
  const nowMs = await judgedAt(db, now)
  const found = new Map<string, SlaNow>()
  for (const issuer of await allIssuers(db)) found.set(issuer.name, await measureBudget(db, issuer, nowMs))
  return found
}

/** Deliveries that a bookkeeper has yet to project would seem overdue. A measurement therefore ends where the projection ends. */
async function judgedAt(db: Database, now: Date): Promise<number> {
  return (await slaFiledUntil(db, now)).getTime()
}

async function allIssuers(db: Database): Promise<readonly IssuerRecord[]> {
  const all: IssuerRecord[] = []
  for (let after: string | null = ''; after !== null; ) {
    const page: readonly IssuerRecord[] = await listIssuers(db, { after, limit: ISSUERS_AT_ONCE, only: null })
    all.push(...page)
    after = page.length === ISSUERS_AT_ONCE ? (page.at(-1)?.name ?? null) : null
  }
  return all
}

async function measureBurns(
  db: Database,
  issuers: readonly IssuerRecord[],
  nowMs: number,
): Promise<ReadonlyMap<string, BurnCounts>> {
  const found = new Map<string, BurnCounts>()
  for (let from = 0; from < issuers.length; from += ISSUERS_AT_ONCE) {
    const names = issuers.slice(from, from + ISSUERS_AT_ONCE).map(({ name }) => name)
    for (const [issuer, windows] of await slaBurns(db, { issuers: names, nowMs })) found.set(issuer, windows)
  }
  return found
}
