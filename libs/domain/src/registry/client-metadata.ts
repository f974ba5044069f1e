/** Whose words a client is written in. `oidc`: the standard's, which are Ory's too. */
export type ClientFormat = 'oidc' | 'keycloak' | 'auth0' | 'okta'

/** One member of a client's metadata that we use: what it says, and where (a JSON pointer). */
export interface KnownMember {
  readonly value: unknown
  readonly pointer: string
}

/** What we use of a client's metadata. Null where it says nothing. */
export interface KnownMetadata {
  readonly format: ClientFormat
  readonly clientId: KnownMember | null
  readonly clientName: KnownMember | null
  readonly logoutUri: KnownMember | null
  /** Further back-channel logout URIs, where the product has a list of them. */
  readonly furtherUris: readonly KnownMember[]
  /** As a boolean where it can be read as one. */
  readonly sessionRequired: KnownMember | null
  readonly algorithm: KnownMember | null
  /** How its ID tokens, and so logout tokens, are encrypted, and to whose key. */
  readonly encryption: KnownMember | null
  readonly contentEncryption: KnownMember | null
  readonly jwks: KnownMember | null
  readonly jwksUri: KnownMember | null
}

type Metadata = Readonly<Record<string, unknown>>
type Path = readonly (string | number)[]
type Known = Exclude<keyof KnownMetadata, 'format' | 'furtherUris'>

interface Format {
  readonly format: ClientFormat
  readonly is: (metadata: Metadata) => boolean
  /** Where each is, the first that says something counts. */
  readonly paths: Readonly<Record<Known, readonly Path[]>>
}

/** OpenID Connect Dynamic Client Registration 2, Back-Channel Logout 2.2: what Ory, and registration endpoints, write. */
const STANDARD: Format['paths'] = {
  clientId: [['client_id']],
  clientName: [['client_name']],
  logoutUri: [['backchannel_logout_uri']],
  sessionRequired: [['backchannel_logout_session_required']],
  algorithm: [['id_token_signed_response_alg']],
  encryption: [['id_token_encrypted_response_alg']],
  contentEncryption: [['id_token_encrypted_response_enc']],
  jwks: [['jwks']],
  jwksUri: [['jwks_uri']],
}

const FORMATS: readonly Format[] = [
  {
    // ClientRepresentation, of a realm's export or the admin API. Attributes are text, and empty where they are not set.
    format: 'keycloak',
    is: ({ clientId }) => typeof clientId === 'string',
    paths: {
      clientId: [['clientId']],
      clientName: [['name']],
      logoutUri: [['attributes', 'backchannel.logout.url']],
      sessionRequired: [['attributes', 'backchannel.logout.session.required']],
      algorithm: [['attributes', 'id.token.signed.response.alg']],
      encryption: [['attributes', 'id.token.encrypted.response.alg']],
      contentEncryption: [['attributes', 'id.token.encrypted.response.enc']],
      jwks: [],
      jwksUri: [['attributes', 'jwks.url']],
    },
  },
  {
    // An application of the Apps API. Back-channel logout has no name of Okta's own; registered metadata lies where its other
    // client metadata does.
    format: 'okta',
    is: ({ settings, credentials }) =>
      isObject(at(settings, 'oauthClient') ?? at(credentials, 'oauthClient')),
    paths: {
      clientId: [['credentials', 'oauthClient', 'client_id']],
      clientName: [['label']],
      logoutUri: [['settings', 'oauthClient', 'backchannel_logout_uri']],
      sessionRequired: [['settings', 'oauthClient', 'backchannel_logout_session_required']],
      algorithm: [['settings', 'oauthClient', 'id_token_signed_response_alg']],
      encryption: [['settings', 'oauthClient', 'id_token_encrypted_response_alg']],
      contentEncryption: [['settings', 'oauthClient', 'id_token_encrypted_response_enc']],
      jwks: [['settings', 'oauthClient', 'jwks']],
      jwksUri: [['settings', 'oauthClient', 'jwks_uri']],
    },
  },
  {
    // A client of the Management API.
    format: 'auth0',
    is: ({ oidc_logout, oidc_backchannel_logout, jwt_configuration }) =>
      isObject(oidc_logout ?? oidc_backchannel_logout ?? jwt_configuration),
    paths: {
      clientId: [],
      clientName: [['name']],
      logoutUri: [
        ['oidc_logout', 'backchannel_logout_urls', 0],
        ['oidc_backchannel_logout', 'backchannel_logout_urls', 0],
      ],
      sessionRequired: [],
      algorithm: [['jwt_configuration', 'alg']],
      encryption: [],
      contentEncryption: [],
      jwks: [],
      jwksUri: [],
    },
  },
]

