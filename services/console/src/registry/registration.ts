import { createHash, timingSafeEqual } from 'node:crypto'
import { ChannelRegistrations, type Registered } from '@curfew/channels'
import { RelyingPartyInput, RelyingPartySettings } from '@curfew/contract'
import {
  type ClientId,
  ClientKeyError,
  type ClientMetadata,
  type NetworkAccess,
  type NetworkRank,
  type NetworkRule,
  NoSigningKeyError,
  networkAccess,
  readClient,
  ruleAfter,
  type SigningAlgorithm,
  withoutSecrets,
} from '@curfew/domain'
import type {
  IssuerRecord,
  RelyingPartyDraft,
  RelyingPartyRecord,
  StoredSettings,
  TakenUri,
} from '@curfew/ledger'
import { createValidator, type Fault } from '@curfew/runtime'
import type { ClientKeySealer } from '@curfew/tokens'
import { Type } from 'typebox'
import {
  type ChannelPart,
  commonFaults,
  endpointsOf,
  partsOf,
  withoutChannelSecrets,
} from './channel-parts.ts'
import { clientTlsFaults, storedClientTls } from './client-tls.ts'
import { beyondFaults, networkFaults, networksOf, registeredNetworks } from './networks.ts'

/** Members that our answers add. Who reads a registration, changes it and puts it back sends them along. */
const OURS = ['issuer', 'status', 'links']
const CLIENT_ID = /^[\x20-\x7e]{1,255}$/

export interface RegistrationDeps {
  /** Relying parties that an issuer may have that has no quota of its own. */
  readonly relyingPartiesMax: number
  /** Makes sure that a key exists, so that the IdP can publish it before the first logout. @throws {NoSigningKeyError} */
  ensureKey(issuer: IssuerRecord['name'], algorithm: SigningAlgorithm): Promise<void>
  /** Seals what is shown to a relying party, a private key or a secret, so that it can be stored. */
  readonly clientKeys: Pick<ClientKeySealer, 'seal' | 'open'>
  /** What is wrong with an endpoint's URI, in words, or null. */
  targetFault(uri: string, access: NetworkAccess): string | null
  /** CIDRs of this deployment: no registration goes beyond them but by an unbound admin. */
  readonly ceiling: readonly string[]
}

/** A registration as it is posted: with the settings of each channel that this release has. */
export const RegistrationBody = Type.Object(
  {
    ...RelyingPartyInput.properties,
    curfew: Type.Optional(
      Type.Object(
        { ...RelyingPartySettings.properties, channels: Type.Optional(ChannelRegistrations) },
        { additionalProperties: false },
      ),
    ),
  },
  { additionalProperties: true, title: 'RelyingParty' },
)

/** What somebody asks to be registered. */
export interface Registration {
  readonly issuer: IssuerRecord
  readonly clientId: ClientId
  /** Metadata with `curfew`, that is valid by `bodyFaults`. */
  readonly body: RelyingPartyInput & Readonly<Record<string, unknown>>
  readonly before: RelyingPartyRecord | null
  /** By whose networks it is bound, and whether it names networks of its own. */
  readonly networks: {
    readonly rank: NetworkRank
    /** Of the registration before, be it removed. */
    readonly rule: NetworkRule | null
    readonly named: boolean
  }
  /** Whether endpoints of a channel that Curfew disabled are enabled again, though nothing of them has changed. */
  enableAgain(kind: string): boolean
}

/** A registration, read once. */
export interface ReadRegistration extends Registration {
  readonly client: ClientMetadata
  /** What it says to each channel. */
  readonly parts: readonly ChannelPart[]
  /** Everything that is wrong with it by itself: each says what to change. */
  readonly faults: readonly Fault[]
}

/** A draft, and the algorithms that its messages are signed in. */
export interface SignedDraft extends RelyingPartyDraft {
  readonly signs: readonly NonNullable<Registered<unknown>['signs']>[]
}

/** What is wrong with a body as such. None: it is a `RelyingPartyInput`. */
export const bodyFaults = createValidator(RegistrationBody)

