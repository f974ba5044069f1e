import {
  type ClientMetadata,
  CONTENT_ENCRYPTIONS,
  DEFAULT_CONTENT_ENCRYPTION,
  ENCRYPTION_ALGORITHMS,
  encryptionFault,
  type KnownMember,
  MAIN_ENDPOINT,
  type MemberPaths,
  withoutSecrets,
} from '@curfew/domain'
import type { Fault, RegisterContext, Registered, RegisteredEndpoint } from '../channel.ts'
import { signingAlgorithmOf } from '../signing-algorithm.ts'
import { alreadyEndedFaults } from './already-ended.ts'
import { type ResolvedUri, resolveLogoutUri } from './logout-uri.ts'
import type { BackchannelSettings, StoredEncryption } from './settings.ts'
import { LOGOUT_TOKEN_TYPE } from './token.ts'

/**
 * The members of client metadata that the channel reads: those of OpenID Connect Dynamic Client Registration section 2 and
 * Back-Channel Logout section 2.2, and those of products' exports.
 */
export const MEMBERS = {
  logoutUri: {
    oidc: 'backchannel_logout_uri',
    keycloak: [['attributes', 'backchannel.logout.url']],
    auth0: [
      ['oidc_logout', 'backchannel_logout_urls', 0],
      ['oidc_backchannel_logout', 'backchannel_logout_urls', 0],
    ],
    // Okta has no name of its own for it. Its other client metadata is in this object.
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
  // The text of a key set that an administrator pasted.
  jwks: {
    oidc: 'jwks',
    keycloak: [['attributes', 'jwks.string']],
    okta: [['settings', 'oauthClient', 'jwks']],
  },
  jwksUri: {
    oidc: 'jwks_uri',
    keycloak: [['attributes', 'jwks.url']],
    okta: [['settings', 'oauthClient', 'jwks_uri']],
  },
} satisfies Readonly<Record<string, MemberPaths>>

type At = RegisterContext<object>

/** Reads the channel's part of a registration: the client's metadata, and its members of `curfew`. */
export function readRegistration(client: ClientMetadata, at: At): Registered<BackchannelSettings> {
  const main = mainOf(client, at)
  const endpoints = endpointsOf(main, at)
  const { algorithm, pointer, fault } = signingAlgorithmOf(client)
  const sessionRequired = sessionRequiredOf(client)
  const encryption = encryptionOf(client, at)
  const { already_ended_errors: alreadyEnded = [] } = at.registered
  // Without an endpoint, invalid members do no harm. Exports of IdPs have many such clients.
  const tokenFaults =
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
      token_type: at.settings.token_type ?? LOGOUT_TOKEN_TYPE,
      already_ended_errors: alreadyEnded,
    },
    signs: { algorithm, pointer },
    sendsSecret: false,
    faults: [
      ...(main !== null && 'fault' in main ? [{ pointer: main.pointer, detail: main.fault }] : []),
      ...furtherUriFaults(client),
      ...nameFaults(at),
      ...alreadyEndedFaults(alreadyEnded),
      ...tokenFaults,
    ],
  }
}

/** The main endpoint of a client, or the fault of its URL; null if there is none. */
function mainOf(client: ClientMetadata, { issuer }: At): (ResolvedUri & { readonly pointer: string }) | null {
  const member = client.member(MEMBERS.logoutUri)
  if (member === null) return null
  const { pointer, value } = member
  return isText(value)
    ? { pointer, ...resolveLogoutUri(value, client, issuer.iss) }
    : { pointer, fault: 'must be a URI' }
}

function endpointsOf(main: ReturnType<typeof mainOf>, { settings }: At): readonly RegisteredEndpoint[] {
  const further = (settings.endpoints ?? []).map(({ name, uri, enabled = true }, index) => ({
    ...{ name, uri, enabled },
    pointer: `/curfew/endpoints/${index}/uri`,
  }))
  if (main === null || 'fault' in main) return further
  return [{ name: MAIN_ENDPOINT, uri: main.uri, enabled: true, pointer: main.pointer }, ...further]
}

