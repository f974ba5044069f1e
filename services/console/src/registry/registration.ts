import { DEFAULT_KIND } from '@curfew/channels'
import { RelyingPartyInput, type RelyingPartySettings } from '@curfew/contract'
import {
  type ClientId,
  MAIN_ENDPOINT,
  type NetworkAccess,
  type NetworkRank,
  type NetworkRule,
  NoSigningKeyError,
  networkAccess,
  readClient,
  ruleAfter,
  SIGNING_ALGORITHMS,
  type SigningAlgorithm,
  withoutSecrets,
} from '@curfew/domain'
import type {
  EndpointRecord,
  IssuerRecord,
  RelyingPartyDraft,
  RelyingPartyRecord,
  StoredEncryption,
  StoredSettings,
  TakenUri,
} from '@curfew/ledger'
import { createValidator, type Fault } from '@curfew/runtime'
import { encryptionOf } from './client-encryption.ts'
import { clientTlsFaults, storedClientTls } from './client-tls.ts'
import { beyondFaults, networkFaults, networksOf, registeredNetworks } from './networks.ts'

/** Why an endpoint is disabled when its owner wants it so; any other reason is ours. */
const BY_OWNER = 'disabled by its owner'
/** Members that our answers add. Who reads a registration, changes it and puts it back sends them along. */
const OURS = ['issuer', 'status', 'links']
const CLIENT_ID = /^[\x20-\x7e]{1,255}$/

export interface RegistrationDeps {
  /** Relying parties that an issuer may have that has no quota of its own. */
  readonly relyingPartiesMax: number
  /** Makes sure that a key exists, so that the IdP can publish it before the first logout. @throws {NoSigningKeyError} */
  ensureKey(issuer: IssuerRecord['name'], algorithm: SigningAlgorithm): Promise<void>
  /** Seals the private key of a client certificate, so that it can be stored. */
  sealClientKey(key: string, owner: Pick<RelyingPartyRecord, 'issuer' | 'clientId'>): Promise<string>
  /** What is wrong with an endpoint's URI, in words, or null. */
  targetFault(uri: string, access: NetworkAccess): string | null
  /** CIDRs of this deployment: no registration goes beyond them but by an unbound admin. */
  readonly ceiling: readonly string[]
}

/** What somebody asks to be registered. */
export interface Registration {
  readonly issuer: IssuerRecord
  readonly clientId: ClientId
  /** Metadata with `curfew`, that is valid by `registrationFaults`. */
  readonly body: RelyingPartyInput & Readonly<Record<string, unknown>>
  readonly before: RelyingPartyRecord | null
  /** By whose networks it is bound, and whether it names networks of its own. */
  readonly networks: {
    readonly rank: NetworkRank
    /** Of the registration before, be it removed. */
    readonly rule: NetworkRule | null
    readonly named: boolean
  }
  /** Whether what we disabled ourselves is tried again, though nothing of it has changed. */
  readonly enableAgain: boolean
}

/** What is wrong with a body as such. None: it is a `RelyingPartyInput`. */
export const bodyFaults = createValidator(RelyingPartyInput)

/** The `client_id` that a body names, or what is wrong with that. */
export function clientIdOf(body: RelyingPartyInput): ClientId | Fault {
  const { clientId } = readClient(body)
  if (clientId === null) return { pointer: '/client_id', detail: 'is missing' }
  const { value, pointer } = clientId
  return typeof value === 'string' && CLIENT_ID.test(value)
    ? (value as ClientId)
    : { pointer, detail: 'must be 1 to 255 printable ASCII characters' }
}