/** The `client_id` that a body names, or what is wrong with that. */
export function clientIdOf(body: RelyingPartyInput): ClientId | Fault {
  const { clientId } = readClient(body)
  if (clientId === null) return { pointer: '/client_id', detail: 'is missing' }
  const { value, pointer } = clientId
  return typeof value === 'string' && CLIENT_ID.test(value)
    ? (value as ClientId)
    : { pointer, detail: 'must be 1 to 255 printable ASCII characters' }
}

/** Reads a registration: what it says to each channel, and what is wrong with it. */
export function readRegistration(
  registration: Registration,
  { targetFault, ceiling }: Pick<RegistrationDeps, 'targetFault' | 'ceiling'>,
): ReadRegistration {
  const { issuer, body, before, networks } = registration
  const { curfew: settings = {} } = body
  const client = readClient(body)
  const networkPointer = '/curfew/allowed_networks'
  const within = { ...networks, issuer: networksOf(issuer), ceiling }
  const ofNetworks = networkFaults(settings.allowed_networks, networkPointer)
  if (ofNetworks.length === 0)
    ofNetworks.push(...beyondFaults(settings.allowed_networks, networkPointer, within))
  // Addresses are judged by networks that hold.
  const access = ofNetworks.length === 0 ? accessAfter(registration) : null
  const parts = partsOf({ client, issuer, settings }, (uri) =>
    access === null ? null : targetFault(uri, access),
  )
  const endpoints = parts.flatMap(({ channel: { kind }, registered }) =>
    registered.endpoints.map((endpoint) => ({ ...endpoint, kind })),
  )
  const uris = endpoints.map(({ uri }) => uri)
  const faults = [
    ...nameFaults(client, registration.clientId),
    ...ofNetworks,
    ...clientTlsFaults(settings.tls, { stored: before?.settings.tls, uris }),
    ...parts.flatMap(({ registered }) => registered.faults),
    ...parts.flatMap((part) => commonFaults(part, { parts, before })),
    ...(access === null ? [] : addressFaults(endpoints, (uri) => targetFault(uri, access))),
  ]
  return { ...registration, client, parts, faults }
}

function nameFaults({ clientId: said, clientName }: ClientMetadata, clientId: ClientId): readonly Fault[] {
  const faults: Fault[] = []
  if (said !== null && said.value !== clientId)
    faults.push({ pointer: said.pointer, detail: 'must be the client_id of the path, or be left out' })
  if (clientName !== null && !(isText(clientName.value) && clientName.value.length <= 255))
    faults.push({ pointer: clientName.pointer, detail: 'must be a text of at most 255 characters' })
  return faults
}

function addressFaults(
  endpoints: readonly { readonly name: string; readonly uri: string; readonly pointer: string }[],
  targetFault: (uri: string) => string | null,
): readonly Fault[] {
  const first = new Map<string, string>()
  return endpoints.flatMap(({ name, uri, pointer }) => {
    const detail = targetFault(uri)
    const other = first.get(uri)
    first.set(uri, name)
    return [
      ...(detail === null ? [] : [{ pointer, detail }]),
      ...(other === undefined ? [] : [{ pointer, detail: `must not be that of the endpoint ${other} too` }]),
    ]
  })
}

/** URIs that are another client's, as faults. @param maySee whether the asker may know of that client. */
export function takenFaults(
  { parts }: Pick<ReadRegistration, 'parts'>,
  taken: readonly TakenUri[],
  maySee: (clientId: ClientId) => boolean,
): readonly Fault[] {
  return taken.map(({ kind, endpoint, takenBy }) => {
    const part = parts.find(({ channel }) => channel.kind === kind)
    const given = part?.registered.endpoints.find(({ name }) => name === endpoint)
    const other = maySee(takenBy) ? takenBy : 'another client of the issuer'
    return { pointer: given?.pointer ?? '', detail: `must be its own: ${other} has this URI` }
  })
}

/** The networks of a registration as it will stand, and the rule that it leaves. */
function networksAfter({ body, networks: { rank, rule, named } }: Pick<Registration, 'body' | 'networks'>): {
  readonly chosen: readonly string[] | undefined
  readonly rule: NetworkRule | null
} {
  const asked = body.curfew?.allowed_networks
  return {
    chosen: registeredNetworks(asked, { rank, rule }),
    rule: named ? ruleAfter(rule, { rank, asked }) : rule,
  }
}

