import { CHANNELS, type Channel, type CommonRegistration, type Registered } from '@curfew/channels'
import type { RelyingPartySettings } from '@curfew/contract'
import {
  atLeast,
  type ClientMetadata,
  type EncryptionAlgorithm,
  MAIN_ENDPOINT,
  readClient,
} from '@curfew/domain'
import {
  type EndpointRecord,
  type EndpointsOf,
  effectiveSettings,
  type IssuerRecord,
  type RelyingPartyRecord,
  type StoredSettings,
} from '@curfew/ledger'
import { createValidator, type Fault } from '@curfew/runtime'
import { findEncryptionKey } from '@curfew/tokens'
import type { Registration } from './registration.ts'

// What a registration says to each channel: the one place in the console that asks channels to read it.

/** Why an endpoint is disabled when its owner wants it so; any other reason is ours. */
const BY_OWNER = 'disabled by its owner'
/** The faults of settings, by the schema of their channel. */
const SETTINGS_FAULTS = new Map(CHANNELS.map(({ kind, settings }) => [kind, createValidator(settings)]))

/** What a registration says to one channel. */
export interface ChannelPart {
  readonly channel: Channel
  readonly common: CommonRegistration
  readonly registered: Registered<EndpointRecord['settings']>
}

/** What each channel reads in a registration. */
export function partsOf(
  {
    client,
    issuer,
    settings,
  }: {
    readonly client: ClientMetadata
    readonly issuer: Pick<IssuerRecord, 'name' | 'sidSupported' | 'defaults'>
    readonly settings: RelyingPartySettings
  },
  targetFault: (uri: string) => string | null,
): readonly ChannelPart[] {
  const effective = effectiveSettings(settings as StoredSettings, issuer.defaults) as RelyingPartySettings
  return CHANNELS.map((channel) => {
    const own = settings.channels?.[channel.kind] ?? {}
    const at = {
      ...{ issuer, said: settings, settings: effective, own, targetFault },
      hasEncryptionKey: (jwks: unknown, algorithm: EncryptionAlgorithm) =>
        findEncryptionKey(jwks, algorithm) !== null,
    }
    return { channel, common: own as CommonRegistration, registered: channel.endpoints(client, at) }
  })
}

/** What is wrong with what every channel takes. */
export function commonFaults(
  { channel: { kind, best }, common, registered }: ChannelPart,
  { parts, before }: { parts: readonly ChannelPart[]; before: RelyingPartyRecord | null },
): readonly Fault[] {
  const faults: Fault[] = []
  const fault = (member: string, detail: string) =>
    faults.push({ pointer: `/curfew/channels/${kind}/${member}`, detail })
  const { fallback_for: first, secret, sla } = common
  if (first !== undefined) {
    const others = parts.filter((part) => part.channel.kind !== kind && part.registered.endpoints.length > 0)
    if (!others.some((part) => part.channel.kind === first)) {
      const known = others.map((part) => part.channel.kind).join(', ')
      fault('fallback_for', `must be another channel of the client: ${known === '' ? 'it has none' : known}`)
    } else if (leadsBack(kind, parts)) {
      fault('fallback_for', 'must not lead back to the channel itself: one of them is the first')
    }
  }
  if (sla !== undefined && !atLeast(best, sla.counts))
    fault('sla/counts', `must be ${best} or weaker: the channel gets no stronger acknowledgement`)
  if (secret !== undefined && !registered.showsSecret)
    fault('secret', 'must be left out: with these settings its endpoints are shown none')
  const unknown = registered.endpoints.some((endpoint) => keptSecret(kind, endpoint, before) === null)
  if (registered.showsSecret && secret === undefined && unknown)
    fault('secret', 'is required; it may be left out while one is stored for the same uri')
  return faults
}

/** Whether the fallbacks from a channel on go round in a circle. */
function leadsBack(kind: string, parts: readonly ChannelPart[]): boolean {
  const first = new Map(parts.map(({ channel, common }) => [channel.kind, common.fallback_for]))
  let next = first.get(kind)
  for (let steps = 0; steps < parts.length && next !== undefined; steps++) {
    if (next === kind) return true
    next = first.get(next)
  }
  return false
}

