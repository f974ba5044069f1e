import { isDeepStrictEqual } from 'node:util'
import { pushChannelOf } from '@curfew/channels'
import {
  type AttemptOutcome,
  type Binding,
  CLIENT_REMOVED,
  disablesBinding,
  type InFlightDelivery,
  undeliverable,
} from '@curfew/domain'
import type { AttemptRecord } from '@curfew/ledger'
import type { Span } from '@curfew/runtime'
import type { RegistryCache } from '../intake/registry-cache.ts'
import { NotReadyError, type ToolsDeps, toolsFor, unready } from './tools.ts'

export interface DeliverDeps extends ToolsDeps {
  readonly registry: Pick<RegistryCache, 'current' | 'catchUp'>
}

/** The result of one message: its outcome, the `jti` and `tokenDigest` of the token if one was sent, and its URI. */
export interface Delivered extends Pick<AttemptRecord, 'outcome' | 'jti' | 'tokenDigest'> {
  /** Null if nothing could be sent. */
  readonly uri: string | null
}

/** One message of a delivery. `firstMessage` was made when the event was planned; null if the attempt makes its own. */
interface Message {
  readonly delivery: InFlightDelivery
  readonly startedAt: Date
  readonly firstMessage: string | null
  readonly span: Span
}

/**
 * Sends one message of a delivery to its binding. Uses this worker's copy of the registry, and refreshes the copy before giving
 * up.
 */
export async function deliver(deps: DeliverDeps, message: Message): Promise<Delivered> {
  const { delivery } = message
  let endpoint = endpointOf(deps, delivery)
  if ('kind' in endpoint) {
    // The RP may have been registered or enabled since our copy was read, and another worker planned the delivery.
    try {
      await deps.registry.catchUp()
    } catch (error) {
      return nothingSent(unready(error))
    }
    endpoint = endpointOf(deps, delivery)
    if ('kind' in endpoint) return nothingSent(endpoint)
  }
  const { binding } = endpoint
  const delivered = await sendTo(deps, binding, message)
  if (delivered.outcome.kind !== 'undeliverable' && !disablesBinding(delivered.outcome)) return delivered
  // The outcome is final, but the owner may have registered another endpoint since our copy was read. Then that endpoint gets the
  // message.
  const newer = await newerThan(deps, binding, delivery)
  return newer === null ? delivered : sendTo(deps, newer, message)
}

/** The binding to send to, or the reason why there is none, by this worker's copy of the registry. */
function endpointOf(
  { registry }: DeliverDeps,
  delivery: InFlightDelivery,
): { readonly binding: Binding } | AttemptOutcome {
  const binding = registry.current().bindings.get(delivery.bindingId)
  if (binding === undefined) return CLIENT_REMOVED
  return undeliverable(binding, delivery) ?? { binding }
}

/** The current binding, if it differs from `binding` and can receive the message. */
async function newerThan(
  deps: DeliverDeps,
  binding: Binding,
  delivery: InFlightDelivery,
): Promise<Binding | null> {
  try {
    await deps.registry.catchUp()
  } catch {
    // The registry cannot be read, so the first outcome stands.
    return null
  }
  const endpoint = endpointOf(deps, delivery)
  return 'kind' in endpoint || isDeepStrictEqual(endpoint.binding, binding) ? null : endpoint.binding
}

async function sendTo(deps: DeliverDeps, binding: Binding, message: Message): Promise<Delivered> {
  try {
    const { settings } = binding
    const { span, ...job } = message
    const { tools, encrypted } = await toolsFor(deps, binding, message.delivery, span)
    const sent = await pushChannelOf(binding.kind).send({ ...job, binding, settings }, tools)
    const encryption = encrypted()
    if (sent.outcome.kind === 'refused' && encryption !== null) deps.encrypter.refused(encryption, binding)
    return { ...sent, uri: sent.jti === null ? null : binding.uri }
  } catch (error) {
    if (error instanceof NotReadyError) return nothingSent(error.outcome)
    throw error
  }
}

function nothingSent(outcome: AttemptOutcome): Delivered {
  return { outcome, jti: null, tokenDigest: null, uri: null }
}
