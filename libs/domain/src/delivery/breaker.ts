import type { AttemptOutcome } from './outcome.ts'
import { jittered } from './retry.ts'

/**
 * The circuit breaker of a binding. It opens after consecutive `unavailable` outcomes, so that an unavailable relying party takes
 * no time from others. Half open, it allows one probe. After it closes, every success allows one more concurrent attempt, so that
 * the backlog does not overload an endpoint that has just recovered.
 */
export type Breaker =
  | {
      readonly state: 'closed'
      /** Failures since the last success. */
      readonly failures: number
      /** The most concurrent attempts; null if only the binding's own limit applies. */
      readonly allowed: number | null
      /** How often the breaker opened since the endpoint last counted as recovered. */
      readonly openings: number
    }
  | { readonly state: 'open'; readonly openings: number; readonly untilMs: number }
  /** The probe is under way. */
  | { readonly state: 'half_open'; readonly openings: number }

export interface BreakerPolicy {
  /** Consecutive failures that open the breaker. */
  readonly failures: number
  /** How long it stays open the first time, in milliseconds. Every failed probe doubles the time. */
  readonly openMs: number
  readonly openMsMax: number
  /** The largest random change of that time, as a fraction of it, so that workers do not probe all at once. */
  readonly jitter: number
  /** The number of concurrent attempts from which an endpoint counts as recovered. */
  readonly provenAt: number
}

export const BREAKER_POLICY: BreakerPolicy = {
  failures: 5,
  openMs: 1_000,
  openMsMax: 3 * 60_000,
  jitter: 0.1,
  provenAt: 32,
}

export const CLOSED: Breaker = { state: 'closed', failures: 0, allowed: null, openings: 0 }

/**
 * The most concurrent attempts that the breaker allows, up to `limit`. An open breaker whose time has passed allows the probe.
 */
export function allowedBy(breaker: Breaker, limit: number, nowMs: number): number {
  switch (breaker.state) {
    case 'closed':
      return breaker.allowed === null ? limit : Math.min(limit, breaker.allowed)
    case 'open':
      return nowMs >= breaker.untilMs ? Math.min(limit, 1) : 0
    case 'half_open':
      return Math.min(limit, 1)
  }
}

/** The breaker after an allowed attempt has started. */
export function breakerStarted(breaker: Breaker): Breaker {
  return breaker.state === 'open' ? { state: 'half_open', openings: breaker.openings } : breaker
}

/**
 * The breaker after an attempt. Any answer counts as a success, because the endpoint is available. An attempt that Curfew could
 * not send counts neither as a success nor as a failure.
 *
 * @param outcome the outcome; null if the attempt had none.
 * @param random uniform in [0, 1); drives the jitter and nothing else.
 */
export function breakerAfter(
  breaker: Breaker,
  outcome: AttemptOutcome | null,
  { nowMs, random, policy = BREAKER_POLICY }: { nowMs: number; random: number; policy?: BreakerPolicy },
): Breaker {
  switch (evidenceOf(outcome)) {
    case 'none':
      // The probe showed nothing, so the next one may start at once.
      return breaker.state === 'half_open'
        ? { state: 'open', openings: breaker.openings, untilMs: nowMs }
        : breaker
    case 'success':
      return succeeded(breaker, policy)
    case 'failure':
      return failed(breaker, { nowMs, random, policy })
  }
}

/** The evidence of an outcome about the endpoint's availability. */
function evidenceOf(outcome: AttemptOutcome | null): 'success' | 'failure' | 'none' {
  if (outcome === null || outcome.kind === 'undeliverable') return 'none'
  if (outcome.kind !== 'unavailable') return 'success'
  return outcome.failure === 'signer' || outcome.failure === 'local' ? 'none' : 'failure'
}

function succeeded(breaker: Breaker, policy: BreakerPolicy): Breaker {
  if (breaker.state !== 'closed') {
    return { state: 'closed', failures: 0, allowed: 2, openings: breaker.openings }
  }
  if (breaker.allowed === null) return breaker.failures === 0 ? breaker : CLOSED
  const allowed = breaker.allowed + 1
  return allowed >= policy.provenAt ? CLOSED : { ...breaker, failures: 0, allowed }
}

function failed(
  breaker: Breaker,
  { nowMs, random, policy }: { nowMs: number; random: number; policy: BreakerPolicy },
): Breaker {
  // Attempts that were under way when the breaker opened are no new evidence.
  if (breaker.state === 'open') return breaker
  const failures = breaker.state === 'closed' ? breaker.failures + 1 : policy.failures
  if (breaker.state === 'closed' && failures < policy.failures) return { ...breaker, failures }
  const openMs = Math.min(policy.openMs * 2 ** breaker.openings, policy.openMsMax)
  return {
    state: 'open',
    openings: breaker.openings + 1,
    untilMs: nowMs + jittered(openMs, policy.jitter, random),
  }
}
