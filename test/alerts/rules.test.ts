import { readFileSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { parse } from 'yaml'
import { findPrometheus, type Prometheus } from '../../deploy/prometheus/prometheus.ts'
import { run } from '../../deploy/server/process.ts'
import { describeUnless, skipWithout } from '../support/shared-server.ts'
import { CASES, HEALTHY } from './cases.ts'
import { ALERTS, RULES } from './rules.ts'

// Goal: each alert fires when it ought to, with words for the person on call, and stays quiet otherwise.
// Method: promtool evaluates the rules over the series of cases.ts, minute by minute.

const PROMTOOL_MS = 60_000
const RUNBOOK = fileURLToPath(new URL('../../docs/sre/runbook/README.md', import.meta.url))
/** Longer than any alert waits before it fires. */
const MINUTES = 70

/** One case for promtool: the alerts that must fire at one time. */
interface Case {
  readonly name: string
  readonly series: Readonly<Record<string, string>>
  readonly atMinutes: number
  readonly expected: readonly {
    readonly alert: string
    readonly alerts: readonly { readonly labels: object; readonly summary: string }[]
  }[]
}

test('every alert has a case in which it fires and one in which it stays quiet', () => {
  const complete = Object.entries(CASES).filter(
    ([, { fires, staysQuiet }]) => fires.length > 0 && staysQuiet.length > 0,
  )
  expect(complete.map(([name]) => name).toSorted()).toEqual([...ALERTS.keys()].toSorted())
})

test('every alert has a severity and a page of the runbook', () => {
  for (const { alert, labels, annotations } of ALERTS.values()) {
    const page = alert.replace(/^Curfew/, '').replaceAll(/(?<!^)[A-Z]/g, (letter) => `-${letter}`)
    expect(labels.severity, alert).toMatch(/^(page|ticket)$/)
    expect(annotations.runbook_url, alert).toBe(`docs/sre/runbook/${page.toLowerCase()}.md`)
  }
})

const found = await findPrometheus()
const missing =
  'missing' in found ? skipWithout('Prometheus', { how: 'none', lookedFor: [found.missing] }) : null
await describeUnless(missing, 'the alerting rules', () => {
  const { promtool } = found as Prometheus
  let folder: string
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'curfew-alerts-'))
  })
  afterAll(() => rm(folder, { recursive: true, force: true }))

  /** Evaluates these rules only: a test of all of them takes as long as all of them. */
  async function evaluate(names: readonly string[], cases: readonly Case[], everyMinutes = 1): Promise<void> {
    const at = (name: string) => join(folder, name)
    const rules = names.map((name) => ALERTS.get(name))
    // JSON is YAML.
    await writeFile(at('rules.json'), JSON.stringify({ groups: [{ name: 'rules', rules }] }))
    await writeFile(at('test.json'), JSON.stringify(promtoolFile(at('rules.json'), { cases, everyMinutes })))
    const { code, output } = await run(promtool, ['test', 'rules', at('test.json')], {
      timeoutMs: PROMTOOL_MS,
    })
    expect(code, output).toBe(0)
  }

  test('promtool accepts them', async () => {
    const { code, output } = await run(promtool, ['check', 'rules', RULES], { timeoutMs: PROMTOOL_MS })
    expect(code, output).toBe(0)
  })

  test.each(Object.entries(CASES))(
    '%s fires and stays quiet',
    async (alert, { fires, staysQuiet, everyMinutes }) => {
      await evaluate(
        [alert],
        [
          ...fires.map(({ alerts, ...each }, at) => ({
            name: `${alert} fires (${at})`,
            ...each,
            expected: [{ alert, alerts }],
          })),
          ...staysQuiet.map(({ because, ...each }) => ({
            name: `${alert} stays quiet: ${because}`,
            ...each,
            expected: [{ alert, alerts: [] }],
          })),
        ],
        everyMinutes,
      )
    },
  )

  test('a healthy service over PostgreSQL has no alert', async () => {
    const names = [...ALERTS.keys()]
    const expected = names.map((alert) => ({ alert, alerts: [] }))
    await evaluate(names, [{ name: 'healthy', series: HEALTHY, atMinutes: MINUTES, expected }])
  })

  test('while nothing of Curfew is scraped, exactly the alerts of unknown values fire', async () => {
    const unknown = ['CurfewEventLogUnseen', 'CurfewNoBookkeeper', 'CurfewNoWorker']
    const names = [...ALERTS.keys()]
    const expected = names.map((alert) => ({
      alert,
      alerts: unknown.includes(alert) ? (CASES[alert]?.fires[0]?.alerts ?? []) : [],
    }))
    const series = { up: `0x${MINUTES}` }
    await evaluate(names, [{ name: 'not scraped', series, atMinutes: MINUTES, expected }])
    // The one that mutes the others fires first.
    const first = expected.map((each) => (each.alert === 'CurfewNoWorker' ? each : { ...each, alerts: [] }))
    await evaluate(names, [{ name: 'not scraped, at first', series, atMinutes: 4, expected: first }])
    expect(unknown.filter((alert) => !isMuted(alert, unknown))).toEqual(['CurfewNoWorker'])
  })

  test('the sample for Alertmanager mutes no alert that needs work of its own', () => {
    const firing = [...ALERTS.keys()]
    const muted = firing.filter((alert) => isMuted(alert, firing))
    expect(muted.toSorted()).toEqual([
      'CurfewBulkLaneLate',
      'CurfewDeliveriesLate',
      'CurfewEventLogLate',
      'CurfewEventLogUnseen',
      'CurfewLeaseTooOld',
      'CurfewNoBookkeeper',
      'CurfewPartitionsWithoutWorker',
      'CurfewSlaBurnsFast',
      'CurfewSlaBurnsSlowly',
    ])
  })
})

