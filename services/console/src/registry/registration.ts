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
  SUBJECT_TYPES,
  type SubjectType,
  subjectTypeOf,
  type TokenAlgorithm,
  withoutSecrets,
} from '@curfew/domain'
import type { IssuerRecord, RelyingPartyDraft, RelyingPartyRecord, StoredSettings } from '@curfew/ledger'
import { createBodyValidator, type Fault } from '@curfew/runtime'
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
import { confirmationFaults, confirmationSecrets } from './confirmation-secrets.ts'
import { beyondFaults, networkFaults, networksOf, registeredNetworks } from './networks.ts'
import type { RelayAddresses } from './relay.ts'

/** Members that only answers have. A client that reads a registration and puts it back sends them too. */
const OURS = ['issuer', 'status', 'links']
const CLIENT_ID = /^[\x20-\x7e]{1,255}$/

export interface RegistrationDeps {
  /** The limit of relying parties for issuers without a quota of their own. */
  readonly relyingPartiesMax: number
  /** Ensures that a key exists, so that the IdP can publish it before the first logout. @throws {NoSigningKeyError} */
  ensureKey(issuer: IssuerRecord['name'], algorithm: TokenAlgorithm): Promise<void>
  /** Seals private keys and secrets of relying parties for storage. */
  readonly clientKeys: Pick<ClientKeySealer, 'seal' | 'open'>
  /** Makes a secret that signs confirmations, in its text form. */
  newSecret(): string
  /** The fault of an endpoint's URI, in words; null if there is none. */
  targetFault(uri: string, access: NetworkAccess): string | null
  /** The CIDRs of this deployment. Only an unbound admin can register networks beyond them. */
  readonly ceiling: readonly string[]
  readonly relay: RelayAddresses
}

/** The schema of a posted registration, with the settings of each channel of this release. */
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
  {
    ...{ additionalProperties: true, title: 'RelyingPartyInput' },
    examples: [
      {
        ...{ client_id: 'wiki', client_name: 'Wiki' },
        ...{ backchannel_logout_uri: 'https://wiki.example/backchannel-logout' },
        ...{ backchannel_logout_session_required: true, curfew: { timeout_ms: 5_000 } },
      },
    ],
  },
)

/** A requested registration. */
export interface Registration {
  readonly issuer: IssuerRecord
  readonly clientId: ClientId
  /** The metadata with `curfew`, valid by `bodyFaults`. */
  readonly body: RelyingPartyInput & Readonly<Record<string, unknown>>
  readonly before: RelyingPartyRecord | null
  /** The limits of its networks. */
  readonly networks: {
    readonly rank: NetworkRank
    /** The rule of the previous registration, even if that was removed. */
    readonly rule: NetworkRule | null
    /** Whether the request decides the networks. A patch may leave them unchanged. */
    readonly named: boolean
  }
  /** Whether the request enables the endpoints of the channel that Curfew disabled, although their URIs are unchanged. */
  enableAgain(kind: string): boolean
  /** Whether the answer can show a new secret. The answer of an import cannot. */
  readonly showsSecrets: boolean
}

/** A registration with the results of reading it. */
export interface ReadRegistration extends Registration {
  readonly client: ClientMetadata
  /** Its parts, one for each channel. */
  readonly parts: readonly ChannelPart[]
  /** The faults of the registration alone, without other registrations. */
  readonly faults: readonly Fault[]
}

/** A draft, with the facts that are not stored. */
export interface SignedDraft extends RelyingPartyDraft {
  /** The signing algorithms of its messages. */
  readonly signs: readonly NonNullable<Registered<unknown>['signs']>[]
  /** The new secret that signs confirmations, for the answer; null if none was made. */
  readonly newSecret: string | null
}

/** The faults of a body by its schema. A body without faults is a `RelyingPartyInput`. */
export const bodyFaults = createBodyValidator(RegistrationBody)

/** The `client_id` in a body, or its fault. */
export function clientIdOf(body: RelyingPartyInput): ClientId | Fault {
  const { clientId } = readClient(body)
  if (clientId === null) return { pointer: '/client_id', detail: 'is missing' }
  const { value, pointer } = clientId
  return typeof value === 'string' && CLIENT_ID.test(value)
    ? (value as ClientId)
    : { pointer, detail: 'must be 1 to 255 printable ASCII characters' }
}

/** Reads the parts and the faults of a registration. */
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
  // Addresses are checked only if the networks have no faults.
  const access = ofNetworks.length === 0 ? accessAfter(registration) : null
  const parts = partsOf({ client, issuer, settings }, (uri) =>
    access === null ? null : targetFault(uri, access),
  )
  // The addresses that Curfew calls. A relying party that fetches its logouts has none.
  const endpoints = parts.flatMap(({ channel: { kind, mode }, registered }) =>
    mode === 'pull' ? [] : registered.endpoints.map((endpoint) => ({ ...endpoint, kind })),
  )
  const { confirmation_uri: confirmationUri } = settings
  const uris = [
    ...endpoints.map(({ uri }) => uri),
    ...(confirmationUri === undefined ? [] : [confirmationUri]),
  ]
  const faults = [
    ...nameFaults(client, registration.clientId),
    ...ofNetworks,
    ...clientTlsFaults(settings.tls, { stored: before?.settings.tls, uris }),
    ...(endpoints.length === 0 ? [] : subjectTypeFaults(client)),
    ...parts.flatMap(({ registered }) => registered.faults),
    ...parts.flatMap((part) => commonFaults(part, { parts, before })),
    ...(access === null ? [] : addressFaults(endpoints, (uri) => targetFault(uri, access))),
    ...confirmationFaults(registration, (uri) => (access === null ? null : targetFault(uri, access))),
  ]
  return { ...registration, client, parts, faults }
}

