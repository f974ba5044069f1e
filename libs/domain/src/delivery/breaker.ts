import type { AttemptOutcome } from './outcome.ts'
import { jittered } from './retry.ts'

/**
 * Whether a binding is worth an attempt. It opens on consecutive failures that may pass, so that a dead relying party
 * costs nobody time; half-open it lets one probe through; after it has closed, attempts at once grow by one with each that
 * succeeds, so that what has waited does not fall upon an endpoint that has just come back.
 */
export type Breaker =
  | {
      readonly state: 'closed'
      /** Failures since the last success. */
      readonly failures: number
      /** Most attempts at once; null when it is as many as the binding may have. */
      readonly allowed: number | null
      /** How often it has opened, until it has proven itself. */
      readonly openings: number
    }
  | { readonly state: 'open'; readonly openings: number; readonly untilMs: number }
  /** The probe is under way. */
  | { readonly state: 'half_open'; readonly openings: number }

export interface BreakerPolicy {
  /** Consecutive failures that open it. */
  readonly failures: number
  /** How long it stays open at first, in milliseconds; twice as long each time that the probe fails. */
  readonly openMs: number
  readonly openMsMax: number
  /** Fraction by which that is shortened or lengthened at random: workers do not probe all at once. */
  readonly jitter: number
  /** Attempts at once from which an endpoint that came back counts as proven. */
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

/** Most attempts at once that the breaker lets through, of `limit`. An open one whose time is up lets the probe. */
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

/** The breaker once an attempt has been started that it allowed. */
export function breakerStarted(breaker: Breaker): Breaker {
  return breaker.state === 'open' ? { state: 'half_open', openings: breaker.openings } : breaker
}

/**
 * The breaker after an attempt came to `outcome`. An answer, whatever it says, is proof of life; what could not even be
 * sent, for a reason of ours, is proof of nothing.
 *
 * @param random uniform in [0, 1); drives the jitter and nothing else.
 */
export function breakerAfter(
  breaker: Breaker,
  outcome: AttemptOutcome | null,
  { nowMs, random, policy = BREAKER_POLICY }: { nowMs: number; random: number; policy?: BreakerPolicy },
): Breaker {
  switch (proofOf(outcome)) {
    case 'none':
      // The probe told nothing: the next one may.
      return breaker.state === 'half_open'
        ? { state: 'open', openings: breaker.openings, untilMs: nowMs }
        : breaker
    case 'life':
      return succeeded(breaker, policy)
    case 'failure':
      return failed(breaker, { nowMs, random, policy })
  }
}

function proofOf(outcome: AttemptOutcome | null): 'life' | 'failure' | 'none' {
  if (outcome === null || outcome.kind === 'undeliverable') return 'none'
  if (outcome.kind !== 'unavailable') return 'life'
  return outcome.failure === 'signer' ? 'none' : 'failure'
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
  // What was under way as it opened says nothing new.
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
