import { describe, expect, test } from 'vitest'
import { isWithoutOAuth, readClient, withoutSecrets } from './client-metadata.ts'

// Goal: Curfew reads a client as its IdP exports it, and does not keep its secrets.
// Method: a client of every product with the documented members, and a table of the values read from it.

const URI = 'https://shop.example/backchannel-logout'

/** A ClientRepresentation of a realm's export. */
const KEYCLOAK = {
  id: '2f1e0f0c-8f1a-4a5e-9c4b-0d6b7b3b7a11',
  clientId: 'shop',
  name: 'Web shop',
  surrogateAuthRequired: false,
  enabled: true,
  clientAuthenticatorType: 'client-secret',
  secret: 'keycloak-hush',
  registrationAccessToken: 'token-hush',
  redirectUris: ['https://shop.example/*'],
  webOrigins: ['+'],
  publicClient: false,
  protocol: 'openid-connect',
  attributes: {
    'backchannel.logout.url': URI,
    'backchannel.logout.session.required': 'true',
    'backchannel.logout.revoke.offline.tokens': 'false',
    'frontchannel.logout.url': '',
    'id.token.signed.response.alg': 'ES256',
    'id.token.encrypted.response.alg': '',
    'client.secret.creation.time': '1700000000',
    'client.secret.rotated': 'old-hush',
    'post.logout.redirect.uris': 'https://shop.example/*',
  },
  fullScopeAllowed: true,
  protocolMappers: [
    { name: 'audience', protocolMapper: 'oidc-audience-mapper', config: { 'id.token.claim': 'true' } },
  ],
  defaultClientScopes: ['web-origins', 'profile'],
}

/** An OAuth 2.0 client of Ory Hydra. */
const ORY = {
  client_id: 'shop',
  client_name: 'Web shop',
  client_secret: 'ory-hush',
  client_secret_expires_at: 0,
  redirect_uris: ['https://shop.example/cb'],
  grant_types: ['authorization_code'],
  scope: 'openid offline',
  contacts: null,
  subject_type: 'public',
  jwks: { keys: [{ kty: 'EC', crv: 'P-256', x: 'x', y: 'y', d: 'jwk-hush' }] },
  token_endpoint_auth_method: 'client_secret_basic',
  userinfo_signed_response_alg: 'none',
  backchannel_logout_uri: URI,
  backchannel_logout_session_required: true,
  id_token_signed_response_alg: 'ES256',
  registration_access_token: 'token-hush',
  registration_client_uri: 'https://hydra.example/oauth2/register/shop',
  metadata: {},
  skip_consent: false,
}

/** A client of Auth0's Management API. */
const AUTH0 = {
  client_id: 'shop',
  tenant: 'acme',
  name: 'Web shop',
  app_type: 'regular_web',
  client_secret: 'auth0-hush',
  callbacks: ['https://shop.example/cb'],
  oidc_logout: {
    backchannel_logout_urls: [URI],
    backchannel_logout_initiators: { mode: 'custom', selected_initiators: ['rp-logout', 'idp-logout'] },
  },
  jwt_configuration: { lifetime_in_seconds: 36_000, secret_encoded: false, alg: 'PS256' },
  signing_keys: [
    { cert: '-----BEGIN CERTIFICATE-----', pkcs7: '-----BEGIN PKCS7-----', subject: '/CN=acme' },
  ],
  addons: {
    firebase: { private_key: 'addon-hush', private_key_id: 'k1', client_email: 'a@b.example' },
    azure_blob: { accountName: 'acme', storageAccessKey: 'storage-hush', blob_read: true },
    wams: { masterkey: 'master-hush' },
  },
  is_first_party: true,
  oidc_conformant: true,
}

/** An OpenID Connect application of Okta's Apps API. */
const OKTA = {
  id: '0oa1',
  name: 'oidc_client',
  label: 'Web shop',
  status: 'ACTIVE',
  signOnMode: 'OPENID_CONNECT',
  credentials: {
    oauthClient: {
      client_id: 'shop',
      client_secret: 'okta-hush',
      token_endpoint_auth_method: 'client_secret_basic',
      autoKeyRotation: true,
    },
  },
  settings: {
    oauthClient: {
      client_uri: null,
      redirect_uris: ['https://shop.example/cb'],
      application_type: 'web',
      issuer_mode: 'ORG_URL',
      participate_slo: true,
      frontchannel_logout_uri: 'https://shop.example/front',
      frontchannel_logout_session_required: true,
    },
  },
  _links: { self: { href: 'https://acme.okta.com/api/v1/apps/0oa1' } },
}

