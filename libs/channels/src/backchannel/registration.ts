import {
  type ClientMetadata,
  CONTENT_ENCRYPTIONS,
  DEFAULT_CONTENT_ENCRYPTION,
  ENCRYPTION_ALGORITHMS,
  type KnownMember,
  MAIN_ENDPOINT,
  type MemberPaths,
  withoutSecrets,
} from '@curfew/domain'
import type { Fault, RegisterContext, Registered, RegisteredEndpoint } from '../channel.ts'
import { signingAlgorithmOf } from '../signing-algorithm.ts'
import type { BackchannelSettings, StoredEncryption } from './settings.ts'

/** Where a client says it: OpenID Connect Dynamic Client Registration 2, Back-Channel Logout 2.2, and products' exports. */
const MEMBERS = {
  logoutUri: {
    oidc: 'backchannel_logout_uri',
    keycloak: [['attributes', 'backchannel.logout.url']],
    auth0: [
      ['oidc_logout', 'backchannel_logout_urls', 0],
      ['oidc_backchannel_logout', 'backchannel_logout_urls', 0],
    ],
    // It has no name of Okta's own; registered metadata lies where its other client metadata does.
    okta: [['settings', 'oauthClient', 'backchannel_logout_uri']],
  },
  sessionRequired: {
    oidc: 'backchannel_logout_session_required',
    keycloak: [['attributes', 'backchannel.logout.session.required']],
    okta: [['settings', 'oauthClient', 'backchannel_logout_session_required']],
  },
  encryption: {
    oidc: 'id_token_encrypted_response_alg',
    keycloak: [['attributes', 'id.token.encrypted.response.alg']],
    okta: [['settings', 'oauthClient', 'id_token_encrypted_response_alg']],
  },
  contentEncryption: {
    oidc: 'id_token_encrypted_response_enc',
    keycloak: [['attributes', 'id.token.encrypted.response.enc']],
    okta: [['settings', 'oauthClient', 'id_token_encrypted_response_enc']],
  },
  jwks: { oidc: 'jwks', okta: [['settings', 'oauthClient', 'jwks']] },
  jwksUri: {
    oidc: 'jwks_uri',
    keycloak: [['attributes', 'jwks.url']],
    okta: [['settings', 'oauthClient', 'jwks_uri']],
  },
} satisfies Readonly<Record<string, MemberPaths>>

type At = RegisterContext<object>

/** Reads the back-channel's part of a registration: the client's metadata, `curfew.subject_claims` and `curfew.endpoints`. */
export function readRegistration(client: ClientMetadata, at: At): Registered<BackchannelSettings> {
  const endpoints = endpointsOf(client, at)
  const { algorithm, pointer, fault } = signingAlgorithmOf(client)
  const sessionRequired = sessionRequiredOf(client)
  const encryption = encryptionOf(client, at)
  const uri = client.member(MEMBERS.logoutUri)
  // A client without an endpoint may have registered anything: an IdP's export is full of such clients.
  const ofTokens =
    endpoints.length === 0
      ? []
      : [
          ...(fault === null ? [] : [fault]),
          ...sessionFaults(sessionRequired, at),
          ...(encryption !== null && 'pointer' in encryption ? [encryption] : []),
        ]
  return {
    endpoints,
    settings: {
      subject_claims: at.settings.subject_claims ?? 'both',
      session_required: sessionRequired?.value === true,
      algorithm,
      encryption: encryption === null || 'pointer' in encryption ? null : withoutSecrets(encryption),
    },
    signs: { algorithm, pointer },
    showsSecret: false,
    faults: [
      ...(uri !== null && !isText(uri.value) ? [{ pointer: uri.pointer, detail: 'must be a URI' }] : []),
      ...furtherUriFaults(client),
      ...nameFaults(at),
      ...ofTokens,
    ],
  }
}

function endpointsOf(client: ClientMetadata, { settings }: At): readonly RegisteredEndpoint[] {
  const main = client.member(MEMBERS.logoutUri)
  const further = (settings.endpoints ?? []).map(({ name, uri, enabled = true }, index) => ({
    ...{ name, uri, enabled },
    pointer: `/curfew/endpoints/${index}/uri`,
  }))
  if (main === null || !isText(main.value)) return further
  return [{ name: MAIN_ENDPOINT, uri: main.value, enabled: true, pointer: main.pointer }, ...further]
}

