import { hash } from 'node:crypto'
import { isDeepStrictEqual } from 'node:util'
import { channelOf, type Tools } from '@curfew/channels'
import {
  type AttemptOutcome,
  type Binding,
  CLIENT_REMOVED,
  cleanText,
  DEFAULT_RETRY_POLICY,
  disablesBinding,
  hasLapsed,
  type InFlightDelivery,
  type IssuerName,
  QUICK_RETRIES_MS,
  quicklyRetryable,
  type SigningAlgorithm,
  settle,
  type TokenEncryption,
  undeliverable,
} from '@curfew/domain'
import type { AttemptRecord, Settled } from '@curfew/ledger'
import type { GuardedClient } from '@curfew/outbound'
import type { ClientKeySealer, Keyring } from '@curfew/tokens'
import type { Encrypter, TlsIdentities } from '@curfew/wiring'
import pRetry from 'p-retry'
import type { RegistryCache } from '../intake/registry-cache.ts'

/** What an attempt works with. Time and randomness are handed in. */
export interface AttemptDeps {
  readonly registry: Pick<RegistryCache, 'current' | 'catchUp'>
  readonly keyring: Pick<Keyring, 'signer'>
  readonly encrypter: Encrypter
  /** TLS of the binding's own. @throws {ClientKeyError} when its key cannot be opened. */
  readonly tls: TlsIdentities
  /** Opens the secrets of endpoints. */
  readonly clientKeys: Pick<ClientKeySealer, 'open'>
  readonly client: Pick<GuardedClient, 'post'>
  now(): Date
  /** Uniform in [0, 1). */
  random(): number
  newId(): string
}

/** What one round of attempts came to: what to record, and what the last of them meant; null when there was no need for any. */
export interface Round extends Settled {
  readonly outcome: AttemptOutcome | null
  /** The kind of its channel; empty where the binding is not registered any more. */
  readonly channel: string
  /** Where the last of them went; null when it went nowhere. */
  readonly uri: string | null
}

/** One attempt, with where it went; null where nothing could be sent. */
interface Try extends AttemptRecord {
  readonly uri: string | null
}

/** What telling an RP came to; `jti` and `tokenDigest` of the token it was sent, if any. */
type Told = Pick<Try, 'outcome' | 'jti' | 'tokenDigest' | 'uri'>

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

const digest = (text: string) => hash('sha256', text, 'hex')

/** A tool of ours could not be had, so nothing was sent. */
class NotReadyError extends Error {}

/** The secret of an endpoint could not be opened, so nothing was sent. */
class SecretUnreadableError extends Error {}

async function ready<Value>(tool: Promise<Value>): Promise<Value> {
  try {
    return await tool
  } catch (error) {
    throw new NotReadyError('nothing was sent', { cause: error })
  }
}

/** Says to p-retry, whose language is exceptions, that an outcome is worth a quick retry. */
class TryAgain extends Error {}