function nameFaults({ settings: { endpoints = [] } }: At): readonly Fault[] {
  return endpoints.flatMap(({ name }, index) => {
    const pointer = `/curfew/endpoints/${index}/name`
    if (name === MAIN_ENDPOINT)
      return [{ pointer, detail: `must not be ${MAIN_ENDPOINT}: this is the name of backchannel_logout_uri` }]
    const repeated = endpoints.findIndex((other) => other.name === name) < index
    return repeated ? [{ pointer, detail: 'must differ from the names of the other endpoints' }] : []
  })
}

/**
 * The faults of further URIs at Auth0, whose list has URIs without names. Auth0 itself takes only one so far. Curfew needs a name
 * for each further endpoint, which stays when the list changes.
 */
function furtherUriFaults(client: ClientMetadata): readonly Fault[] {
  if (client.format !== 'auth0') return []
  return ['oidc_logout', 'oidc_backchannel_logout'].flatMap((name) => {
    const logout = client.document[name]
    const urls = isObject(logout) ? logout.backchannel_logout_urls : undefined
    if (!Array.isArray(urls)) return []
    return urls.slice(1).map((_, index) => ({
      pointer: `/${name}/backchannel_logout_urls/${index + 1}`,
      detail:
        'must be absent, because each further URL needs a name. Move the URL to the member curfew of the client: "curfew": { "endpoints": [{ "name": "second", "uri": "…" }] }',
    }))
  })
}

/** Reads the boolean from Keycloak's attributes, which are texts. In the standard's member a text is a fault. */
function sessionRequiredOf(client: ClientMetadata): KnownMember | null {
  const member = client.member(MEMBERS.sessionRequired)
  if (member === null || !member.pointer.startsWith('/attributes/')) return member
  const { value, pointer } = member
  return { pointer, value: value === 'true' ? true : value === 'false' ? false : value }
}

function sessionFaults(required: KnownMember | null, { issuer, registered }: At): readonly Fault[] {
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
  if (value === true && registered.subject_claims === 'sub') {
    faults.push({
      pointer: '/curfew/subject_claims',
      detail: `must be sid or both, because the client requires the sid (${pointer.slice(1)})`,
    })
  }
  return faults
}

/**
 * The encryption of a client's ID tokens, which logout tokens share.
 *
 * @returns null if they are not encrypted, or a fault of the registration.
 */
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
      detail: 'must come with id_token_encrypted_response_alg, or be absent',
    }
  }
  const alg = ENCRYPTION_ALGORITHMS.find((name) => name === encryption.value)
  if (alg === undefined)
    return { pointer: encryption.pointer, detail: encryptionFault(encryption.value) ?? '' }
  const enc =
    content === null ? DEFAULT_CONTENT_ENCRYPTION : CONTENT_ENCRYPTIONS.find((name) => name === content.value)
  if (enc === undefined) {
    return { pointer: content?.pointer ?? '', detail: `must be one of ${CONTENT_ENCRYPTIONS.join(', ')}` }
  }
  const jwks = client.member(MEMBERS.jwks)
  if (jwks !== null && !isUnusedText(jwks, client)) {
    const keys = isText(jwks.value) ? parsed(jwks.value) : jwks.value
    if (hasEncryptionKey(keys, alg)) return { alg, enc, jwks: keys }
    return {
      pointer: jwks.pointer,
      detail: `must have a public key for ${alg}, with use enc or without use`,
    }
  }
  const { value: uri, pointer } = client.member(MEMBERS.jwksUri) ?? { value: null, pointer: '/jwks_uri' }
  if (!isText(uri)) {
    return {
      pointer,
      detail: 'is required unless there is a jwks: tokens are encrypted to a key of the relying party',
    }
  }
  const detail = targetFault(uri)
  return detail === null ? { alg, enc, jwks_uri: uri } : { pointer, detail }
}

/** Whether Keycloak has a text with keys that it does not use, because the client has a `jwks.url`. */
function isUnusedText({ value }: KnownMember, { document: { attributes } }: ClientMetadata): boolean {
  return isText(value) && isObject(attributes) && attributes['use.jwks.string'] !== 'true'
}

/** A JSON text, parsed; null if it is not one. */
function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return null
  }
}

function isText(value: unknown): value is string {
  return typeof value === 'string'
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null
}