function nameFaults({ clientId: given, clientName }: ClientMetadata, clientId: ClientId): readonly Fault[] {
  const faults: Fault[] = []
  if (given !== null && given.value !== clientId)
    faults.push({ pointer: given.pointer, detail: 'must be the client_id of the path, or be absent' })
  if (clientName !== null && !(isText(clientName.value) && clientName.value.length <= 255))
    faults.push({ pointer: clientName.pointer, detail: 'must be a text of at most 255 characters' })
  return faults
}

function subjectTypeFaults(client: ClientMetadata): readonly Fault[] {
  const stated = subjectTypeOf(client)
  return stated === null || isSubjectType(stated.value)
    ? []
    : [{ pointer: stated.pointer, detail: `must be ${SUBJECT_TYPES.join(' or ')}` }]
}

function isSubjectType(value: unknown): value is SubjectType {
  return SUBJECT_TYPES.some((type) => type === value)
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
      ...(other === undefined
        ? []
        : [{ pointer, detail: `must differ from the address of the endpoint ${other}` }]),
    ]
  })
}

/** The networks and the rule after a registration. */
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

/** The form of a valid registration for storage. */
export async function draftOf(
  registration: ReadRegistration,
  { clientKeys, newSecret }: Pick<RegistrationDeps, 'clientKeys' | 'newSecret'>,
): Promise<SignedDraft> {
  const { issuer, clientId, body, before, client, parts } = registration
  const { curfew: { tls, channels, confirmation_secret: _, ...settings } = {}, ...metadata } = body
  const owner = { issuer: issuer.name, clientId }
  const seal = (secret: string, kept: string | null) => sealOnce(secret, kept, { owner, clientKeys })
  const { chosen, rule } = networksAfter(registration)
  const isOurs = (name: string, value: unknown) =>
    OURS.includes(name) && (name === 'issuer' || isOurForm(value))
  const sealed = new Map<string, string>()
  for (const { channel, common } of parts) {
    const known = before?.endpoints.find(({ kind }) => kind === channel.kind)
    if (common.secret !== undefined)
      sealed.set(channel.kind, await seal(common.secret, known?.sealedSecret ?? null))
  }
  const confirmation = await confirmationSecrets(registration, { seal, newSecret })
  const subjectType = subjectTypeOf(client)?.value
  return {
    ...owner,
    metadata: withoutSecrets(
      Object.fromEntries(Object.entries(metadata).filter(([name, value]) => !isOurs(name, value))),
    ),
    settings: {
      ...(settings as StoredSettings),
      ...(chosen !== undefined && { allowed_networks: chosen }),
      ...(channels !== undefined && { channels: withoutChannelSecrets(channels) }),
      ...(tls !== undefined && { tls: await storedClientTls(tls, { stored: before?.settings.tls, seal }) }),
      ...(confirmation.stored !== null && { confirmation: confirmation.stored }),
    },
    networkRule: rule,
    clientName: (client.clientName?.value ?? null) as string | null,
    subjectType: isSubjectType(subjectType) ? subjectType : null,
    endpoints: parts.flatMap((part) => endpointsOf(part, registration, sealed)),
    signs: signaturesOf(registration),
    newSecret: confirmation.made,
  }
}

/** Whether the messages to a client's endpoints must name a session. */
export function requiresSession({ parts }: Pick<ReadRegistration, 'parts'>): boolean {
  return parts.some(
    ({ registered: { endpoints, settings } }) =>
      endpoints.length > 0 && Reflect.get(settings, 'session_required') === true,
  )
}

/** The signing algorithms of the messages to a client's endpoints. */
export function signaturesOf({ parts }: Pick<ReadRegistration, 'parts'>): SignedDraft['signs'] {
  return parts.flatMap(({ registered: { endpoints, signs } }) =>
    endpoints.length === 0 || signs === null ? [] : [signs],
  )
}

/**
 * Seals a secret. If the sealed `kept` is the same secret, returns `kept`, so that a repeated registration changes nothing. A
 * stored secret that cannot be opened is replaced.
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

/** SHA-256 of a text. All digests have the same length, as `timingSafeEqual` requires. */
function digestOf(text: string): Uint8Array {
  return createHash('sha256').update(text).digest()
}

/**
 * Whether a member `status` or `links` has the form of our answers, an object. Exports of products may have a text in its place.
 */
function isOurForm(value: unknown): boolean {
  return typeof value === 'object'
}

/** Ensures the signing keys for `drafts`. @returns the faults of drafts whose algorithm cannot have a key, by client. */
export async function keyFaults(
  drafts: readonly Pick<SignedDraft, 'issuer' | 'clientId' | 'signs'>[],
  { ensureKey }: Pick<RegistrationDeps, 'ensureKey'>,
): Promise<ReadonlyMap<ClientId, Fault>> {
  const faults = new Map<ClientId, Fault>()
  const signed = drafts.flatMap(({ signs, ...draft }) =>
    signs.map((signature) => ({ ...draft, ...signature })),
  )
  for (const [algorithm, parties] of Map.groupBy(signed, (draft) => draft.algorithm)) {
    const [first] = parties
    if (first === undefined) continue
    try {
      await ensureKey(first.issuer, algorithm)
    } catch (error) {
      if (!(error instanceof NoSigningKeyError)) throw error
      for (const { clientId, pointer } of parties)
        faults.set(clientId, {
          pointer,
          detail: `must be an algorithm for which the issuer has a key: ${error.message}`,
        })
    }
  }
  return faults
}

function isText(value: unknown): value is string {
  return typeof value === 'string'
}