function accessAfter({ issuer, ...registration }: Pick<Registration, 'issuer' | 'body' | 'networks'>) {
  return networkAccess(networksAfter(registration), networksOf(issuer))
}

/** What is stored of a registration without faults. */
export async function draftOf(
  registration: ReadRegistration,
  { clientKeys }: Pick<RegistrationDeps, 'clientKeys'>,
): Promise<SignedDraft> {
  const { issuer, clientId, body, before, client, parts } = registration
  const { curfew: { tls, channels, ...settings } = {}, ...metadata } = body
  const owner = { issuer: issuer.name, clientId }
  const seal = (secret: string, kept: string | null) => sealOnce(secret, kept, { owner, clientKeys })
  const { chosen, rule } = networksAfter(registration)
  const owned = (name: string, value: unknown) => OURS.includes(name) && (name === 'issuer' || isOurs(value))
  const sealed = new Map<string, string>()
  for (const { channel, common } of parts) {
    const known = before?.endpoints.find(({ kind }) => kind === channel.kind)
    if (common.secret !== undefined)
      sealed.set(channel.kind, await seal(common.secret, known?.sealedSecret ?? null))
  }
  return {
    ...owner,
    metadata: withoutSecrets(
      Object.fromEntries(Object.entries(metadata).filter(([name, value]) => !owned(name, value))),
    ),
    settings: {
      ...(settings as StoredSettings),
      ...(chosen !== undefined && { allowed_networks: chosen }),
      ...(channels !== undefined && { channels: withoutChannelSecrets(channels) }),
      ...(tls !== undefined && { tls: await storedClientTls(tls, { stored: before?.settings.tls, seal }) }),
    },
    networkRule: rule,
    clientName: (client.clientName?.value ?? null) as string | null,
    endpoints: parts.flatMap((part) => endpointsOf(part, registration, sealed)),
    signs: parts.flatMap(({ registered: { endpoints, signs } }) =>
      endpoints.length === 0 || signs === null ? [] : [signs],
    ),
  }
}

/**
 * Seals a secret, or returns `kept` where that holds the same one: a repeated registration then changes nothing. A stored secret that
 * cannot be opened is replaced.
 */
async function sealOnce(
  secret: string,
  kept: string | null,
  {
    owner,
    clientKeys,
  }: Pick<RegistrationDeps, 'clientKeys'> & {
    readonly owner: Pick<RelyingPartyRecord, 'issuer' | 'clientId'>
  },
): Promise<string> {
  if (kept !== null) {
    const stored = await clientKeys.open(kept, owner).catch((error) => {
      if (!(error instanceof ClientKeyError)) throw error
      return null
    })
    if (stored !== null && timingSafeEqual(digestOf(stored), digestOf(secret))) return kept
  }
  return clientKeys.seal(secret, owner)
}

/** All digests have the same length, which `timingSafeEqual` requires. */
function digestOf(text: string): Uint8Array {
  return createHash('sha256').update(text).digest()
}

/** What we show as `status` or `links` is an object; a product may have a text of its own there. */
function isOurs(value: unknown): boolean {
  return typeof value === 'object'
}

/** Sees to it that what is owed to `drafts` can be signed. @returns faults of those for which it cannot, by client. */
export async function keyFaults(
  drafts: readonly Pick<SignedDraft, 'issuer' | 'clientId' | 'signs'>[],
  { ensureKey }: Pick<RegistrationDeps, 'ensureKey'>,
): Promise<ReadonlyMap<ClientId, Fault>> {
  const faults = new Map<ClientId, Fault>()
  const signed = drafts.flatMap(({ signs, ...draft }) => signs.map((each) => ({ ...draft, ...each })))
  for (const [algorithm, parties] of Map.groupBy(signed, (draft) => draft.algorithm)) {
    const [first] = parties
    if (first === undefined) continue
    try {
      await ensureKey(first.issuer, algorithm)
    } catch (error) {
      if (!(error instanceof NoSigningKeyError)) throw error
      for (const { clientId, pointer } of parties)
        faults.set(clientId, { pointer, detail: `must be another, or have a key: ${error.message}` })
    }
  }
  return faults
}

function isText(value: unknown): value is string {
  return typeof value === 'string'
}
