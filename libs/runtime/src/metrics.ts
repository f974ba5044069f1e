import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'

/** The process's metrics, in one registry. Names get the prefix `curfew_`. */
export interface Metrics {
  counter(name: string, help: string, labels?: readonly string[]): Counter
  /** @param collect returns the current value. Called at each scrape. */
  gauge(name: string, help: string, collect: () => number): Gauge
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

export function createMetrics(): Metrics {
  const registry = new Registry()
  collectDefaultMetrics({ register: registry, prefix: 'curfew_' })
  const registers = [registry]
  return {
    counter: (name, help, labels = []) =>
      new Counter({ name: `curfew_${name}`, help, labelNames: [...labels], registers }),
    gauge: (name, help, collect) =>
      new Gauge({
        name: `curfew_${name}`,
        help,
        registers,
        collect() {
          this.set(collect())
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
}
