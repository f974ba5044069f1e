import { disablesBinding } from '@curfew/domain'
import type { DeliveryLedger } from '@curfew/ledger'
import { inSpan, type Log, type Metrics, startSpan } from '@curfew/runtime'
import type { Round } from '../attempt/attempt.ts'
import type { Held } from '../dispatch/binding-queue.ts'
import type { RegistryCache } from '../intake/registry-cache.ts'
import type { Worker } from '../worker/worker.ts'
import { createRoundLog } from './round-log.ts'
import type { Settler } from './settler.ts'

/**
 * Settles the outcome of a round of attempts. Resolves when the ledger has stored it, or has refused it because the lease is
 * lost.
 */
export type SettleRound = (held: Pick<Held, 'delivery' | 'lease'>, round: Round) => Promise<void>

export interface SettleRoundDeps {
  readonly settler: Pick<Settler, 'settle'>
  readonly ledger: Pick<DeliveryLedger, 'disableBinding'>
  readonly worker: Pick<Worker, 'ended'>
  readonly registry: Pick<RegistryCache, 'current'>
  readonly log: Log
  readonly metrics: Metrics
  /** Aborts when running attempts are cut off. */
  readonly abandoning: AbortSignal
}

export function createSettleRound(deps: SettleRoundDeps): SettleRound {
  const { settler, ledger, worker, abandoning } = deps
  const observe = createObserver(deps.metrics)
  const logRound = createRoundLog(deps)
  return async ({ delivery, lease }, round) => {
    const { outcome, uri } = round
    // Our shutdown cut the attempt off, not the RP: the delivery returns to the ledger unchanged.
    if (abandoning.aborted && outcome?.kind === 'unavailable') return
    const span = startSpan({
      ...{ name: 'settle', role: 'internal', parent: delivery.event.traceparent },
      attributes: () => ({
        'curfew.delivery.id': delivery.id,
        'curfew.channel': round.channel,
        'curfew.state': round.settlement.state,
      }),
    })
    const recorded = await inSpan(
      span,
      () => settler.settle(lease.workerId, round),
      (stored) => ({ 'curfew.stored': stored }),
    )
    if (recorded) worker.ended(lease, [delivery.id])
    observe(round)
    logRound(delivery, round, recorded)
    if (recorded && outcome !== null && uri !== null && disablesBinding(outcome)) {
      const reason = 'the endpoint answered 410 Gone; register it again to enable it'
      await ledger.disableBinding(delivery.bindingId, { uri, reason })
    }
  }
}

function createObserver(metrics: Metrics): (round: Round) => void {
  const settled = metrics.counter(
    'deliveries_settled_total',
    'Rounds of attempts by the next state of their delivery, reason and channel. Pending: tried again.',
    ['state', 'reason', 'channel'],
  )
  const durations = metrics.histogram(
    'attempt_duration_seconds',
    'Time from creating a message to the end of the answer.',
    [0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30],
    ['outcome', 'channel'],
  )
  return ({ settlement, attempts, channel }) => {
    settled.inc({
      state: settlement.state,
      reason: settlement.state === 'dead_lettered' ? settlement.reason : '',
      channel,
    })
    for (const { durationMs, outcome } of attempts)
      durations.observe({ outcome: outcome.kind, channel }, durationMs / 1_000)
  }
}
