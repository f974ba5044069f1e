import type { RelyingParty, RelyingPartyPatch } from '@curfew/contract'
import { UsageError } from '../terminal/arguments.ts'

// The changes of `curfew rp enable` and `curfew rp disable`, as patches of the registration.

/** Enables or disables a relying party. Enabling it enables each of its channels. */
export function partyPatch({ curfew }: RelyingParty, enabled: boolean): RelyingPartyPatch {
  const disabled = Object.entries(curfew.channels ?? {}).filter(([, own]) => own.enabled === false)
  if (!enabled || disabled.length === 0) return { curfew: { enabled } }
  return {
    curfew: { enabled, channels: Object.fromEntries(disabled.map(([kind]) => [kind, { enabled }])) },
  }
}

/** Enables or disables one channel. @throws {UsageError} if the relying party has no endpoint of the channel. */
export function channelPatch(
  { client_id, curfew, status }: RelyingParty,
  kind: string,
  enabled: boolean,
): RelyingPartyPatch {
  const kinds = [...new Set(status.endpoints.map(({ channel }) => channel))]
  if (!kinds.includes(kind))
    throw new UsageError(`${client_id} has no channel ${kind}. Its channels: ${kinds.join(', ') || 'none'}.`)
  const one = [kind, { enabled }]
  if (!enabled || curfew.enabled !== false) return { curfew: { channels: Object.fromEntries([one]) } }
  // The whole relying party is disabled. Its other channels must stay disabled.
  const others = kinds.filter((other) => other !== kind).map((other) => [other, { enabled: false }])
  return { curfew: { enabled, channels: Object.fromEntries([...others, one]) } }
}

/** Enables or disables one of `curfew.endpoints`. @throws {UsageError} if there is none of that name. */
export function endpointPatch(
  { curfew: { endpoints = [] } }: RelyingParty,
  name: string,
  enabled: boolean,
): RelyingPartyPatch {
  if (!endpoints.some((endpoint) => endpoint.name === name))
    throw new UsageError(`The relying party has no endpoint ${name} in its curfew.endpoints.`)
  const changed = endpoints.map((endpoint) => (endpoint.name === name ? { ...endpoint, enabled } : endpoint))
  return { curfew: { endpoints: changed } }
}