describe('readClient', () => {
  test.each([
    ['Keycloak', KEYCLOAK, 'keycloak', '/clientId', '/name'],
    ['Ory', ORY, 'oidc', '/client_id', '/client_name'],
    ['Auth0', AUTH0, 'auth0', '/client_id', '/name'],
    ['Okta', OKTA, 'okta', '/credentials/oauthClient/client_id', '/label'],
  ])('reads a client of %s', (_product, document, format, clientId, clientName) => {
    expect(readClient(document)).toMatchObject({
      ...{ format, document },
      clientId: { value: 'shop', pointer: clientId },
      clientName: { value: 'Web shop', pointer: clientName },
    })
  })

  test.each([
    ['an empty document', {}],
    ['null members', { client_id: null }],
    ['members of the wrong type', { settings: 'x', attributes: [1], oidc_logout: 7 }],
  ])('finds nothing in %s', (_, document) => {
    expect(readClient(document)).toMatchObject({ format: 'oidc', clientId: null, clientName: null })
  })

  const paths = { oidc: 'uri', keycloak: [['attributes', 'uri']] }
  test.each([
    ["prefers the standard's member to a product's own", { uri: 'a', attributes: { uri: 'b' } }, '/uri'],
    ["treats a product's empty member as unset", { attributes: { uri: '' } }, undefined],
    ["reports an empty member in the standard's format", { uri: '' }, '/uri'],
    ['returns the JSON pointer of a nested member', { attributes: { uri: 'b' } }, '/attributes/uri'],
  ])('%s', (_, document, pointer) => {
    expect(
      readClient({ clientId: 'shop', protocol: 'openid-connect', ...document }).member(paths)?.pointer,
    ).toBe(pointer)
  })
})

describe('readClient, of metadata with names of the standard in another spelling', () => {
  test.each<[string, object, string]>([
    ['camelCase', { clientId: 'shop', backchannelLogoutUri: URI }, '/backchannelLogoutUri'],
    ['PascalCase', { ClientId: 'shop', BackChannelLogoutUri: URI }, '/BackChannelLogoutUri'],
    [
      'an object of a product',
      { id: '1', name: 'Shop', oidcConfig: { clientId: 'shop', backChannelLogoutUri: URI } },
      '/oidcConfig/backChannelLogoutUri',
    ],
    [
      'attributes that are not those of Keycloak',
      { clientId: 'shop', backchannelLogoutUri: URI, attributes: { tier: 'gold' } },
      '/backchannelLogoutUri',
    ],
  ])('finds the members in %s', (_, document, pointer) => {
    const client = readClient(document as Readonly<Record<string, unknown>>)
    expect([client.format, client.clientId?.value]).toEqual(['oidc', 'shop'])
    expect(client.member({ oidc: 'backchannel_logout_uri' })).toEqual({ value: URI, pointer })
  })

  test("prefers the standard's own spelling, and treats empty text in another one as unset", () => {
    const paths = { oidc: 'backchannel_logout_uri' }
    const both = readClient({ backchannelLogoutUri: 'https://b.example', backchannel_logout_uri: URI })
    expect(both.member(paths)?.value).toBe(URI)
    expect(readClient({ BackChannelLogoutUri: '' }).member(paths)).toBeNull()
  })
})

test('an application of Okta without an OAuth client is recognised', () => {
  const app = { label: 'App', signOnMode: 'SAML_2_0' }
  expect(isWithoutOAuth(app)).toBe(true)
  expect(isWithoutOAuth({ ...app, credentials: { oauthClient: { client_id: 'a' } } })).toBe(false)
  expect(isWithoutOAuth({ client_name: 'nameless' })).toBe(false)
})

describe('withoutSecrets', () => {
  test.each([
    ['Keycloak', KEYCLOAK, ['secret', 'registrationAccessToken', 'client.secret.rotated']],
    ['Ory', ORY, ['client_secret', 'client_secret_expires_at', 'registration_access_token', 'd']],
    ['Auth0', AUTH0, ['client_secret', 'private_key', 'storageAccessKey', 'masterkey']],
    ['Okta', OKTA, ['client_secret']],
  ])('removes only the secrets of a client of %s', (_product, client, left) => {
    const kept = withoutSecrets(client)
    expect(JSON.stringify(kept)).not.toContain('hush')
    const withMembers = (value: unknown): unknown =>
      JSON.parse(JSON.stringify(value, (name, member) => (left.includes(name) ? undefined : member)))
    expect(kept).toEqual(withMembers(client))
  })

  test("removes the list of a client's secrets", () => {
    const kept = withoutSecrets({
      ClientId: 'shop',
      ClientSecrets: [{ Value: 'hash', Type: 'SharedSecret' }],
    })
    expect(kept).toEqual({ ClientId: 'shop' })
  })

  test('keeps flags and members that only mention secrets', () => {
    const flags = {
      require_client_secret: true,
      token_endpoint_auth_method: 'client_secret_post',
      d: 'D',
      k: 1,
    }
    expect(withoutSecrets(flags)).toEqual(flags)
  })
})
