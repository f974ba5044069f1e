import type { Revocations } from './revocations.ts'

/** The status as metrics, in the text format of Prometheus. Append it to what your `/metrics` answers. */
export function metricsText({ issuer, status }: Pick<Revocations, 'issuer' | 'status'>): string {
  const { seq, ageMs, stale, entries, bytes, totals, decisions } = status()
  const labels = `issuer="${issuer.replace(/[\\"\n]/g, (character) => (character === '\n' ? '\\n' : `\\${character}`))}"`
  const metric = (name: string, type: 'gauge' | 'counter', help: string, value: number | null) =>
    value === null ? '' : `${head(name, type, help)}${name}{${labels}} ${value}\n`
  const decided = Object.entries(decisions).map(
    ([decision, count]) => `curfew_rs_decisions_total{${labels},decision="${decision}"} ${count}\n`,
  )
  return [
    metric('curfew_rs_stale', 'gauge', '1 if logouts may be missing.', Number(stale)),
    metric(
      'curfew_rs_age_seconds',
      'gauge',
      'Age of the known logouts.',
      ageMs === null ? null : ageMs / 1_000,
    ),
    metric('curfew_rs_seq', 'gauge', 'Number up to which the feed is applied.', seq),
    metric('curfew_rs_entries', 'gauge', 'Known logouts of sessions and subjects.', entries),
    metric('curfew_rs_entry_bytes', 'gauge', 'Memory of the known logouts.', bytes),
    metric('curfew_rs_snapshots_total', 'counter', 'Snapshots that were read.', totals.snapshots),
    metric('curfew_rs_refreshes_total', 'counter', 'Answers after the snapshot.', totals.refreshes),
    metric('curfew_rs_failures_total', 'counter', 'Failures to read the feed.', totals.failures),
    head('curfew_rs_decisions_total', 'counter', 'Decisions about tokens.'),
    ...decided,
  ].join('')
}

function head(name: string, type: string, help: string): string {
  return `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n`
}
