import { isDeepStrictEqual } from 'node:util'
import { channelOf } from '@curfew/channels'
import {
  type AttemptOutcome,
  type Binding,
  CLIENT_REMOVED,
  disablesBinding,
  type InFlightDelivery,
  undeliverable,
} from '@curfew/domain'
import type { AttemptRecord } from '@curfew/ledger'
import type { RegistryCache } from '../intake/registry-cache.ts'
import { NotReadyError, type ToolsDeps, toolsFor, unready } from './tools.ts'

export interface DeliverDeps extends ToolsDeps {
  readonly registry: Pick<RegistryCache, 'current' | 'catchUp'>
}

/** What came of one message: `jti` and `tokenDigest` of what was sent, if anything was, and where it went. */
export interface Delivered extends Pick<AttemptRecord, 'outcome' | 'jti' | 'tokenDigest'> {
  /** Null where nothing could be sent. */
  readonly uri: string | null
}

/** Sends one message of a delivery to its binding, as this worker's copy of the registry has it, or as it is by now. */
export async function deliver(
  deps: DeliverDeps,
  delivery: InFlightDelivery,
  startedAt: Date,
): Promise<Delivered> {
  let endpoint = endpointOf(deps, delivery)
  if ('kind' in endpoint) {
    // Another worker may have planned it for an RP that was registered, or enabled again, since our copy was read.
    try {
      await deps.registry.catchUp()
    } catch (error) {
      return nothingSent(unready(error))
    }
    endpoint = endpointOf(deps, delivery)
    if ('kind' in endpoint) return nothingSent(endpoint)
  }
  const { binding } = endpoint
  const delivered = await sendTo(deps, binding, delivery, startedAt)
  if (delivered.outcome.kind !== 'undeliverable' && !disablesBinding(delivered.outcome)) return delivered
  // A last word, but perhaps of an endpoint that its owner has registered anew since our copy was read: then that one is told.
  const newer = await newerThan(deps, binding, delivery)
  return newer === null ? delivered : sendTo(deps, newer, delivery, startedAt)
}

/** Where to send it; or why there is nowhere, as far as is known. */
function endpointOf(
  { registry }: DeliverDeps,
  delivery: InFlightDelivery,
): { readonly binding: Binding } | AttemptOutcome {
  const binding = registry.current().bindings.get(delivery.bindingId)
  if (binding === undefined) return CLIENT_REMOVED
  return undeliverable(binding, delivery) ?? { binding }
}

/** The binding as it is by now, if that is another and can be told. */
async function newerThan(
  deps: DeliverDeps,
  binding: Binding,
  delivery: InFlightDelivery,
): Promise<Binding | null> {
  try {
    await deps.registry.catchUp()
  } catch {
    // What is known has to do.
    return null
  }
  const endpoint = endpointOf(deps, delivery)
  return 'kind' in endpoint || isDeepStrictEqual(endpoint.binding, binding) ? null : endpoint.binding
}

async function sendTo(
  deps: DeliverDeps,
  binding: Binding,
  delivery: InFlightDelivery,
  startedAt: Date,
): Promise<Delivered> {
  try {
    const { settings } = binding
    const { tools, encrypted } = await toolsFor(deps, binding)
    const sent = await channelOf(binding.kind).send({ delivery, binding, settings, startedAt }, tools)
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
