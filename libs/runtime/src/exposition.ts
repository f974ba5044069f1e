import type { Metrics } from './metrics.ts'

/** Returns all metrics in the format of Prometheus, at most a second old. */
export type Exposition = Metrics['expose']

/** How long a rendering is reused, in milliseconds. */
const KEPT_MS = 1_000

/** Renders metrics at most once a second, for all requests. */
export function createExposition(
  metrics: Pick<Metrics, 'expose'>,
  { monotonicMs = () => performance.now() }: { readonly monotonicMs?: () => number } = {},
): Exposition {
  let kept: { readonly atMs: number; readonly rendered: ReturnType<Exposition> } | null = null
  return () => {
    const nowMs = monotonicMs()
    if (kept === null || nowMs - kept.atMs >= KEPT_MS) kept = { atMs: nowMs, rendered: metrics.expose() }
    return kept.rendered
  }
}
