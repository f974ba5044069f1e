import { CHANNELS, type Channel, type CommonRegistration, type Registered } from '@curfew/channels'
import type { RelyingPartySettings } from '@curfew/contract'
import {
  atLeast,
  type ClientMetadata,
  type EncryptionAlgorithm,
  MAIN_ENDPOINT,
  type Offer,
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

// Reads the parts of a registration that belong to channels. Only this file of the console calls the channels for it.

/** The reason of an endpoint that its owner disabled. Curfew has set any other reason. */
const BY_OWNER = 'disabled by its owner'
/** The validators of settings, by channel. */
const SETTINGS_FAULTS = new Map(CHANNELS.map(({ kind, settings }) => [kind, createValidator(settings)]))

/** The part of a registration that belongs to one channel. */
export interface ChannelPart {
  readonly channel: Channel
  readonly common: CommonRegistration
  readonly registered: Registered<EndpointRecord['settings']>
}

/** The parts of a registration, one for each channel. */
export function partsOf(
  {
    client,
    issuer,
    settings,
  }: {
    readonly client: ClientMetadata
    readonly issuer: Pick<
      IssuerRecord,
      'name' | 'iss' | 'sidSupported' | 'sessionIndex' | 'cutoffs' | 'defaults'
    >
    readonly settings: RelyingPartySettings
  },
  targetFault: (uri: string) => string | null,
): readonly ChannelPart[] {
  const effective = effectiveSettings(settings as StoredSettings, issuer.defaults) as RelyingPartySettings
  return CHANNELS.map((channel) => {
    const own = settings.channels?.[channel.kind] ?? {}
    const at = {
      issuer: { ...issuer, maxTokenTtlS: issuer.cutoffs.maxTokenTtlS },
      ...{ registered: settings, settings: effective, own, targetFault },
      hasEncryptionKey: (jwks: unknown, algorithm: EncryptionAlgorithm) =>
        findEncryptionKey(jwks, algorithm) !== null,
    }
    return { channel, common: own as CommonRegistration, registered: channel.endpoints(client, at) }
  })
}

/** The faults of the members that every channel has. */
export function commonFaults(
  { channel, common, registered }: ChannelPart,
  { parts, before }: { parts: readonly ChannelPart[]; before: RelyingPartyRecord | null },
): readonly Fault[] {
  const { kind } = channel
  const { best = channel.best } = registered
  const faults: Fault[] = []
  const fault = (member: string, detail: string) =>
    faults.push({ pointer: `/curfew/channels/${kind}/${member}`, detail })
  const { fallback_for: replaced, secret, sla } = common
  if (replaced !== undefined) {
    const others = parts.filter((part) => part.channel.kind !== kind && part.registered.endpoints.length > 0)
    if (!others.some((part) => part.channel.kind === replaced)) {
      const known = others.map((part) => part.channel.kind).join(', ')
      fault('fallback_for', `must be another channel of the client: ${known === '' ? 'it has none' : known}`)
    } else if (leadsBack(kind, parts)) {
      fault('fallback_for', 'must not lead back to the channel itself: one channel must have no fallback_for')
    }
  }
  if (sla !== undefined && !atLeast(best, sla.counts))
    fault('sla/counts', `must be ${best} or weaker: the channel never gets a stronger acknowledgement`)
  if (secret !== undefined && !registered.sendsSecret)
    fault('secret', 'must be absent: with these settings Curfew sends no secret to the endpoints')
  const unknown = registered.endpoints.some(
    (endpoint) => keptSecret({ channel, registered }, endpoint, before) === null,
  )
  if (registered.sendsSecret && secret === undefined && unknown)
    fault('secret', 'is required, unless one is stored for the same uri')
  return faults
}

/** Whether following fallback_for from a channel leads back to it. */
function leadsBack(kind: string, parts: readonly ChannelPart[]): boolean {
  const replaced = new Map(parts.map(({ channel, common }) => [channel.kind, common.fallback_for]))
  let next = replaced.get(kind)
  for (let steps = 0; steps < parts.length && next !== undefined; steps++) {
    if (next === kind) return true
    next = replaced.get(next)
  }
  return false
}

/** The endpoint in the previous registration. */
function knownEndpoint(
  kind: string,
  name: string,
  before: RelyingPartyRecord | null,
): EndpointRecord | undefined {
  return before?.endpoints.find((endpoint) => endpoint.kind === kind && endpoint.name === name)
}

/** The stored secret of an endpoint that is registered again; null if it would be sent to another address. */
function keptSecret(
  { channel: { kind, secretPlaces = () => [] }, registered }: Pick<ChannelPart, 'channel' | 'registered'>,
  { name, uri }: { readonly name: string; readonly uri: string },
  before: RelyingPartyRecord | null,
): string | null {
  const known = knownEndpoint(kind, name, before)
  if (known?.uri !== uri) return null
  const places = [known.settings, registered.settings].map((settings) => secretPlaces(settings).join(' '))
  return places[0] === places[1] ? known.sealedSecret : null
}

export function withoutChannelSecrets(channels: NonNullable<RelyingPartySettings['channels']>) {
  return Object.fromEntries(
    Object.entries(channels).map(([kind, { secret: _, ...settings }]) => [kind, settings]),
  )
}

/** The endpoints of one channel to store, sorted by name. @param sealed the new secrets, by channel. */
export function endpointsOf(
  { channel, common, registered }: ChannelPart,
  { issuer, body, before, enableAgain }: Registration,
  sealed: ReadonlyMap<string, string>,
): readonly EndpointRecord[] {
  const { kind } = channel
  const { settings, sendsSecret, best = channel.best } = registered
  const [fault] = SETTINGS_FAULTS.get(kind)?.(settings) ?? []
  // A bug of the channel: it made these settings from a registration without faults.
  if (fault !== undefined)
    throw new Error(`the settings of ${kind} are invalid: ${fault.pointer} ${fault.detail}`)
  return registered.endpoints
    .map(({ name, uri, enabled }): EndpointRecord => {
      const known = knownEndpoint(kind, name, before)
      // An endpoint that answered 410 stays disabled while its address is the same, unless the request enables it.
      const enabledAgain = enableAgain(kind) || known?.uri !== uri || known.disabledReason === BY_OWNER
      const off = !enabled || common.enabled === false || body.curfew?.enabled === false
      return {
        ...{ kind, name, uri, settings, step: channel.step },
        ...{ offer: offerOf(channel, settings), ...channel.names(settings) },
        sealedSecret: sendsSecret
          ? (sealed.get(kind) ?? keptSecret({ channel, registered }, { name, uri }, before))
          : null,
        counts: common.sla?.counts ?? best,
        fallbackFor: fallbackOf(channel, common, issuer),
        disabledReason: off ? BY_OWNER : enabledAgain ? null : known.disabledReason,
      }
    })
    .sort(byName)
}

/** The parts of a registered client with its issuer's present defaults. Addresses and keys were checked at the registration. */
function partsUnder(
  { metadata, settings }: Pick<RelyingPartyRecord, 'metadata' | 'settings'>,
  issuer: IssuerRecord,
): ReadonlyMap<string, ChannelPart> {
  const stored = { client: readClient(metadata), issuer, settings: settings as RelyingPartySettings }
  return new Map(partsOf(stored, () => null).map((part) => [part.channel.kind, part]))
}

/** The endpoints of a registered client with its issuer's present defaults. */
export const endpointsUnder: EndpointsOf = (party, issuer) => {
  const parts = partsUnder(party, issuer)
  return party.endpoints.map((endpoint) => {
    const part = parts.get(endpoint.kind)
    if (part === undefined) return endpoint
    const { settings } = part.registered
    const { channel, common } = part
    const fallbackFor = fallbackOf(channel, common, issuer)
    return {
      ...endpoint,
      settings,
      fallbackFor,
      offer: offerOf(channel, settings),
      ...channel.names(settings),
    }
  })
}

/** One channel's part of a client with its issuer's present defaults. The client need not be registered. */
export function registeredUnder(
  kind: string,
  party: Pick<RelyingPartyRecord, 'metadata' | 'settings'> | null,
  issuer: IssuerRecord,
): ChannelPart['registered'] {
  const part = partsUnder(party ?? { metadata: {}, settings: {} }, issuer).get(kind)
  if (part === undefined) throw new Error(`this release has no channel ${kind}`)
  return part.registered
}

/** The channel that a channel is a fallback for. A strategy that revokes at once leaves no channel that revokes as a fallback. */
function fallbackOf(
  { step }: Channel,
  { fallback_for: fallbackFor }: CommonRegistration,
  { strategy }: Pick<IssuerRecord, 'strategy'>,
): string | null {
  return step === 'revoke' && strategy === 'revoke_then_notify' ? null : (fallbackFor ?? null)
}

function offerOf(channel: Channel, settings: EndpointRecord['settings']): Offer | null {
  return channel.mode === 'pull' ? channel.offer(settings) : null
}

function byName({ name: a }: EndpointRecord, { name: b }: EndpointRecord): number {
  if (a === MAIN_ENDPOINT || b === MAIN_ENDPOINT) return a === MAIN_ENDPOINT ? -1 : 1
  return a < b ? -1 : 1
}
