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
/** A burning budget is notified again only after it was not burning for this time, in milliseconds. */
const QUIET_MS = 3_600_000
/** The most relying parties that a notification names. */
const WORST = 5
const ISSUERS_AT_ONCE = 500

interface SlaDeps {
  readonly db: Database
  readonly now: () => Date
  readonly log: Log
  readonly metrics: Metrics
}

/**
 * Creates the job that reports the SLA of every issuer as metrics each minute, and notifies operators when an error budget burns.
 */
export function createSlaJob({ db, now, log, metrics }: SlaDeps): Job {
  let statuses: readonly IssuerStatus[] = []
  const values = (value: (recent: SlaNow) => number | null) =>
    statuses.flatMap(({ issuer, recent }) => {
      const found = value(recent)
      return found === null ? [] : [{ labels: { issuer: issuer.name }, value: found }]
    })
  metrics.gauges(
    'sla_share_kept',
    'Share of deliveries that kept the SLA, within the window of the error budget.',
    ['issuer'],
    () => values(({ all }) => shareKept(all)),
  )
  metrics.gauges(
    'sla_error_budget_left',
    'Share of the error budget that is left: 1 if none is spent, 0 if all is.',
    ['issuer'],
    () => values(({ all }) => errorBudget(all).shareLeft),
  )
  metrics.gauges(
    'sla_burn_rate',
    'Speed at which the error budget is spent. At 1 it lasts exactly for its window.',
    ['issuer', 'window'],
    () =>
      (Object.keys(BURN_WINDOWS) as BurnWindow[]).flatMap((window) =>
        values(({ windows }) => burnRate(windows[window])).map(({ labels, value }) => ({
          labels: { ...labels, window },
          value,
        })),
      ),
  )
  metrics.gauges(
    'sla_broken',
    'Logouts within the window that broke the promise, or are overdue.',
    ['issuer', 'window'],
    () =>
      (Object.keys(BURN_WINDOWS) as BurnWindow[]).flatMap((window) =>
        values(({ windows }) => windows[window].broken + windows[window].overdue).map(
          ({ labels, value }) => ({
            labels: { ...labels, window },
            value,
          }),
        ),
      ),
  )
  return {
    name: 'sla',
    pauseMs: PAUSE_MS,
    failurePauseMs: PAUSE_MS,
    async round() {
      statuses = await measure(db, now())
      await notify(db, statuses, { now: now(), log })
      return false
    },
  }
}

interface IssuerStatus {
  readonly issuer: IssuerRecord
  readonly scope: SlaScope
  readonly request: SlaRequest
  readonly recent: SlaNow
}

async function measure(db: Database, now: Date): Promise<readonly IssuerStatus[]> {
  const statuses: IssuerStatus[] = []
  // Deliveries that a bookkeeper has yet to project would seem overdue. The measurement therefore ends where the projection ends.
  const nowMs = (await slaFiledUntil(db, now)).getTime()
  for (let after: string | null = ''; after !== null; ) {
    const issuers: readonly IssuerRecord[] = await listIssuers(db, {
      after,
      limit: ISSUERS_AT_ONCE,
      only: null,
    })
    for (const issuer of issuers) {
      const scope = { issuer: issuer.name, clientIds: null }
      const request = {
        promises: await readPromises(db, scope),
        range: lastHours(nowMs, issuer.slaWindowDays * SLA_SPANS.day),
        nowMs,
      }
      statuses.push({ issuer, scope, request, recent: await slaNow(db, scope, request) })
    }
    after = issuers.length === ISSUERS_AT_ONCE ? (issuers.at(-1)?.name ?? null) : null
  }
  return statuses
}

async function notify(
  db: Database,
  statuses: readonly IssuerStatus[],
  { now, log }: { now: Date; log: Log },
): Promise<void> {
  const alerts = statuses.flatMap((each) => burning(each.recent.windows).map((alert) => ({ ...each, alert })))
  if (alerts.length === 0) return
  await watchBurns(db, async (transaction) => {
    for (const { issuer, scope, request, recent, alert } of alerts) {
      const { severity, long } = alert
      const slowestMs = Math.max(0, ...[...request.promises.values()].map(({ withinMs }) => withinMs))
      const range = lastHours(now.getTime(), slowestMs + BURN_WINDOWS[long])
      const parties = await slaByParty(transaction, scope, { ...request, range })
      const data = burnData({ issuer, recent, parties }, alert)
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

/** The content of a notification: the burn rate, the budget left, the relying parties that break the promise most, and a link. */
function burnData(
  {
    issuer,
    recent: { windows, all },
    parties,
  }: Pick<IssuerStatus, 'issuer' | 'recent'> & { readonly parties: ReadonlyMap<string, SlaCounts> },
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
    what: `Over the last ${long} the error budget of ${issuer.name} was spent ${rate(long)} times as fast as allowed over ${issuer.slaWindowDays} days; ${left > 0 ? `${Math.round(left * 100)} %` : 'nothing'} of it is left.`,
    fix: 'Check the health of the relying parties in `worst` (curfew rp health) and their dead letters (curfew dlq list).',
    links: { sla: `/v1/sla?issuer=${issuer.name}&group_by=relying_party` },
  }
}

/** The range of `lengthMs` until now, extended to full hours. */
function lastHours(nowMs: number, lengthMs: number): SlaRequest['range'] {
  return { fromMs: spanStart('hour', nowMs - lengthMs), toMs: spanEnd('hour', nowMs + 1) }
}

function rounded(value: number): number {
  return Math.round(value * 1_000) / 1_000
}
