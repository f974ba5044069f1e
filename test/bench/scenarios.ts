import { formatTable, median, range } from './figures.ts'
import { backlog } from './scenarios/backlog.ts'
import { fanOut } from './scenarios/fan-out.ts'
import { gate } from './scenarios/gate.ts'
import { hotRp } from './scenarios/hot-rp.ts'
import { isolation } from './scenarios/isolation.ts'
import { journal } from './scenarios/journal.ts'
import { lanes } from './scenarios/lanes.ts'
import { ledger } from './scenarios/ledger.ts'
import { neighbour } from './scenarios/neighbour.ts'
import { reads } from './scenarios/reads.ts'
import { relay } from './scenarios/relay.ts'
import { resourceServer } from './scenarios/resource-server.ts'
import { retryStorm } from './scenarios/retry-storm.ts'
import { sessions } from './scenarios/sessions.ts'
import { sla } from './scenarios/sla.ts'
import { tracing } from './scenarios/tracing.ts'
import { waiters } from './scenarios/waiters.ts'
import type { Settings } from './turns.ts'

/** One figure of a scenario, with the value to compare it to. */
export interface Row {
  /** The measured quantity and its unit. */
  readonly measured: string
  /** One value per round. */
  readonly values: readonly number[]
  /** The bare limit, or the same without the load of the scenario. Measured in the same run, round by round. */
  readonly beside: { readonly what: string; readonly values: readonly number[] } | null
  /** The target of the ratio, or of the figure. */
  readonly target?: string
}

/** Opens its resources, measures and closes them. */
export type Scenario = (settings: Settings) => Promise<readonly Row[]>

export const SCENARIOS: Readonly<Record<string, Scenario>> = {
  isolation,
  backlog,
  'hot-rp': hotRp,
  'fan-out': fanOut,
  neighbour,
  lanes,
  journal,
  ledger,
  reads,
  relay,
  'resource-server': resourceServer,
  'retry-storm': retryStorm,
  sessions,
  waiters,
  sla,
  tracing,
  gate,
}

export interface ScenarioReport {
  readonly scenario: string
  readonly rows: readonly Row[]
  /** Why there are no figures; null if the scenario completed. */
  readonly failed: string | null
}

/** Measures one scenario. The report contains a failure, so that the other scenarios are still measured. */
export async function measureScenario(name: string, settings: Settings): Promise<ScenarioReport> {
  const measure = SCENARIOS[name]
  if (measure === undefined)
    throw new Error(`unknown scenario ${name}; the scenarios are ${Object.keys(SCENARIOS)}`)
  const progress = (text: string) => settings.progress(`${name}: ${text}`)
  try {
    return { scenario: name, rows: await measure({ ...settings, progress }), failed: null }
  } catch (error) {
    const failed = error instanceof Error ? error.message : String(error)
    progress(`failed: ${error instanceof Error ? error.stack : failed}`)
    return { scenario: name, rows: [], failed }
  }
}

/** Formats the reports, with a row for every figure. */
export function scenarioTable(reports: readonly ScenarioReport[]): string {
  return formatTable([
    ['scenario', 'measured', 'Curfew', 'beside it', '', 'ratio', 'target'],
    ...reports.flatMap(({ scenario, rows, failed }) =>
      failed === null
        ? rows.map((row, index) => [index === 0 ? scenario : '', ...cells(row)])
        : [[scenario, `failed: ${failed}`]],
    ),
  ])
}

function cells({ measured, values, beside, target = '' }: Row): readonly string[] {
  if (beside === null) return [measured, figure(values), '', '', '', target]
  const ratios = values.map((value, round) => value / (beside.values[round] ?? Number.NaN))
  return [measured, figure(values), figure(beside.values), beside.what, figure(ratios), target]
}

/** Formats values with about three significant digits. */
function figure(values: readonly number[]): string {
  const middle = median(values)
  const digits = Number.isInteger(middle) || middle >= 100 ? 0 : middle >= 10 ? 1 : 2
  return values.length === 1 ? middle.toFixed(digits) : range(values, digits)
}
