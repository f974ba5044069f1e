import type { IncomingMessage, ServerResponse } from 'node:http'
import { CurfewError } from '@curfew/domain'
import type { Revocations } from '@curfew/rs'
import {
  aborted,
  createThrottle,
  type FirstAnswers,
  type Log,
  type Metrics,
  type Service,
} from '@curfew/runtime'
import type { BearerTokens } from '@curfew/tokens'
import { type Answer, FAILED, type Result } from './answers.ts'
import { createCheck } from './check.ts'
import type { Introspect } from './introspection.ts'
import { type Policy, policyOf } from './policy.ts'
import { createVerifiedTokens } from './verified-tokens.ts'

/** The opened dependencies of the gate. */
export interface GateDeps {
  readonly revocations: Revocations
  readonly tokens: BearerTokens
  /** Null if no introspection endpoint is configured. */
  readonly introspect: Introspect | null
  /** The policy of `/check`. */
  readonly whenStale: Policy
  readonly tokenBytesMax: number
  readonly clockSkewS: number
  readonly metrics: Metrics
  readonly log: Log
}

export interface Gate {
  /** Answers the questions of gateways. */
  readonly first: FirstAnswers
  readonly checks: Readonly<Record<string, () => Promise<void>>>
  readonly service: Service
}

/** The memory for verified tokens, in bytes: about 40,000 tokens. */
const VERIFIED_BYTES_MAX = 32 * 1024 * 1024
/** A gateway forwards all header fields of a request, and they may be larger than Node.js accepts by default. */
const HEADER_BYTES_MAX = 64 * 1024

/** The gate has read no logouts yet. */
class CutoffsUnavailableError extends CurfewError {
  override readonly code = 'ERR_CUTOFFS_UNAVAILABLE'
}

/** The newest logouts may be missing. Each route decides by its policy. */
class CutoffsStaleError extends CurfewError {
  override readonly code = 'ERR_CUTOFFS_DEGRADED'
}

/** Wires the gate. Opens and starts nothing. */
export function createGate(deps: GateDeps): Gate {
  const { revocations, tokens, introspect, whenStale, tokenBytesMax, clockSkewS, metrics, log } = deps
  const verified = createVerifiedTokens(VERIFIED_BYTES_MAX, { clockSkewS, nowMs: Date.now })
  const check = createCheck({ tokens, verified, revocations, introspect, tokenBytesMax })
  const count = countChecks(metrics)
  exposeState(metrics, { revocations, verified })
  const isTime = createThrottle()

  async function answer(request: IncomingMessage, response: ServerResponse, policy: Policy): Promise<void> {
    const startedMs = performance.now()
    try {
      const checked = await check(request.rawHeaders, policy)
      send(response, checked.answer)
      count(checked.result, policy, performance.now() - startedMs)
    } catch (error) {
      send(response, FAILED)
      count('unavailable', policy, performance.now() - startedMs)
      if (isTime('gate.check-failed')) log.error({ event: 'gate.check-failed', err: error })
    }
  }

  return {
    first: {
      headerBytesMax: HEADER_BYTES_MAX,
      answer(request, response) {
        const policy = policyOf(request.url ?? '')
        if (policy === null) return false
        void answer(request, response, policy === 'default' ? whenStale : policy)
        return true
      },
    },
    checks: {
      keys: () => tokens.prepare(),
      async cutoffs() {
        const { seq, stale, asOf, lastError } = revocations.status()
        if (seq === null)
          throw new CutoffsUnavailableError(`no logouts were read yet: ${lastError ?? 'not asked yet'}`)
        if (stale) throw new CutoffsStaleError(`logouts are known up to ${asOf?.toISOString()}: ${lastError}`)
      },
    },
    service: {
      name: 'cutoffs',
      async run({ stopping, ready }) {
        revocations.start()
        ready()
        await aborted(stopping)
        await revocations.stop()
      },
    },
  }
}

function send(response: ServerResponse, { status, headers, body }: Answer): void {
  response.writeHead(status, headers as Record<string, string>).end(body)
}

function countChecks(metrics: Metrics): (result: Result, policy: Policy, ms: number) => void {
  const checks = metrics.counter('gate_checks_total', 'Questions of gateways, by their answer.', [
    'result',
    'policy',
  ])
  const durations = metrics.histogram(
    'gate_check_duration_seconds',
    'Time from the question of a gateway to its answer.',
    [0.0005, 0.002, 0.01, 0.05, 0.2, 1, 5],
  )
  return (result, policy, ms) => {
    checks.inc({ result, policy })
    durations.observe(ms / 1_000)
  }
}

function exposeState(
  metrics: Metrics,
  { revocations, verified }: { revocations: Revocations; verified: { readonly count: number } },
): void {
  metrics.gauge('gate_stale', '1 while logouts may be missing, so that routes decide by their policy.', () =>
    Number(revocations.status().stale),
  )
  metrics.gauge('gate_feed_age_seconds', 'How old the knowledge of logouts is.', () => {
    const { ageMs } = revocations.status()
    return ageMs === null ? null : ageMs / 1_000
  })
  metrics.gauge('gate_cutoffs', 'Logouts that tokens are compared with.', () => revocations.status().entries)
  metrics.gauge(
    'gate_feed_failures',
    'Failed readings of logouts since the last good one.',
    () => revocations.status().failures,
  )
  metrics.gauge('gate_verified_tokens', 'Tokens whose signature is not verified again.', () => verified.count)
}
