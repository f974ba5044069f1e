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
import type { Job } from '../repeat.ts'
import { measureBudget } from './budget.ts'
import { exposeMetrics, type Measured } from './gauges.ts'
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
  const measured: Measured = { burns: new Map(), budgets: new Map() }
  exposeMetrics(deps.metrics, measured)
  let pauseMs = PAUSE_MS
  const burns: Job = {
    name: 'sla',
    get pauseMs() {
      return pauseMs
    },
    failurePauseMs: PAUSE_MS,
    async round() {
      const startedMs = monotonicMs()
      const nowMs = await judgedAt(db, now())
      const issuers = await allIssuers(db)
      measured.burns = await measureBurns(db, issuers, nowMs)
      pauseMs = Math.max(PAUSE_MS, PAUSE_SHARE * (monotonicMs() - startedMs))
      await notifyOfBurns(db, issuers, { burns: measured.burns, nowMs, now: now(), log })
      return false
    },
  }
  const budgets: Job = {
    name: 'sla budget',
    pauseMs: BUDGET_PAUSE_MS,
    failurePauseMs: BUDGET_PAUSE_MS,
    async round() {
      const nowMs = await judgedAt(db, now())
      const found = new Map<string, SlaNow>()
      for (const issuer of await allIssuers(db))
        found.set(issuer.name, await measureBudget(db, issuer, nowMs))
      measured.budgets = found
      return false
    },
  }
  return [burns, budgets]
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
): Promise<Measured['burns']> {
  const found = new Map<string, BurnCounts>()
  for (let from = 0; from < issuers.length; from += ISSUERS_AT_ONCE) {
    const names = issuers.slice(from, from + ISSUERS_AT_ONCE).map(({ name }) => name)
    for (const [issuer, windows] of await slaBurns(db, { issuers: names, nowMs })) found.set(issuer, windows)
  }
  return found
}
