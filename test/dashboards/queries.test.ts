import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import type { Dashboard, Panel } from '@grafana/schema'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { DASHBOARDS } from '../../deploy/grafana/dashboards.ts'
import { findPrometheus, type Prometheus } from '../../deploy/prometheus/prometheus.ts'
import { ISSUER } from '../support/curfew.ts'
import { CLIENTS, JOB, type Observed, openObserved } from '../support/observed.ts'
import { useProcesses } from '../support/processes.ts'
import { describeUnless, skipWithout } from '../support/shared-server.ts'

// Goal: the panels of the dashboards show what happens to logouts.
// Method: a real Prometheus scrapes a real standalone with traffic, and answers every query of every dashboard.

const METRICS = fileURLToPath(new URL('../../docs/reference/metrics.md', import.meta.url))
/** The metrics that the documents list. */
const DOCUMENTED = new Set(
  [...readFileSync(METRICS, 'utf8').matchAll(/^\| `(curfew_\w+)`/gm)].map(([, name = '']) => name),
)
/** Metrics without a value while nothing of the kind has happened, or without Kafka. */
const QUIET = [
  'curfew_event_log_unassigned_partitions',
  'curfew_event_log_records_removed_total',
  'curfew_event_log_rewinds_total',
  'curfew_event_log_topic_faults',
  'curfew_webhook_attempts_total',
  'curfew_confirmation_attempts_total',
  'curfew_session_quota_ratio',
  'curfew_journal_left_entries',
  'curfew_sessions_overlong',
  'curfew_audit_passed',
  'curfew_audit_age_seconds',
  'curfew_audit_propagation_seconds',
]
/** The values that a reader chooses, and Grafana's own. */
const CHOSEN: Readonly<Record<string, string>> = {
  job: JOB,
  instance: '.+',
  issuer: ISSUER,
  __rate_interval: '1m',
}
/** The part of an expression that stands in for a missing value. */
const FALLBACK = / or 0 \* max\(curfew_bookkeepers_alive\{[^}]*\}\)$/

interface Asked {
  /** Of the panel or the variable. */
  readonly title: string
  readonly expr: string
}

function queriesOf({ panels = [], templating }: Dashboard): readonly Asked[] {
  const ofPanels = (panels as readonly Panel[]).flatMap(({ title = '', targets = [] }) =>
    targets.map(({ expr }) => ({ title, expr: String(expr) })),
  )
  const ofVariables = (templating?.list ?? []).flatMap(({ name, query }) => {
    const text = typeof query === 'object' ? String(query.query) : ''
    const [, expr] = /^label_values\((.+), \w+\)$/.exec(text) ?? []
    return expr === undefined ? [] : [{ title: `variable ${name}`, expr }]
  })
  return [...ofPanels, ...ofVariables]
}

/** The expression for each client that a reader may choose. */
function filledIn(expr: string): readonly string[] {
  const texts = Object.values(CLIENTS).map((client) =>
    expr.replaceAll(/\$\{?(\w+)\}?/g, (whole, name: string) =>
      name === 'client_id' ? client : (CHOSEN[name] ?? whole),
    ),
  )
  return [...new Set(texts)]
}

/** The metrics that an expression names, without the suffixes of histograms. */
const metricsIn = (expr: string) =>
  [...expr.matchAll(/\b(?:curfew|process|nodejs)_[a-z0-9_]+/g)].map(([name]) =>
    name.replace(/(?<=_duration_seconds)_(?:bucket|count|sum)$/, ''),
  )

test('the queries name only metrics that the documents list', () => {
  const own = DASHBOARDS.flatMap(queriesOf)
    .flatMap(({ expr }) => metricsIn(expr))
    .filter((name) => name.startsWith('curfew_'))
  expect([...new Set(own)].filter((name) => !DOCUMENTED.has(name))).toEqual([])
  expect(QUIET.filter((name) => !own.includes(name))).toEqual([])
})

const found = await findPrometheus()
const missing =
  'missing' in found ? skipWithout('Prometheus', { how: 'none', lookedFor: [found.missing] }) : null
await describeUnless(missing, 'a running Curfew', () => {
  const processes = useProcesses('file')
  let observed: Observed
  beforeAll(async () => {
    observed = await openObserved({ processes, prometheus: (found as Prometheus).prometheus })
    // The slowest value: the bookkeeper measures the window of the error budget each minute.
    await observed.until('curfew_sla_share_kept')
  }, 400_000)
  afterAll(async () => {
    await observed?.close()
    await processes.end()
  })

  test('is scraped, and its metrics tell the fates of deliveries apart', async () => {
    expect(await observed.query(`up{job="${JOB}"}`)).toMatchObject([{ value: 1 }])
    const states = await observed.query(`sum by (state) (curfew_deliveries_settled_total{job="${JOB}"})`)
    expect(Object.fromEntries(states.map(({ labels, value }) => [labels.state, value]))).toMatchObject({
      acknowledged: expect.any(Number),
      dead_lettered: expect.any(Number),
      pending: expect.any(Number),
    })
    const { items } = await observed.client.listDeadLetters({ client_id: CLIENTS.deadLettered })
    expect(items.length).toBeGreaterThan(10)
  })

  test('a wrong expression is an error with the words of Prometheus', async () => {
    await expect(observed.query('sum(')).rejects.toThrow(/^Prometheus refuses sum\(: .*parse error/)
  })

  describe.each(DASHBOARDS.map((dashboard) => [String(dashboard.title), dashboard] as const))(
    '%s',
    (_, dashboard) => {
      test.each(queriesOf(dashboard).map(({ title, expr }) => [title, expr] as const))(
        '%s: %s',
        async (_, expr) => {
          for (const each of filledIn(expr)) await observed.query(each)
          const own = expr.replace(FALLBACK, '')
          const series = await Promise.all(filledIn(own).map((each) => observed.query(each)))
          const isQuiet = metricsIn(own).every((name) => QUIET.includes(name))
          expect(isQuiet || series.flat().length > 0).toBe(true)
        },
      )
    },
  )
})