/** An endpoint as it was registered before. */
function knownEndpoint(
  kind: string,
  name: string,
  before: RelyingPartyRecord | null,
): EndpointRecord | undefined {
  return before?.endpoints.find((endpoint) => endpoint.kind === kind && endpoint.name === name)
}

/** The stored secret of an endpoint that is registered again. It does not follow the endpoint to another address. */
function keptSecret(
  kind: string,
  { name, uri }: { readonly name: string; readonly uri: string },
  before: RelyingPartyRecord | null,
): string | null {
  const known = knownEndpoint(kind, name, before)
  return known?.uri === uri ? known.sealedSecret : null
}

export function withoutChannelSecrets(channels: NonNullable<RelyingPartySettings['channels']>) {
  return Object.fromEntries(
    Object.entries(channels).map(([kind, { secret: _, ...settings }]) => [kind, settings]),
  )
}

/** The endpoints of one channel as they are stored, by name. @param sealed the secrets that came along, by channel. */
export function endpointsOf(
  { channel, common, registered }: ChannelPart,
  { body, before, enableAgain }: Registration,
  sealed: ReadonlyMap<string, string>,
): readonly EndpointRecord[] {
  const { kind, best } = channel
  const { settings, showsSecret } = registered
  const [fault] = SETTINGS_FAULTS.get(kind)?.(settings) ?? []
  // The channel made them of a registration without faults.
  if (fault !== undefined) throw new Error(`settings of ${kind} are wrong: ${fault.pointer} ${fault.detail}`)
  return registered.endpoints
    .map(({ name, uri, enabled }): EndpointRecord => {
      const known = knownEndpoint(kind, name, before)
      // What answered 410 stays disabled as long as it is the same, unless somebody says otherwise.
      const kept = enableAgain(kind) || known?.uri !== uri || known.disabledReason === BY_OWNER
      const off = !enabled || common.enabled === false || body.curfew?.enabled === false
      return {
        ...{ kind, name, uri, settings, ...channel.names(settings) },
        sealedSecret: showsSecret ? (sealed.get(kind) ?? keptSecret(kind, { name, uri }, before)) : null,
        counts: common.sla?.counts ?? best,
        fallbackFor: common.fallback_for ?? null,
        disabledReason: off ? BY_OWNER : kept ? null : known.disabledReason,
      }
    })
    .sort(byName)
}

/** What a client says to each channel under the defaults of its issuer. Its addresses and keys were checked at its registration. */
function partsUnder(
  { metadata, settings }: Pick<RelyingPartyRecord, 'metadata' | 'settings'>,
  issuer: IssuerRecord,
): ReadonlyMap<string, ChannelPart> {
  const read = { client: readClient(metadata), issuer, settings: settings as RelyingPartySettings }
  return new Map(partsOf(read, () => null).map((part) => [part.channel.kind, part]))
}

/** The endpoints of a registered client under the defaults of its issuer. */
export const endpointsUnder: EndpointsOf = (party, issuer) => {
  const parts = partsUnder(party, issuer)
  return party.endpoints.map((endpoint) => {
    const part = parts.get(endpoint.kind)
    if (part === undefined) return endpoint
    const { settings } = part.registered
    return { ...endpoint, settings, ...part.channel.names(settings) }
  })
}

/** What a client says to one channel under the defaults of its issuer, be the client registered or not. */
export function registeredUnder(
  kind: string,
  party: Pick<RelyingPartyRecord, 'metadata' | 'settings'> | null,
  issuer: IssuerRecord,
): ChannelPart['registered'] {
  const part = partsUnder(party ?? { metadata: {}, settings: {} }, issuer).get(kind)
  if (part === undefined) throw new Error(`this release has no channel ${kind}`)
  return part.registered
}

function byName({ name: a }: EndpointRecord, { name: b }: EndpointRecord): number {
  if (a === MAIN_ENDPOINT || b === MAIN_ENDPOINT) return a === MAIN_ENDPOINT ? -1 : 1
  return a < b ? -1 : 1
}
