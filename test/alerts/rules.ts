import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { parse } from 'yaml'

/** The path of the alerting rules. */
export const RULES = fileURLToPath(new URL('../../deploy/alerts/curfew.yaml', import.meta.url))

interface Rule {
  readonly alert: string
  readonly expr: string
  readonly labels: Readonly<Record<string, string>>
  readonly annotations: Readonly<Record<'summary' | 'description' | 'runbook_url', string>>
}

const { groups } = parse(readFileSync(RULES, 'utf8')) as { groups: readonly { rules: readonly Rule[] }[] }

/** The alerting rules by name. */
export const ALERTS: ReadonlyMap<string, Rule> = new Map(
  groups.flatMap(({ rules }) => rules).map((rule) => [rule.alert, rule]),
)
