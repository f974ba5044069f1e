import { BURN_WINDOWS, type BurnWindow, burning, burnRate, errorBudget, type SlaCounts } from '@curfew/domain'
import {
  type BurnCounts,
  type Database,
  type IssuerRecord,
  notifyOfBurn,
  type Queryable,
  readPromises,
  type SlaScope,
  seeBurn,
  slaByParty,
  watchBurns,
} from '@curfew/ledger'
import type { Log } from '@curfew/runtime'
import { lastHours, measureBudget } from './budget.ts'

/** A burning budget is notified again only after it was not burning for this time, in milliseconds. */
const QUIET_MS = 3_600_000
/** The most relying parties that a notification names. */
const WORST = 5

/** Notifies operators of the error budgets that begin to burn, once, whatever the number of bookkeepers. */
export async function notifyOfBurns(
  db: Database,
  issuers: readonly IssuerRecord[],
  { burns, nowMs, now, log }: { burns: ReadonlyMap<string, BurnCounts>; nowMs: number; now: Date; log: Log },
): Promise<void> {
  const alerts = issuers.flatMap((issuer) => {
    const windows = burns.get(issuer.name)
    return windows === undefined ? [] : burning(windows).map((alert) => ({ issuer, windows, alert }))
  })
  if (alerts.length === 0) return
  await watchBurns(db, async (transaction) => {
    for (const { issuer, windows, alert } of alerts) {
      const burn = { issuer: issuer.name, severity: alert.severity }
      if (!(await seeBurn(transaction, { ...burn, now, quietMs: QUIET_MS }))) continue
      const { all } = await measureBudget(transaction, issuer, nowMs)
      const parties = await partiesOf(transaction, issuer, { alert, nowMs })
      const data = burnData({ issuer, windows, all, parties }, alert)
      await notifyOfBurn(transaction, { issuer: issuer.name, data })
      log.warn({ event: 'sla.budget_burning', ...burn })
    }
  })
}

type Alert = ReturnType<typeof burning>[number]

/** Reads the figures by relying party over the hours of the long window. */
async function partiesOf(
  db: Queryable,
  issuer: IssuerRecord,
  { alert, nowMs }: { alert: Alert; nowMs: number },
): Promise<ReadonlyMap<string, SlaCounts>> {
  const scope: SlaScope = { issuer: issuer.name, clientIds: null }
  const promises = await readPromises(db, scope)
  const slowestMs = Math.max(0, ...[...promises.values()].map(({ withinMs }) => withinMs))
  const range = lastHours(nowMs, slowestMs + BURN_WINDOWS[alert.long])
  return slaByParty(db, scope, { promises, range, nowMs })
}

/** The content of a notification: the burn rate, the budget left, the relying parties that break the promise most, and a link. */
function burnData(
  {
    issuer,
    windows,
    all,
    parties,
  }: {
    readonly issuer: IssuerRecord
    readonly windows: BurnCounts
    readonly all: SlaCounts
    readonly parties: ReadonlyMap<string, SlaCounts>
  },
  { severity, long, short }: Alert,
): Readonly<Record<string, unknown>> {
  const rate = (window: BurnWindow) => rounded(burnRate(windows[window]) ?? 0)
  const left = rounded(errorBudget(all).shareLeft)
  const broken = [...parties]
    .map(([clientId, counts]) => ({ client_id: clientId, broken: counts.broken + counts.overdue }))
    .filter((party) => party.broken > 0)
    .sort((a, b) => b.broken - a.broken)
  const total = broken.reduce((sum, party) => sum + party.broken, 0)
  return {
    issuer: issuer.name,
    severity,
    within_ms: issuer.slaWithinMs,
    objective: issuer.slaObjective,
    burn_rate: { [long]: rate(long), [short]: rate(short) },
    budget_left: left,
    overdue: all.overdue,
    worst: broken.slice(0, WORST).map((party) => ({ ...party, share: rounded(party.broken / total) })),
    what: `The error budget of ${issuer.name} for ${issuer.slaWindowDays} days is spent ${rate(long)} times as fast as allowed over the last ${long}, and ${rate(short)} times over the last ${short}. ${all.overdue} deliveries are overdue now. ${left > 0 ? `${Math.round(left * 100)} %` : 'Nothing'} of the budget is left.`,
    fix: 'Check the health of the relying parties in `worst` (curfew rp health) and their dead letters (curfew dlq list).',
    links: { sla: `/v1/sla?issuer=${issuer.name}&group_by=relying_party` },
  }
}

function rounded(value: number): number {
  return Math.round(value * 1_000) / 1_000
}