function nameFaults({ settings: { endpoints = [] } }: At): readonly Fault[] {
  return endpoints.flatMap(({ name }, index) => {
    const pointer = `/curfew/endpoints/${index}/name`
    if (name === MAIN_ENDPOINT)
      return [{ pointer, detail: `must not be ${MAIN_ENDPOINT}: that is backchannel_logout_uri` }]
    const again = endpoints.findIndex((other) => other.name === name) < index
    return again ? [{ pointer, detail: 'must not be there twice' }] : []
  })
}

/** Auth0 has a list of URIs. Those beyond the first need names. */
function furtherUriFaults(client: ClientMetadata): readonly Fault[] {
  if (client.format !== 'auth0') return []
  return ['oidc_logout', 'oidc_backchannel_logout'].flatMap((name) => {
    const logout = client.document[name]
    const urls = isObject(logout) ? logout.backchannel_logout_urls : undefined
    if (!Array.isArray(urls)) return []
    return urls.slice(1).map((_, index) => ({
      pointer: `/${name}/backchannel_logout_urls/${index + 1}`,
      detail: 'must be left out: register what is beyond the first as curfew.endpoints, each with a name',
    }))
  })
}

/** Keycloak's attributes are text. The standard's member is not: there a text stays what it is, and is refused. */
function sessionRequiredOf(client: ClientMetadata): KnownMember | null {
  const said = client.member(MEMBERS.sessionRequired)
  if (said === null || !said.pointer.startsWith('/attributes/')) return said
  const { value, pointer } = said
  return { pointer, value: value === 'true' ? true : value === 'false' ? false : value }
}

function sessionFaults(required: KnownMember | null, { issuer, said }: At): readonly Fault[] {
  if (required === null) return []
  const { pointer, value } = required
  const faults: Fault[] = []
  if (typeof value !== 'boolean') faults.push({ pointer, detail: 'must be true or false' })
  if (value === true && !issuer.sidSupported) {
    faults.push({
      pointer,
      detail: `must be false: sessions of ${issuer.name} have no sid (sid_supported is false)`,
    })
  }
  if (value === true && said.subject_claims === 'sub') {
    faults.push({
      pointer: '/curfew/subject_claims',
      detail: `must be sid or both, for the client requires the session (${pointer.slice(1)})`,
    })
  }
  return faults
}

/** How a client wants its ID tokens, and so logout tokens, encrypted (null: not at all); or what is wrong with that. */
function encryptionOf(
  client: ClientMetadata,
  { hasEncryptionKey, targetFault }: At,
): StoredEncryption | Fault | null {
  const encryption = client.member(MEMBERS.encryption)
  const content = client.member(MEMBERS.contentEncryption)
  if (encryption === null) {
    if (content === null) return null
    return {
      pointer: content.pointer,
      detail: 'must come with the algorithm that the key is for, or be left out',
    }
  }
  const alg = ENCRYPTION_ALGORITHMS.find((each) => each === encryption.value)
  if (alg === undefined) {
    const detail = `must be one of ${ENCRYPTION_ALGORITHMS.join(', ')}: logout tokens are encrypted like ID tokens`
    return { pointer: encryption.pointer, detail }
  }
  const enc =
    content === null ? DEFAULT_CONTENT_ENCRYPTION : CONTENT_ENCRYPTIONS.find((each) => each === content.value)
  if (enc === undefined) {
    return { pointer: content?.pointer ?? '', detail: `must be one of ${CONTENT_ENCRYPTIONS.join(', ')}` }
  }
  const jwks = client.member(MEMBERS.jwks)
  if (jwks !== null) {
    if (hasEncryptionKey(jwks.value, alg)) return { alg, enc, jwks: jwks.value }
    return {
      pointer: jwks.pointer,
      detail: `must have a public key that ${alg} can encrypt to, its use enc or left out`,
    }
  }
  const { value: uri, pointer } = client.member(MEMBERS.jwksUri) ?? { value: null, pointer: '/jwks_uri' }
  if (!isText(uri)) {
    return { pointer, detail: 'is required, or jwks is: tokens are encrypted to a key of the relying party' }
  }
  const detail = targetFault(uri)
  return detail === null ? { alg, enc, jwks_uri: uri } : { pointer, detail }
}

function isText(value: unknown): value is string {
  return typeof value === 'string'
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null
}
