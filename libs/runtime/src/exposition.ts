import type { Metrics } from './metrics.ts'

/** All metrics as Prometheus reads them, as they were at most a moment ago. */
export type Exposition = Metrics['expose']

/** How long one rendering is given to all that ask, in milliseconds. */
const KEPT_MS = 1_000

/** Renders metrics once for all that ask at once, or within a second of it. */
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
