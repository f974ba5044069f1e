import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'
import { VERSION } from './version.ts'

/**
 * The process's metrics, in one registry. Names get the prefix `curfew_`. The registry also has `curfew_build_info`, and the
 * metrics of the process and of Node.js under the names that all Node.js services use: `process_…` and `nodejs_…`.
 */
export interface Metrics {
  counter(name: string, help: string, labels?: readonly string[]): Counter
  /** @param collect returns the current value, or null if it is unknown: it is left out then. Called at each scrape. */
  gauge(name: string, help: string, collect: () => number | null): Gauge
  /** One value for each existing combination of `labels`. @param collect returns them. Called at each scrape. */
  gauges(
    name: string,
    help: string,
    labels: readonly string[],
    collect: () => readonly { readonly labels: Readonly<Record<string, string>>; readonly value: number }[],
  ): Gauge
  /** @param buckets upper bounds, in seconds where the name says so. */
  histogram(name: string, help: string, buckets: readonly number[], labels?: readonly string[]): Histogram
  /** All metrics, in the format of Prometheus. */
  expose(): Promise<{ readonly contentType: string; readonly body: string }>
}

/** Gauges of prom-client that have the suffix of a counter. Each has a twin by type, such as `nodejs_active_handles`. */
const MISNAMED = [
  'nodejs_active_handles_total',
  'nodejs_active_requests_total',
  'nodejs_active_resources_total',
]

export function createMetrics(): Metrics {
  const registry = new Registry()
  collectDefaultMetrics({ register: registry })
  for (const name of MISNAMED) registry.removeSingleMetric(name)
  const registers = [registry]
  const metrics: Metrics = {
    counter: (name, help, labels = []) =>
      new Counter({ name: `curfew_${name}`, help, labelNames: [...labels], registers }),
    gauge: (name, help, collect) =>
      new Gauge({
        name: `curfew_${name}`,
        help,
        registers,
        collect() {
          const value = collect()
          if (value === null) this.remove()
          else this.set(value)
        },
      }),
    gauges: (name, help, labels, collect) =>
      new Gauge({
        name: `curfew_${name}`,
        help,
        labelNames: [...labels],
        registers,
        collect() {
          // Removes the combinations that do not exist any more.
          this.reset()
          for (const { labels: combination, value } of collect()) this.set(combination, value)
        },
      }),
    histogram: (name, help, buckets, labels = []) =>
      new Histogram({
        name: `curfew_${name}`,
        help,
        buckets: [...buckets],
        labelNames: [...labels],
        registers,
      }),
    expose: async () => ({ contentType: registry.contentType, body: await registry.metrics() }),
  }
  metrics.gauges(
    'build_info',
    'The release, and the version of Node.js. Always 1.',
    ['version', 'node'],
    () => [{ labels: { version: VERSION, node: process.versions.node }, value: 1 }],
  )
  return metrics
}