export function createAttempt(deps: AttemptDeps): Attempt {
  const { now, random } = deps

  /** As far as this worker's copy of the registry knows. */
  const bindingOf = ({ bindingId }: InFlightDelivery) => deps.registry.current().bindings.get(bindingId)

  /** Signs with the issuer's key. @throws {SigningKeyError} when there is none that can be opened. */
  async function sign(
    issuer: IssuerName,
    algorithm: SigningAlgorithm,
    typ: string,
    claims: object,
  ): Promise<string> {
    return (await deps.keyring.signer(issuer, algorithm)).sign(typ, claims)
  }

  async function once(delivery: InFlightDelivery, number: number): Promise<Try> {
    const startedAt = now()
    const startedMs = performance.now()
    const told = await tell(delivery, startedAt)
    return { number, startedAt, durationMs: performance.now() - startedMs, ...told }
  }

  /** Where to send it; or why there is nowhere, as far as is known. */
  function endpointOf(delivery: InFlightDelivery): { readonly binding: Binding } | AttemptOutcome {
    const binding = bindingOf(delivery)
    if (binding === undefined) return CLIENT_REMOVED
    return undeliverable(binding, delivery.sid) ?? { binding }
  }

  async function tell(delivery: InFlightDelivery, startedAt: Date): Promise<Told> {
    let endpoint = endpointOf(delivery)
    if ('kind' in endpoint) {
      // Another worker may have planned it for an RP that was registered, or enabled again, since our copy was read.
      try {
        await deps.registry.catchUp()
      } catch (error) {
        return untold(unready(error))
      }
      endpoint = endpointOf(delivery)
      if ('kind' in endpoint) return untold(endpoint)
    }
    const { binding } = endpoint
    const told = await tellAt(binding, delivery, startedAt)
    if (told.outcome.kind !== 'undeliverable' && !disablesBinding(told.outcome)) return told
    // A last word, but perhaps of an endpoint that its owner has registered anew since our copy was read: then that one is told.
    const newer = await newerThan(binding, delivery)
    return newer === null ? told : tellAt(newer, delivery, startedAt)
  }

  /** The binding as it is by now, if that is another and can be told. */
  async function newerThan(binding: Binding, delivery: InFlightDelivery): Promise<Binding | null> {
    try {
      await deps.registry.catchUp()
    } catch {
      // What is known has to do.
      return null
    }
    const endpoint = endpointOf(delivery)
    return 'kind' in endpoint || isDeepStrictEqual(endpoint.binding, binding) ? null : endpoint.binding
  }

  async function tellAt(binding: Binding, delivery: InFlightDelivery, startedAt: Date): Promise<Told> {
    try {
      const { settings } = binding
      const { tools, encrypted } = await toolsOf(binding)
      const sent = await channelOf(binding.kind).send({ delivery, binding, settings, startedAt }, tools)
      const encryption = encrypted()
      if (sent.outcome.kind === 'refused' && encryption !== null) deps.encrypter.refused(encryption, binding)
      return { ...sent, uri: sent.jti === null ? null : binding.uri }
    } catch (error) {
      if (error instanceof NotReadyError) return untold(unready(error.cause))
      if (error instanceof SecretUnreadableError) return untold(secretUnreadable(error))
      throw error
    }
  }

  /** What the channel of a binding works with, and how it encrypted what it sent. The binding's TLS is open. */
  async function toolsOf(
    binding: Binding,
  ): Promise<{ readonly tools: Tools; encrypted(): TokenEncryption | null }> {
    const { timeoutMs, allowedNetworks, grantedNetworks } = binding
    const tls = await ready(deps.tls(binding))
    const how = { timeoutMs, allowedNetworks, ...(grantedNetworks !== undefined && { grantedNetworks }), tls }
    let used: TokenEncryption | null = null
    const tools: Tools = {
      now,
      newId: deps.newId,
      digest,
      sign: (algorithm, typ, claims) => ready(sign(binding.issuer, algorithm, typ, claims)),
      encrypt(typ, token, encryption) {
        used = encryption
        return ready(deps.encrypter.encrypt(typ, token, encryption, binding, tls))
      },
      secret: () => secretOf(binding),
      http: { post: (request) => deps.client.post({ ...request, ...how }) },
    }
    return { tools, encrypted: () => used }
  }

  async function secretOf(binding: Binding): Promise<string> {
    try {
      return await deps.clientKeys.open(binding.sealedSecret ?? '', binding)
    } catch (error) {
      throw new SecretUnreadableError('nothing was sent', { cause: error })
    }
  }

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
    const first = await once(delivery, delivery.attempts + 1)
    // Whoever has a rate counts every POST, and is most likely to fail when there are too many: the schedule it is, at its pace.
    const paced = (bindingOf(delivery)?.ratePerSecond ?? null) !== null
    const attempts =
      delivery.attempts === 0 && quicklyRetryable(first.outcome) && !paced && !stopping.aborted
        ? await withQuickRetries(first, {
            attempt: (number) => once(delivery, number),
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

/** No token went anywhere. */
function untold(outcome: AttemptOutcome): Told {
  return { outcome, jti: null, tokenDigest: null, uri: null }
}

function secretUnreadable({ cause }: SecretUnreadableError): AttemptOutcome {
  const detail = cleanText(cause instanceof Error ? cause.message : String(cause)) ?? ''
  return { kind: 'undeliverable', reason: 'secret_unreadable', detail }
}

/** Nothing could be sent: a key that does not open is a person's to mend; a store that is away comes back. */
function unready(error: unknown): AttemptOutcome {
  // An error repeats what a signer or an RP's jwks_uri answered, be it text that nothing can keep.
  const detail = cleanText(error instanceof Error ? error.message : String(error)) ?? ''
  const code = error instanceof Error && 'code' in error ? error.code : null
  if (code === 'ERR_SIGNING_KEY') return { kind: 'undeliverable', reason: 'no_signing_key', detail }
  if (code === 'ERR_CLIENT_KEY') return { kind: 'undeliverable', reason: 'client_key_unreadable', detail }
  if (code === 'ERR_NO_ENCRYPTION_KEY') return { kind: 'undeliverable', reason: 'no_encryption_key', detail }
  return {
    kind: 'unavailable',
    status: null,
    failure: code === 'ERR_CLIENT_KEYS_UNAVAILABLE' ? 'client_keys' : 'signer',
    retryAfterMs: null,
    error: null,
    errorDescription: detail,
  }
}
