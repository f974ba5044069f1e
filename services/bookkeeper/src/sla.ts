import {
  BURN_WINDOWS,
  type BurnWindow,
  burning,
  burnRate,
  errorBudget,
  SLA_SPANS,
  type SlaCounts,
  shareKept,
  spanEnd,
  spanStart,
} from '@curfew/domain'
import {
  type Database,
  type IssuerRecord,
  listIssuers,
  noteBurn,
  readPromises,
  type SlaNow,
  type SlaRequest,
  type SlaScope,
  slaByParty,
  slaFiledUntil,
  slaNow,
  watchBurns,
} from '@curfew/ledger'
import type { Log, Metrics } from '@curfew/runtime'
import type { Job } from './repeat.ts'

const PAUSE_MS = 60_000
/** That a budget burns is told again once it was well for so long. */
const QUIET_MS = 3_600_000
/** Relying parties that a notification names. */
const WORST = 5
const ISSUERS_AT_ONCE = 500

interface SlaDeps {
  readonly db: Database
  readonly now: () => Date
  readonly log: Log
  readonly metrics: Metrics
}

/** Says each minute how each issuer's promise stands, as metrics, and tells operators where its error budget burns. */
export function createSlaJob({ db, now, log, metrics }: SlaDeps): Job {
  let standing: readonly Standing[] = []
  const values = (value: (lately: SlaNow) => number | null) =>
    standing.flatMap(({ issuer, lately }) => {
      const found = value(lately)
      return found === null ? [] : [{ labels: { issuer: issuer.name }, value: found }]
    })
  metrics.gauges('sla_share_kept', 'Of deliveries, within the window of the error budget.', ['issuer'], () =>
    values(({ all }) => shareKept(all)),
  )
  metrics.gauges('sla_error_budget_left', 'As a share of it: 1 none is spent, 0 all.', ['issuer'], () =>
    values(({ all }) => errorBudget(all).shareLeft),
  )
  metrics.gauges(
    'sla_burn_rate',
    'How many times as fast as it may last the error budget is spent.',
    ['issuer', 'window'],
    () =>
      (Object.keys(BURN_WINDOWS) as BurnWindow[]).flatMap((window) =>
        values(({ windows }) => burnRate(windows[window])).map(({ labels, value }) => ({
          labels: { ...labels, window },
          value,
        })),
      ),
  )
  return {
    name: 'sla',
    pauseMs: PAUSE_MS,
    failurePauseMs: PAUSE_MS,
    async round() {
      standing = await measure(db, now())
      await tell(db, standing, { now: now(), log })
      return false
    },
  }
}

interface Standing {
  readonly issuer: IssuerRecord
  readonly scope: SlaScope
  readonly asked: SlaRequest
  readonly lately: SlaNow
}

async function measure(db: Database, now: Date): Promise<readonly Standing[]> {
  const standing: Standing[] = []
  // What a bookkeeper that was away has yet to file would look as if it were overdue.
  const nowMs = (await slaFiledUntil(db, now)).getTime()
  for (let after: string | null = ''; after !== null; ) {
    const issuers: readonly IssuerRecord[] = await listIssuers(db, {
      after,
      limit: ISSUERS_AT_ONCE,
      only: null,
    })
    for (const issuer of issuers) {
      const scope = { issuer: issuer.name, clientIds: null }
      const asked = {
        promises: await readPromises(db, scope),
        range: lastHours(nowMs, issuer.slaWindowDays * SLA_SPANS.day),
        nowMs,
      }
      standing.push({ issuer, scope, asked, lately: await slaNow(db, scope, asked) })
    }
    after = issuers.length === ISSUERS_AT_ONCE ? (issuers.at(-1)?.name ?? null) : null
  }
  return standing
}

async function tell(
  db: Database,
  standing: readonly Standing[],
  { now, log }: { now: Date; log: Log },
): Promise<void> {
  const alerts = standing.flatMap((each) => burning(each.lately.windows).map((alert) => ({ ...each, alert })))
  if (alerts.length === 0) return
  await watchBurns(db, async (transaction) => {
    for (const { issuer, scope, asked, lately, alert } of alerts) {
      const { severity, long } = alert
      const slowestMs = Math.max(0, ...[...asked.promises.values()].map(({ withinMs }) => withinMs))
      const range = lastHours(now.getTime(), slowestMs + BURN_WINDOWS[long])
      const parties = await slaByParty(transaction, scope, { ...asked, range })
      const data = burnData({ issuer, lately, parties }, alert)
      const isNews = await noteBurn(transaction, {
        issuer: issuer.name,
        severity,
        now,
        quietMs: QUIET_MS,
        data,
      })
      if (isNews) log.warn({ event: 'sla.budget_burning', issuer: issuer.name, severity })
    }
  })
}

/** What a notification says: how fast, what is left, who breaks the promise most, and where to look. */
function burnData(
  {
    issuer,
    lately: { windows, all },
    parties,
  }: Pick<Standing, 'issuer' | 'lately'> & { readonly parties: ReadonlyMap<string, SlaCounts> },
  { severity, long, short }: ReturnType<typeof burning>[number],
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
    what: `Over the last ${long} the error budget of ${issuer.name} was spent ${rate(long)} times as fast as it may last for ${issuer.slaWindowDays} days; ${left > 0 ? `${Math.round(left * 100)} %` : 'nothing'} of it is left.`,
    fix: 'See how the relying parties named in worst are doing (curfew rp health), and their dead letters (curfew dlq list).',
    links: { sla: `/v1/sla?issuer=${issuer.name}&group_by=relying_party` },
  }
}

/** So long until now, to full hours. */
function lastHours(nowMs: number, lengthMs: number): SlaRequest['range'] {
  return { fromMs: spanStart('hour', nowMs - lengthMs), toMs: spanEnd('hour', nowMs + 1) }
}

function rounded(value: number): number {
  return Math.round(value * 1_000) / 1_000
}
