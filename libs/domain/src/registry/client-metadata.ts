/** The format of a client's metadata. `oidc`: the members of the standard, in any spelling, which Ory and many others use. */
export type ClientFormat = 'oidc' | 'keycloak' | 'auth0' | 'okta'

/** A member of a client's metadata that Curfew uses: its value, and its place as a JSON pointer. */
export interface KnownMember {
  readonly value: unknown
  readonly pointer: string
}

type Metadata = Readonly<Record<string, unknown>>
type Path = readonly (string | number)[]

/**
 * The places of a member: its name in the standard's format (`oidc`) and its paths in other formats. The first set counts.
 * The standard's name is found in every spelling: `client_id` also as `clientId` or `ClientId`.
 */
export interface MemberPaths {
  readonly oidc: string
  /** The paths in products whose other members have the names of the standard. */
  readonly others?: readonly Path[]
  readonly keycloak?: readonly Path[]
  readonly auth0?: readonly Path[]
  readonly okta?: readonly Path[]
}

/** A client as its IdP describes it: OIDC client metadata, or the export of a known product. */
export interface ClientMetadata {
  readonly format: ClientFormat
  readonly document: Metadata
  readonly clientId: KnownMember | null
  readonly clientName: KnownMember | null
  /** Finds a member, in the standard's format before the product's own; null if neither sets it. */
  member(paths: MemberPaths): KnownMember | null
}

const CLIENT_ID: MemberPaths = {
  oidc: 'client_id',
  okta: [['credentials', 'oauthClient', 'client_id']],
}
const CLIENT_NAME: MemberPaths = {
  oidc: 'client_name',
  keycloak: [['name']],
  auth0: [['name']],
  okta: [['label']],
}

/** Members that only Keycloak's clients have beside a `clientId`. */
const KEYCLOAK_ONLY = [
  ...['protocol', 'protocolMappers', 'surrogateAuthRequired', 'clientAuthenticatorType', 'bearerOnly'],
  ...['standardFlowEnabled', 'fullScopeAllowed', 'publicClient', 'frontchannelLogout', 'rootUrl', 'adminUrl'],
]
/** The members in which products nest the metadata of a client: ZITADEL and PingFederate. */
const NESTED = ['oidcConfig', 'oidcPolicy']

const FORMATS: readonly {
  readonly format: Exclude<ClientFormat, 'oidc'>
  readonly is: (metadata: Metadata) => boolean
}[] = [
  // ClientRepresentation, from a realm's export or the admin API. Attributes are text, and unset ones are empty. Other products
  // have a `clientId` as well.
  {
    format: 'keycloak',
    is: (metadata) =>
      typeof metadata.clientId === 'string' &&
      (KEYCLOAK_ONLY.some((name) => Object.hasOwn(metadata, name)) ||
        (isObject(metadata.attributes) &&
          Object.keys(metadata.attributes).some((name) => name.includes('.')))),
  },
  // An application of the Apps API.
  {
    format: 'okta',
    is: ({ settings, credentials }) =>
      isObject(at(settings, 'oauthClient') ?? at(credentials, 'oauthClient')),
  },
  // A client of the Management API.
  {
    format: 'auth0',
    is: ({ oidc_logout, oidc_backchannel_logout, jwt_configuration }) =>
      isObject(oidc_logout ?? oidc_backchannel_logout ?? jwt_configuration),
  },
]

/** Reads a client's metadata. The channels ask the result for the members that they need. */
export function readClient(document: Metadata): ClientMetadata {
  const found = FORMATS.find(({ is }) => is(document))
  let spelled: ReturnType<typeof spellingsOf> | null = null
  const member = (paths: MemberPaths): KnownMember | null => {
    const own = found === undefined ? [] : (paths[found.format] ?? [])
    spelled ??= spellingsOf(document)
    const others = spelled.get(plainName(paths.oidc)) ?? []
    for (const path of [[paths.oidc], ...others, ...own, ...(paths.others ?? [])]) {
      const value = path.reduce<unknown>(at, document)
      // Products write an unset member as empty text. In the standard's format, empty text is a mistake that the channel reports.
      const unset = value === undefined || value === null || (value === '' && path[0] !== paths.oidc)
      if (!unset) return { value, pointer: pointerTo(path) }
    }
    return null
  }
  return {
    format: found?.format ?? 'oidc',
    document,
    clientId: member(CLIENT_ID),
    clientName: member(CLIENT_NAME),
    member,
  }
}

/** Whether a document describes an application that has no OAuth client, such as a SAML application of an Okta organization. */
export function isWithoutOAuth(document: unknown): boolean {
  return (
    isObject(document) && typeof document.signOnMode === 'string' && readClient(document).clientId === null
  )
}

/** Whether Keycloak has a client as disabled. The client may still hold sessions. */
export function isDisabledAtIdp(document: unknown): boolean {
  return isObject(document) && document.enabled === false && readClient(document).format === 'keycloak'
}

/** The `client_id` of the client in a document, or another name of the application. */
export function nameOfApplication(document: unknown): string {
  if (!isObject(document)) return NAMELESS
  const { clientId, clientName } = readClient(document)
  const texts = [clientId?.value, clientName?.value, document.label]
  return String(texts.find((text) => typeof text === 'string' && text !== '') ?? NAMELESS)
}

const NAMELESS = 'nameless'

/** The paths of members where the standard's may be, in any spelling, by their plain names. */
function spellingsOf(document: Metadata): ReadonlyMap<string, readonly Path[]> {
  const within = (node: unknown, path: Path): readonly Path[] =>
    isObject(node) ? Object.keys(node).map((key) => [...path, key]) : []
  const paths = [...within(document, []), ...NESTED.flatMap((name) => within(document[name], [name]))]
  return Map.groupBy(paths, (path) => plainName(String(path.at(-1))))
}

/** A name without case and separators. */
export function plainName(name: string): string {
  return name.toLowerCase().replace(/[._-]/g, '')
}

/** Endings of the names of secret members, in the spelling of all products. */
const SECRET_NAME =
  /(?:secrets?|secretrotated|secretexpiresat|registrationaccesstoken|(?:private|secret|master|access|api|sas)key|password|passphrase)$/
/** Private members of a JWK (RFC 7518 6). */
const JWK_PRIVATE = ['d', 'p', 'q', 'dp', 'dq', 'qi', 'oth', 'k']

/**
 * Removes the secrets between a client and its IdP, at any depth. Curfew does not need them, so it does not store them. Booleans
 * with such a name are no secrets.
 */
export function withoutSecrets<Value>(value: Value): Value
export function withoutSecrets(value: unknown): unknown {
  if (Array.isArray(value)) return value.map((item: unknown) => withoutSecrets(item))
  if (!isObject(value)) return value
  const isJwk = typeof value.kty === 'string'
  return Object.fromEntries(
    Object.entries(value)
      .filter(([name, member]) => {
        if (isJwk && JWK_PRIVATE.includes(name)) return false
        return typeof member === 'boolean' || !SECRET_NAME.test(plainName(name))
      })
      .map(([name, member]) => [name, withoutSecrets(member)]),
  )
}

function at(node: unknown, name: string | number): unknown {
  if (Array.isArray(node)) return typeof name === 'number' ? node[name] : undefined
  return isObject(node) && Object.hasOwn(node, name) ? node[name] : undefined
}

/** The JSON pointer of a path (RFC 6901). */
export function pointerTo(path: Path): string {
  return path.map((name) => `/${String(name).replaceAll('~', '~0').replaceAll('/', '~1')}`).join('')
}

function isObject(value: unknown): value is Metadata {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
