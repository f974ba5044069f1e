import {
  type Answer,
  type AttemptOutcome,
  type Binding,
  classify,
  DEFAULT_RETRY_POLICY,
  type InFlightDelivery,
  type IssuerName,
  type LogoutTokenClaims,
  logoutTokenClaims,
  QUICK_RETRIES_MS,
  quicklyRetryable,
  type SigningAlgorithm,
  settle,
  undeliverable,
} from '@curfew/domain'
import type { AttemptRecord, Settled } from '@curfew/ledger'
import pRetry from 'p-retry'

/** What an attempt works with. Time and randomness are handed in. */
export interface AttemptDeps {
  binding(id: Binding['id']): Binding | undefined
  /** Signs in the issuer's key for an algorithm. @throws {SigningKeyError} when there is none that can be opened. */
  sign(issuer: IssuerName, algorithm: SigningAlgorithm, claims: LogoutTokenClaims): Promise<string>
  /** POSTs a token. Never rejects for what the RP did. */
  post(request: { binding: Binding; token: string }): Promise<Answer>
  now(): Date
  /** Uniform in [0, 1). */
  random(): number
  newJti(): string
}

/** What one round of attempts came to: what to record, and what the last of them meant. */
export interface Round extends Settled {
  readonly outcome: AttemptOutcome
}

/** Attempts one delivery: mints a token, POSTs it, and decides what follows. A fresh delivery has two quick retries. */
export type Attempt = (delivery: InFlightDelivery, abandoning: AbortSignal) => Promise<Round>

/** Carries an outcome that is worth a quick retry through p-retry, whose language is exceptions. */
class TryAgain extends Error {
  readonly outcome: AttemptOutcome
  constructor(outcome: AttemptOutcome) {
    super('worth another try')
    this.outcome = outcome
  }
}

export function createAttempt(deps: AttemptDeps): Attempt {
  const { now, random } = deps

  async function once(delivery: InFlightDelivery, number: number): Promise<AttemptRecord> {
    const startedAt = now()
    const startedMs = performance.now()
    const record = (outcome: AttemptOutcome, jti: string | null): AttemptRecord => ({
      number,
      startedAt,
      durationMs: performance.now() - startedMs,
      outcome,
      jti,
    })
    const binding = deps.binding(delivery.bindingId)
    const impossible = undeliverable(binding, delivery.sid)
    if (impossible !== null || binding === undefined) {
      return record(impossible ?? { kind: 'undeliverable', reason: 'client_removed', detail: '' }, null)
    }
    const jti = deps.newJti()
    let token: string
    try {
      token = await deps.sign(
        binding.issuer,
        binding.algorithm,
        logoutTokenClaims(delivery, binding, { now: startedAt, jti }),
      )
    } catch (error) {
      return record(unsigned(error), null)
    }
    const answer = await deps.post({ binding, token })
    return record(classify(answer, now()), jti)
  }

  return async (delivery, abandoning) => {
    const records: AttemptRecord[] = []
    const attemptOnce = async (): Promise<AttemptOutcome> => {
      const made = await once(delivery, delivery.attempts + records.length + 1)
      records.push(made)
      return made.outcome
    }
    const outcome =
      delivery.attempts === 0 ? await withQuickRetries(attemptOnce, abandoning) : await attemptOnce()
    // A binding removed while its RP answered has no policy any more; what the RP said counts all the same.
    const policy = deps.binding(delivery.bindingId)?.retry ?? DEFAULT_RETRY_POLICY
    const settlement = settle(delivery, outcome, policy, now(), random())
    return { id: delivery.id, attempts: records, outcome, settlement, counts: delivery }
  }
}

async function withQuickRetries(
  attemptOnce: () => Promise<AttemptOutcome>,
  abandoning: AbortSignal,
): Promise<AttemptOutcome> {
  let outcome = await attemptOnce()
  if (!quicklyRetryable(outcome)) return outcome
  try {
    return await pRetry(
      async (number) => {
        // The first try has been made: nearly all end there, without the machinery.
        if (number > 1) outcome = await attemptOnce()
        if (quicklyRetryable(outcome)) throw new TryAgain(outcome)
        return outcome
      },
      {
        retries: QUICK_RETRIES_MS.length,
        minTimeout: QUICK_RETRIES_MS[0],
        factor: QUICK_RETRIES_MS[1] / QUICK_RETRIES_MS[0],
        randomize: true,
        // Whatever else is thrown is a fault of ours, which another POST would not mend.
        shouldRetry: ({ error }) => error instanceof TryAgain,
        signal: abandoning,
      },
    )
  } catch (error) {
    // Told to let go, p-retry forgets what was done; the last answer is kept all the same.
    if (error instanceof TryAgain || error === abandoning.reason) return outcome
    throw error
  }
}

/** A token that could not be signed: a key that does not open is a person's to mend; a store that is away comes back. */
function unsigned(error: unknown): AttemptOutcome {
  const detail = error instanceof Error ? error.message : String(error)
  if (error instanceof Error && 'code' in error && error.code === 'ERR_SIGNING_KEY') {
    return { kind: 'undeliverable', reason: 'no_signing_key', detail }
  }
  return {
    kind: 'unavailable',
    status: null,
    failure: 'signer',
    retryAfterMs: null,
    error: null,
    errorDescription: detail,
  }
}
