import type { SlaFilter } from '@curfew/client'
import type { Sla, SlaGroup } from '@curfew/contract'
import { answered, CONNECTION_OPTIONS, connect } from '../calls/connect.ts'
import { reachableIssuers, severalIssuers } from '../registry/issuer.ts'
import { command, type Given, text, UsageError } from '../terminal/arguments.ts'
import { plain, table } from '../terminal/table.ts'

const GROUPS = { 'relying-party': 'relying_party', hour: 'hour' } as const

const OPTIONS = {
  by: text('relying-party|hour', 'group the figures'),
  client: text('CLIENT_ID', 'only this relying party'),
  from: text('TIME', 'the beginning of the range of the time of acceptance, in full hours'),
  to: text('TIME', 'the end of the range'),
  issuer: text('NAME', 'only this issuer (default: all, in one table)'),
  ...CONNECTION_OPTIONS,
} as const

export const sla = command(
  {
    about: 'show the SLA report: share of kept deliveries, error budget, burn rate, deliveries at risk',
    options: OPTIONS,
    notes: 'Exit status 1: the error budget of an issuer is exceeded.',
    examples: ['curfew sla --by relying-party'],
  },
  runSla,
)

/** Prints the SLA report. Exit status 1 if an error budget of the range is exceeded, or a report is unavailable. */
async function runSla({ values }: Given<typeof OPTIONS>): Promise<number> {
  const { issuer, client, by, from, to } = values
  if (by !== undefined && !Object.hasOwn(GROUPS, by))
    throw new UsageError(`--by must be ${Object.keys(GROUPS).join(' or ')}.`)
  const filter: SlaFilter = {
    ...(client !== undefined && { client_id: client }),
    ...(from !== undefined && { from }),
    ...(to !== undefined && { to }),
    ...(by !== undefined && { group_by: GROUPS[by as keyof typeof GROUPS] }),
  }
  const api = connect(values)
  const reachable = issuer === undefined ? ((await reachableIssuers(api)) ?? []) : []
  if (reachable.length > 1 && (client !== undefined || by !== undefined)) throw severalIssuers(reachable)
  const reports: Sla[] = []
  // A key that may not list issuers may still read the SLA of the only one.
  const names = reachable.length === 0 ? [issuer] : reachable.map(({ name }) => name)
  for (const name of names)
    reports.push(await answered(api.getSla({ ...(name !== undefined && { issuer: name }), ...filter })))
  const [found, ...others] = reports
  const isOne = found !== undefined && others.length === 0
  if (values.json === true) process.stdout.write(`${JSON.stringify(isOne ? found : { items: reports })}\n`)
  else process.stdout.write(isOne ? slaText(found) : issuersTable(reports))
  return reports.some(({ error_budget }) => error_budget.left < 0) ? 1 : 0
}

/** One row for each issuer. */
function issuersTable(reports: readonly Sla[]): string {
  const head = [
    'ISSUER',
    'PROMISED',
    'PLANNED',
    'KEPT',
    'SHARE',
    'BROKEN',
    'OVERDUE',
    'WAITING',
    'BUDGET LEFT',
  ]
  const rows = reports.map(({ promise, ...report }) => [
    report.issuer,
    `${percent(promise.objective)} in ${promise.within_ms} ms, ${promise.window_days} days`,
    report.planned,
    report.kept,
    percent(report.share_kept),
    report.broken,
    report.overdue,
    report.waiting,
    budgetLeft(report.error_budget.share_left),
    report.burn_rate['1h'] === null ? '' : +report.burn_rate['1h'].toFixed(2),
    report.elapsed_ms?.p99 ?? '',
  ])
  const waiting = reports.find(({ not_counted_yet: reason }) => reason !== null)?.not_counted_yet
  return (
    table([[...head, 'BURN RATE 1H', 'P99 MS'], ...rows]) +
    (waiting == null ? '' : `\nnot counted yet: ${waiting}\n`)
  )
}

function slaText(found: Sla): string {
  const { promise, error_budget: budget, burn_rate: burn, at_risk: risk } = found
  const subject = found.client_id === null ? found.issuer : `${found.issuer}/${found.client_id}`
  const facts: readonly (readonly [string, string])[] = [
    ['promised', `${percent(promise.objective)} within ${promise.within_ms} ms of acceptance`],
    ['kept', `${percent(found.share_kept)}: ${found.kept} of ${found.settled + found.overdue} deliveries`],
    ['broken', `${found.broken}, and ${found.overdue} overdue`],
    [
      'error budget',
      `${budget.left < 0 ? 'overspent' : `${percent(budget.share_left)} is left`}: ${budget.spent} broken of ${+budget.allowed.toFixed(1)} allowed`,
    ],
    [
      'acknowledged',
      found.elapsed_ms === null
        ? 'none'
        : `p50 ${found.elapsed_ms.p50} ms, p95 ${found.elapsed_ms.p95} ms, p99 ${found.elapsed_ms.p99} ms`,
    ],
    [
      'burn rate',
      Object.entries(burn)
        .map(([window, rate]) => `${window}: ${rate === null ? 'no traffic' : +rate.toFixed(2)}`)
        .join(', '),
    ],
    ['at risk now', `${risk.waiting} waiting, ${risk.overdue} overdue`],
    ...(found.not_counted_yet === null ? [] : [['not counted yet', found.not_counted_yet] as const]),
  ]
  const head = `${plain(subject)}, accepted from ${time(found.from)} to ${time(found.to)} (UTC)\n\n`
  return (
    head +
    facts.map(([name, value]) => `${name.padEnd(16)}${value}\n`).join('') +
    (found.groups === undefined ? '' : `\n${groupTable(found.groups)}`)
  )
}

function groupTable(groups: readonly SlaGroup[]): string {
  if (groups.length === 0) return 'No deliveries in this range.\n'
  const first = groups[0]?.hour === undefined ? 'CLIENT' : 'HOUR (UTC)'
  const head = [
    'PLANNED',
    'KEPT',
    'SHARE',
    'BROKEN',
    'OVERDUE',
    'WAITING',
    'BUDGET LEFT',
    'P50 MS',
    'P95 MS',
    'P99 MS',
  ]
  const rows = groups.map((group) => [
    group.client_id ?? time(group.hour ?? ''),
    group.planned,
    group.kept,
    percent(group.share_kept),
    group.broken,
    group.overdue,
    group.waiting,
    budgetLeft(group.error_budget.share_left),
    group.elapsed_ms?.p50 ?? '',
    group.elapsed_ms?.p95 ?? '',
    group.elapsed_ms?.p99 ?? '',
  ])
  return table([[first, ...head], ...rows])
}

function percent(share: number | null): string {
  return share === null ? 'nothing yet' : `${+(share * 100).toFixed(3)} %`
}

/**
 * The share of the error budget that is left, in words. An exceeded budget is shown as `overspent N times`, because a large negative
 * share is hard to read.
 */
function budgetLeft(share: number): string {
  if (share >= 0) return percent(share)
  const times = 1 - share
  return `overspent ${times < 10 ? Math.ceil(times * 100) / 100 : Math.round(times)} times`
}

function time(instant: string): string {
  return instant.slice(0, 16).replace('T', ' ')
}