interface InhibitRule {
  readonly source_matchers: readonly string[]
  readonly target_matchers: readonly string[]
}

/** Whether the sample for Alertmanager in the runbook mutes an alert while the others fire, all with the same labels. */
function isMuted(alert: string, firing: readonly string[]): boolean {
  const [, sample] = /# alertmanager\.yaml\n(.*?)```/s.exec(readFileSync(RUNBOOK, 'utf8')) ?? []
  const { inhibit_rules } = parse(sample ?? '') as { readonly inhibit_rules: readonly InhibitRule[] }
  const fits = (matchers: readonly string[], name: string) =>
    matchers.every((matcher) => {
      const [, operator, value = ''] = /^alertname (=~?) "(.+)"$/.exec(matcher) ?? []
      return operator === '=~' ? new RegExp(`^(?:${value})$`).test(name) : operator === '=' && value === name
    })
  return inhibit_rules.some(
    ({ source_matchers, target_matchers }) =>
      fits(target_matchers, alert) && firing.some((other) => fits(source_matchers, other)),
  )
}

/** A description with the labels of its alert. Descriptions have no other placeholders. */
function filled(description: string, labels: object): string {
  const values = new Map<string, unknown>(Object.entries(labels))
  return description.replaceAll(/{{ \$labels\.(\w+) }}/g, (_, name: string) => String(values.get(name)))
}

/** A file for `promtool test rules`. */
function promtoolFile(
  rules: string,
  { cases, everyMinutes }: { readonly cases: readonly Case[]; readonly everyMinutes: number },
): object {
  return {
    rule_files: [rules],
    evaluation_interval: `${everyMinutes}m`,
    tests: cases.map(({ name, series, atMinutes, expected }) => ({
      name,
      interval: '1m',
      input_series: Object.entries(series).map(([each, values]) => ({ series: each, values })),
      alert_rule_test: expected.map(({ alert, alerts }) => ({
        eval_time: `${atMinutes}m`,
        alertname: alert,
        exp_alerts: alerts.map(({ labels, summary }) => ({
          exp_labels: { ...labels, ...ALERTS.get(alert)?.labels },
          exp_annotations: {
            ...ALERTS.get(alert)?.annotations,
            summary,
            description: filled(ALERTS.get(alert)?.annotations.description ?? '', labels),
          },
        })),
      })),
    })),
  }
}
