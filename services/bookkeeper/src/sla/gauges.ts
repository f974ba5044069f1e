import {
  BURN_WINDOWS,
  type BurnWindow,
  burnRate,
  errorBudget,
  type SlaCounts,
  shareKept,
} from '@curfew/domain'
import type { BurnCounts, SlaNow } from '@curfew/ledger'
import type { Metrics } from '@curfew/runtime'

/** The latest measurements by issuer. Null: unknown. */
export interface Measured {
  burns(): ReadonlyMap<string, BurnCounts> | null
  budgets(): ReadonlyMap<string, SlaNow> | null
}

/** Exposes the latest measurements. */
export function exposeMetrics(metrics: Metrics, measured: Measured): void {
  const valuesOf = <Found>(
    found: ReadonlyMap<string, Found> | null,
    value: (found: Found) => number | null,
  ) =>
    [...(found ?? [])].flatMap(([issuer, one]) => {
      const number = value(one)
      return number === null ? [] : [{ labels: { issuer }, value: number }]
    })
  metrics.gauges(
    'sla_share_kept',
    'Share of deliveries that kept the SLA, within the window of the error budget.',
    ['issuer'],
    () => valuesOf(measured.budgets(), ({ all }) => shareKept(all)),
  )
  metrics.gauges(
    'sla_error_budget_left',
    'Share of the error budget that is left: 1 if none is spent, 0 if all is.',
    ['issuer'],
    () => valuesOf(measured.budgets(), ({ all }) => errorBudget(all).shareLeft),
  )
  const byWindow = (value: (counts: SlaCounts) => number | null) =>
    (Object.keys(BURN_WINDOWS) as BurnWindow[]).flatMap((window) =>
      valuesOf(measured.burns(), (windows) => value(windows[window])).map(({ labels, value }) => ({
        labels: { ...labels, window },
        value,
      })),
    )
  metrics.gauges(
    'sla_burn_rate',
    'Speed at which the error budget is spent. At 1 it lasts exactly for its window.',
    ['issuer', 'window'],
    () => byWindow(burnRate),
  )
  metrics.gauges(
    'sla_broken',
    'Logouts within the window that broke the promise, or are overdue.',
    ['issuer', 'window'],
    () => byWindow(({ broken, overdue }) => broken + overdue),
  )
  metrics.gauges(
    'sla_overdue',
    'Deliveries that are not settled, and whose promise is past.',
    ['issuer'],
    () => {
      const budgets = measured.budgets()
      // The burn windows alone would miss the oldest.
      if (budgets === null) return []
      return [...(measured.burns() ?? [])].map(([issuer, windows]) => ({
        labels: { issuer },
        value: windows['6h'].overdue + overdueBefore(budgets.get(issuer)),
      }))
    },
  )
}

/** The overdue deliveries from before the longest burn window, which change slowly. */
function overdueBefore(budget: SlaNow | undefined): number {
  return budget === undefined ? 0 : Math.max(0, budget.all.overdue - budget.windows['6h'].overdue)
}