/**
 * Reads what we use out of a client as its IdP has it: OIDC client metadata, or the export of a product that we know. What is
 * said in the standard's words counts before what a product says in its own.
 */
export function readClient(metadata: Metadata): KnownMetadata {
  const found = FORMATS.find(({ is }) => is(metadata))
  const member = (known: Known): KnownMember | null => {
    for (const path of [...STANDARD[known], ...(found?.paths[known] ?? [])]) {
      const value = path.reduce<unknown>(at, metadata)
      // Products write what is not set as empty; in the standard's own members it is a mistake, and told.
      const unset = value === undefined || value === null || (value === '' && path.length > 1)
      if (!unset) return { value, pointer: pointerTo(path) }
    }
    return null
  }
  const sessionRequired = member('sessionRequired')
  return {
    format: found?.format ?? 'oidc',
    clientId: member('clientId'),
    clientName: member('clientName'),
    logoutUri: member('logoutUri'),
    furtherUris: found?.format === 'auth0' ? furtherUris(metadata) : [],
    sessionRequired: sessionRequired && { ...sessionRequired, value: asBoolean(sessionRequired) },
    algorithm: member('algorithm'),
    encryption: member('encryption'),
    contentEncryption: member('contentEncryption'),
    jwks: member('jwks'),
    jwksUri: member('jwksUri'),
  }
}

function furtherUris(metadata: Metadata): readonly KnownMember[] {
  return ['oidc_logout', 'oidc_backchannel_logout'].flatMap((name) => {
    const urls = at(metadata[name], 'backchannel_logout_urls')
    return !Array.isArray(urls)
      ? []
      : urls.slice(1).map((value: unknown, index) => ({
          value,
          pointer: `/${name}/backchannel_logout_urls/${index + 1}`,
        }))
  })
}

/** Keycloak's attributes are text. The standard's member is not: there it stays what it is, and is refused. */
function asBoolean({ value, pointer }: KnownMember): unknown {
  if (!pointer.startsWith('/attributes/')) return value
  return value === 'true' ? true : value === 'false' ? false : value
}

/** Names that end so hold secrets, in all products' spelling. */
const SECRET_NAME =
  /(?:secret|secretrotated|secretexpiresat|registrationaccesstoken|(?:private|secret|master|access|api|sas)key|password|passphrase)$/
/** Private members of a JWK (RFC 7518 6). */
const JWK_PRIVATE = ['d', 'p', 'q', 'dp', 'dq', 'qi', 'oth', 'k']

/**
 * The metadata without what is secret between a client and its IdP, at any depth: we have no use for it, so it is not kept.
 * Booleans under such a name are no secrets.
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
        return typeof member === 'boolean' || !SECRET_NAME.test(name.toLowerCase().replace(/[._-]/g, ''))
      })
      .map(([name, member]) => [name, withoutSecrets(member)]),
  )
}

function at(node: unknown, name: string | number): unknown {
  if (Array.isArray(node)) return typeof name === 'number' ? node[name] : undefined
  return isObject(node) && Object.hasOwn(node, name) ? node[name] : undefined
}

function pointerTo(path: Path): string {
  return path.map((name) => `/${String(name).replaceAll('~', '~0').replaceAll('/', '~1')}`).join('')
}

function isObject(value: unknown): value is Metadata {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