/** Everything that is wrong with a registration by itself: each says what to change. */
export function registrationFaults(
  { issuer, clientId, body, before, networks }: Registration,
  { targetFault, ceiling }: Pick<RegistrationDeps, 'targetFault' | 'ceiling'>,
): readonly Fault[] {
  const { curfew: settings = {} } = body
  const client = readClient(body)
  const faults: Fault[] = []
  const fault = (pointer: string, detail: string) => void faults.push({ pointer, detail })
  if (client.clientId !== null && client.clientId.value !== clientId)
    fault(client.clientId.pointer, 'must be the client_id of the path, or be left out')
  if (
    client.clientName !== null &&
    !(isText(client.clientName.value) && client.clientName.value.length <= 255)
  )
    fault(client.clientName.pointer, 'must be a text of at most 255 characters')
  for (const { pointer } of client.furtherUris)
    fault(
      pointer,
      'must be left out: register what is beyond the first as curfew.endpoints, each with a name',
    )
  faults.push(...networkFaults(settings.allowed_networks, '/curfew/allowed_networks'))
  faults.push(...endpointNameFaults(settings))

  const endpoints = endpointsOf(body)
  const stored = before?.settings.tls
  faults.push(...clientTlsFaults(settings.tls, { stored, uris: endpoints.map(({ uri }) => uri) }))
  if (client.logoutUri !== null && !isText(client.logoutUri.value))
    fault(client.logoutUri.pointer, 'must be a URI')
  // Who is told nothing may have registered whatever it likes: an IdP's export is full of such clients.
  if (endpoints.length > 0) faults.push(...tokenFaults(client, settings, issuer))
  if (faults.length > 0) return faults

  const within = { ...networks, issuer: networksOf(issuer), ceiling }
  const beyond = beyondFaults(settings.allowed_networks, '/curfew/allowed_networks', within)
  if (beyond.length > 0) return beyond
  const access = accessAfter({ issuer, body, networks })
  if (endpoints.length > 0) {
    const encryption = encryptionOf(client, (uri) => targetFault(uri, access))
    if (encryption !== null && 'pointer' in encryption) faults.push(encryption)
  }
  const first = new Map<string, string>()
  for (const { name, uri, pointer } of endpoints) {
    const detail = targetFault(uri, access)
    if (detail !== null) fault(pointer, detail)
    const other = first.get(uri)
    if (other !== undefined) fault(pointer, `must not be that of the endpoint ${other} too`)
    first.set(uri, name)
  }
  return faults
}

/** What is wrong with the tokens that would be owed. */
function tokenFaults(
  { algorithm, sessionRequired }: ReturnType<typeof readClient>,
  { subject_claims }: RelyingPartySettings,
  issuer: IssuerRecord,
): readonly Fault[] {
  const faults: Fault[] = []
  if (algorithm !== null && !SIGNING_ALGORITHMS.some((supported) => supported === algorithm.value)) {
    faults.push({
      pointer: algorithm.pointer,
      detail: `must be one of ${SIGNING_ALGORITHMS.join(', ')}: logout tokens are signed like ID tokens`,
    })
  }
  if (sessionRequired === null) return faults
  const { pointer, value } = sessionRequired
  if (typeof value !== 'boolean') faults.push({ pointer, detail: 'must be true or false' })
  if (value === true && !issuer.sidSupported) {
    faults.push({
      pointer,
      detail: `must be false: sessions of ${issuer.name} have no sid (sid_supported is false)`,
    })
  }
  if (value === true && subject_claims === 'sub') {
    faults.push({
      pointer: '/curfew/subject_claims',
      detail: `must be sid or both, for the client requires the session (${pointer.slice(1)})`,
    })
  }
  return faults
}

function endpointNameFaults({ endpoints = [] }: RelyingPartySettings): readonly Fault[] {
  return endpoints.flatMap(({ name }, index) => {
    const pointer = `/curfew/endpoints/${index}/name`
    if (name === MAIN_ENDPOINT)
      return [{ pointer, detail: `must not be ${MAIN_ENDPOINT}: that is backchannel_logout_uri` }]
    const again = endpoints.findIndex((other) => other.name === name) < index
    return again ? [{ pointer, detail: 'must not be there twice' }] : []
  })
}

interface GivenEndpoint {
  readonly name: string
  readonly uri: string
  readonly enabled: boolean
  readonly pointer: string
}

function endpointsOf(body: Registration['body']): readonly GivenEndpoint[] {
  const { logoutUri } = readClient(body)
  const further = (body.curfew?.endpoints ?? []).map(({ name, uri, enabled = true }, index) => ({
    name,
    uri,
    enabled,
    pointer: `/curfew/endpoints/${index}/uri`,
  }))
  if (logoutUri === null || !isText(logoutUri.value)) return further
  return [
    { name: MAIN_ENDPOINT, uri: logoutUri.value, enabled: true, pointer: logoutUri.pointer },
    ...further,
  ]
}

