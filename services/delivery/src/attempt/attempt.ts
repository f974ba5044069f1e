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
import { inAttemptSpan } from './attempt-span.ts'
import { type DeliverDeps, type Delivered, deliver } from './deliver.ts'
import { type FirstMessageDeps, openFirstMessage } from './first-message.ts'

export interface AttemptDeps extends DeliverDeps, FirstMessageDeps {
  /** Uniform in [0, 1). */
  random(): number
}

/** The result of one round of attempts: the records to store and the last outcome, which is null when no attempt was needed. */
export interface Round extends Settled {
  readonly attempts: readonly Try[]
  readonly outcome: AttemptOutcome | null
  /** The kind of the channel; empty if the binding is not registered. */
  readonly channel: string
  /** The URI of the last attempt; null if nothing was sent. */
  readonly uri: string | null
}

/** One attempt as the ledger keeps it, and the URI that it was sent to. */
export type Try = AttemptRecord & Delivered

/**
 * Attempts one delivery: mints a token, POSTs it, and decides the next state. A fresh delivery gets two quick retries, unless the
 * binding has a rate limit. When `stopping` aborts, the remaining retries follow by the schedule, in another process.
 */
export type Attempt = (delivery: InFlightDelivery, stopping: AbortSignal) => Promise<Round>

/**
 * A delivery that names the subject makes no quick retry later than this after its first attempt, in milliseconds. The limit is
 * checked before the wait. A failure reported after the wait could open the breaker of an RP that has answered meanwhile.
 */
const SUBJECT_MS_MAX = 2_000

/** Signals to p-retry, which works by exceptions, that an outcome deserves a quick retry. */
class TryAgain extends Error {}

export function createAttempt(deps: AttemptDeps): Attempt {
  const { now, random } = deps
  /** The binding in this worker's copy of the registry. */
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
    // An RP with a rate limit counts every POST, and often fails because there are too many. Its retries follow by the schedule.
    const paced = (bindingOf(delivery)?.ratePerSecond ?? null) !== null
    const attempts =
      delivery.attempts === 0 && quicklyRetryable(first.outcome) && !paced && !stopping.aborted
        ? await withQuickRetries(first, {
            attempt: (number) => once(deps, delivery, number),
            // A later session may have begun meanwhile, so a message that names the subject must be checked again
            // (`narrowingOf`).
            timely: () => delivery.sid !== null || +now() - +first.startedAt <= SUBJECT_MS_MAX,
            stopping,
          })
        : [first]
    const { outcome, uri } = attempts.at(-1) ?? first
    // A binding removed during the attempt has no retry policy. The RP's answer still counts.
    const policy = bindingOf(delivery)?.retry ?? DEFAULT_RETRY_POLICY
    const settlement = settle(delivery, outcome, policy, now(), random())
    return { id: delivery.id, attempts, outcome, channel, uri, settlement, leased: delivery }
  }
}

async function once(deps: AttemptDeps, delivery: InFlightDelivery, number: number): Promise<Try> {
  const startedAt = deps.now()
  const startedMs = performance.now()
  const binding = deps.registry.current().bindings.get(delivery.bindingId) ?? null
  const delivered = await inAttemptSpan({ delivery, binding, number }, async (span) => {
    const firstMessage = number === 1 ? await openFirstMessage(deps, delivery) : null
    return deliver(deps, { delivery, startedAt, firstMessage, span })
  })
  return { number, startedAt, durationMs: performance.now() - startedMs, ...delivered }
}

/**
 * Makes quick retries after a first attempt that failed for a reason that may pass in a second. Returns all tries, the first
 * included.
 */
async function withQuickRetries(
  first: Try,
  {
    attempt,
    timely,
    stopping,
  }: {
    readonly attempt: (number: number) => Promise<Try>
    /** Whether there is time for another try. */
    readonly timely: () => boolean
    readonly stopping: AbortSignal
  },
): Promise<readonly Try[]> {
  const attempts = [first]
  try {
    await pRetry(
      async (number) => {
        // The first try is already made. Most deliveries end there, without p-retry.
        if (number > 1) attempts.push(await attempt(number))
        if (quicklyRetryable((attempts.at(-1) ?? first).outcome)) throw new TryAgain('worth another try')
      },
      {
        retries: QUICK_RETRIES_MS.length,
        minTimeout: QUICK_RETRIES_MS[0],
        factor: QUICK_RETRIES_MS[1] / QUICK_RETRIES_MS[0],
        randomize: true,
        // Any other exception is a bug of ours, which another POST would not fix.
        shouldRetry: ({ error }) => error instanceof TryAgain && timely(),
        signal: stopping,
      },
    )
  } catch (error) {
    // The last try failed too, or the service stops. The tries made still count.
    if (!(error instanceof TryAgain) && error !== stopping.reason) throw error
  }
  return attempts
}
