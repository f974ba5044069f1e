import type { Sla, SlaGroup } from '@curfew/contract'
import {
  addCounts,
  burnRate,
  errorBudget,
  latencyQuantile,
  mergeHistograms,
  NO_COUNTS,
  type SlaCounts,
  type SlaPromise,
  shareKept,
  waitingOf,
} from '@curfew/domain'
import type { SlaFigures, SlaGroups, SlaNow } from '@curfew/ledger'

/** The sum of all groups. */
export function sumOf(groups: SlaGroups<unknown> | null): SlaFigures {
  const all = [...(groups?.values() ?? [])]
  return {
    ...all.reduce(addCounts, NO_COUNTS),
    latencies: mergeHistograms(all.map(({ latencies }) => latencies)),
  }
}

export function promiseView({ withinMs, objective }: SlaPromise) {
  return { within_ms: withinMs, objective }
}

export function figuresView(figures: SlaFigures) {
  const { planned, kept, broken, overdue, latencies } = figures
  const [p50, p95, p99] = [0.5, 0.95, 0.99].map((share) => latencyQuantile(latencies, share))
  const { allowed, spent, left, shareLeft } = errorBudget(figures)
  return {
    planned,
    settled: kept + broken,
    kept,
    broken,
    overdue,
    waiting: waitingOf(figures),
    share_kept: rounded(shareKept(figures)),
    elapsed_ms:
      p50 == null || p95 == null || p99 == null
        ? null
        : { p50: Math.round(p50), p95: Math.round(p95), p99: Math.round(p99) },
    error_budget: {
      allowed: rounded(allowed),
      spent,
      left: rounded(left),
      share_left: rounded(shareLeft),
    },
  }
}

export function burnView(windows: SlaNow['windows'], all: SlaCounts): Pick<Sla, 'burn_rate' | 'at_risk'> {
  return {
    burn_rate: {
      '5m': rounded(burnRate(windows['5m'])),
      '30m': rounded(burnRate(windows['30m'])),
      '1h': rounded(burnRate(windows['1h'])),
      '6h': rounded(burnRate(windows['6h'])),
    },
    at_risk: { waiting: waitingOf(all), overdue: all.overdue },
  }
}

export function hourView([hourMs, figures]: readonly [number, SlaFigures]): SlaGroup {
  return { hour: new Date(hourMs).toISOString(), ...figuresView(figures) }
}

export function partyView(clientId: string, promise: SlaPromise | undefined, figures: SlaFigures): SlaGroup {
  return {
    client_id: clientId,
    ...(promise !== undefined && { promise: promiseView(promise) }),
    ...figuresView(figures),
  }
}

/** Rounds to six decimal places, because sums of fractions are inexact. */
function rounded<Value extends number | null>(value: Value): Value {
  return (value === null ? value : Math.round(value * 1e6) / 1e6) as Value
}
