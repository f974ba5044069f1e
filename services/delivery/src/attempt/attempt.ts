import {
  type AttemptOutcome,
  DEFAULT_RETRY_POLICY,
  hasLapsed,
  type InFlightDelivery,
  QUICK_RETRIES_MS,
  quicklyRetryable,
  settle,
} from '@curfew/domain'
import type { AttemptRecord, Settled } from '@curfew/ledger'
import pRetry from 'p-retry'
import { type DeliverDeps, type Delivered, deliver } from './deliver.ts'

export interface AttemptDeps extends DeliverDeps {
  /** Uniform in [0, 1). */
  random(): number
}

/** What one round of attempts came to: what to record, and what the last of them meant; null when there was no need for any. */
export interface Round extends Settled {
  readonly outcome: AttemptOutcome | null
  /** The kind of its channel; empty where the binding is not registered any more. */
  readonly channel: string
  /** Where the last of them went; null when it went nowhere. */
  readonly uri: string | null
}

type Try = AttemptRecord & Delivered

/**
 * Attempts one delivery: mints a token, POSTs it, and decides what follows. A fresh delivery has two quick retries, until
 * `stopping` aborts: what is left then follows by the schedule, in another process. None where the binding has a rate.
 */
export type Attempt = (delivery: InFlightDelivery, stopping: AbortSignal) => Promise<Round>

/**
 * So long after its first attempt a delivery that names the subject begins to wait for no quick retry, in milliseconds. It is asked
 * before the wait: a failure that was reported only after it would open the breaker of an RP that has answered meanwhile.
 */
const SUBJECT_MS_MAX = 2_000

/** Says to p-retry, whose language is exceptions, that an outcome is worth a quick retry. */
class TryAgain extends Error {}

export function createAttempt(deps: AttemptDeps): Attempt {
  const { now, random } = deps
  /** As far as this worker's copy of the registry knows. */
  const bindingOf = ({ bindingId }: InFlightDelivery) => deps.registry.current().bindings.get(bindingId)

  return async (delivery, stopping) => {
    const channel = bindingOf(delivery)?.kind ?? ''
    if (hasLapsed(delivery, now())) {
      return {
        id: delivery.id,
        attempts: [],
        outcome: null,
        channel,
        uri: null,
        settlement: { state: 'lapsed' },
        leased: delivery,
      }
    }
    const first = await once(deps, delivery, delivery.attempts + 1)
    // Whoever has a rate counts every POST, and is most likely to fail when there are too many: the schedule it is, at its pace.
    const paced = (bindingOf(delivery)?.ratePerSecond ?? null) !== null
    const attempts =
      delivery.attempts === 0 && quicklyRetryable(first.outcome) && !paced && !stopping.aborted
        ? await withQuickRetries(first, {
            attempt: (number) => once(deps, delivery, number),
            // What names the subject is to be looked at again: a later session may be known by now (`narrowingOf`).
            timely: () => delivery.sid !== null || +now() - +first.startedAt <= SUBJECT_MS_MAX,
            stopping,
          })
        : [first]
    const { outcome, uri } = attempts.at(-1) ?? first
    // A binding removed while its RP answered has no policy any more; what the RP said counts all the same.
    const policy = bindingOf(delivery)?.retry ?? DEFAULT_RETRY_POLICY
    const settlement = settle(delivery, outcome, policy, now(), random())
    return { id: delivery.id, attempts, outcome, channel, uri, settlement, leased: delivery }
  }
}

async function once(deps: AttemptDeps, delivery: InFlightDelivery, number: number): Promise<Try> {
  const startedAt = deps.now()
  const startedMs = performance.now()
  const delivered = await deliver(deps, delivery, startedAt)
  return { number, startedAt, durationMs: performance.now() - startedMs, ...delivered }
}

/** What followed a first attempt that failed for a reason which may pass in a second; the first is among it. */
async function withQuickRetries(
  first: Try,
  {
    attempt,
    timely,
    stopping,
  }: {
    readonly attempt: (number: number) => Promise<Try>
    /** Whether there is time for another one. */
    readonly timely: () => boolean
    readonly stopping: AbortSignal
  },
): Promise<readonly Try[]> {
  const attempts = [first]
  try {
    await pRetry(
      async (number) => {
        // The first try has been made: nearly all end there, without the machinery.
        if (number > 1) attempts.push(await attempt(number))
        if (quicklyRetryable((attempts.at(-1) ?? first).outcome)) throw new TryAgain('worth another try')
      },
      {
        retries: QUICK_RETRIES_MS.length,
        minTimeout: QUICK_RETRIES_MS[0],
        factor: QUICK_RETRIES_MS[1] / QUICK_RETRIES_MS[0],
        randomize: true,
        // Whatever else is thrown is a fault of ours, which another POST would not mend.
        shouldRetry: ({ error }) => error instanceof TryAgain && timely(),
        signal: stopping,
      },
    )
  } catch (error) {
    // The last try failed too, or we are told to stop: what was done counts all the same.
    if (!(error instanceof TryAgain) && error !== stopping.reason) throw error
  }
  return attempts
}