/** URIs that are another client's, as faults. @param maySee whether the asker may know of that client. */
export function takenFaults(
  body: Registration['body'],
  taken: readonly TakenUri[],
  maySee: (clientId: ClientId) => boolean,
): readonly Fault[] {
  return taken.map(({ endpoint, takenBy }) => ({
    pointer: endpointsOf(body).find(({ name }) => name === endpoint)?.pointer ?? '',
    detail: `must be its own: ${maySee(takenBy) ? takenBy : 'another client of the issuer'} has this URI`,
  }))
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
  { issuer, clientId, body, before, networks, enableAgain }: Registration,
  { sealClientKey }: Pick<RegistrationDeps, 'sealClientKey'>,
): Promise<RelyingPartyDraft> {
  const { curfew: { tls, ...settings } = {}, ...metadata } = body
  const client = readClient(metadata)
  const owner = { issuer: issuer.name, clientId }
  const seal = (key: string) => sealClientKey(key, owner)
  const { chosen, rule } = networksAfter({ body, networks })
  const owned = (name: string, value: unknown) => OURS.includes(name) && (name === 'issuer' || isOurs(value))
  return {
    ...owner,
    metadata: withoutSecrets(
      Object.fromEntries(Object.entries(metadata).filter(([name, value]) => !owned(name, value))),
    ),
    settings: {
      ...(settings as StoredSettings),
      ...(chosen !== undefined && { allowed_networks: chosen }),
      ...(tls !== undefined && { tls: await storedClientTls(tls, { stored: before?.settings.tls, seal }) }),
    },
    networkRule: rule,
    clientName: (client.clientName?.value ?? null) as string | null,
    sessionRequired: client.sessionRequired?.value === true,
    // RS256 where none was registered (OpenID Connect Dynamic Client Registration 2).
    algorithm: (isText(client.algorithm?.value) ? client.algorithm.value : 'RS256') as SigningAlgorithm,
    encryption: storedEncryption(client),
    endpoints: endpointsOf(body)
      .map(({ name, uri, enabled }): EndpointRecord => {
        const known = before?.endpoints.find((endpoint) => endpoint.name === name)
        // What answered 410 stays disabled as long as it is the same, unless somebody says otherwise.
        const kept = enableAgain || known?.uri !== uri || known.disabledReason === BY_OWNER
        const off = !enabled || settings.enabled === false
        return {
          kind: DEFAULT_KIND,
          name,
          uri,
          counts: 'done',
          fallbackFor: null,
          disabledReason: off ? BY_OWNER : kept ? null : known.disabledReason,
        }
      })
      .sort(byName),
  }
}

/** Where there is an endpoint it has been checked; where there is none, whatever is wrong with it wrongs nobody. */
function storedEncryption(client: ReturnType<typeof readClient>): StoredEncryption | null {
  const encryption = encryptionOf(client, () => null)
  return encryption !== null && 'pointer' in encryption ? null : withoutSecrets(encryption)
}

/** What we show as `status` or `links` is an object; a product may have a text of its own there. */
function isOurs(value: unknown): boolean {
  return typeof value === 'object'
}

function byName({ name: a }: EndpointRecord, { name: b }: EndpointRecord): number {
  if (a === MAIN_ENDPOINT || b === MAIN_ENDPOINT) return a === MAIN_ENDPOINT ? -1 : 1
  return a < b ? -1 : 1
}

/** Sees to it that what is owed to `drafts` can be signed. @returns faults of those for which it cannot, by client. */
export async function keyFaults(
  drafts: readonly Pick<RelyingPartyDraft, 'issuer' | 'clientId' | 'metadata' | 'algorithm' | 'endpoints'>[],
  { ensureKey }: Pick<RegistrationDeps, 'ensureKey'>,
): Promise<ReadonlyMap<ClientId, Fault>> {
  const faults = new Map<ClientId, Fault>()
  const told = drafts.filter(({ endpoints }) => endpoints.length > 0)
  for (const [algorithm, parties] of Map.groupBy(told, (draft) => draft.algorithm)) {
    const [first] = parties
    if (first === undefined) continue
    try {
      await ensureKey(first.issuer, algorithm)
    } catch (error) {
      if (!(error instanceof NoSigningKeyError)) throw error
      for (const { clientId, metadata } of parties) {
        const pointer = readClient(metadata).algorithm?.pointer ?? '/id_token_signed_response_alg'
        faults.set(clientId, { pointer, detail: `must be another, or have a key: ${error.message}` })
      }
    }
  }
  return faults
}

function isText(value: unknown): value is string {
  return typeof value === 'string'
}
