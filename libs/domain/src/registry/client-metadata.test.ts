import { describe, expect, test } from 'vitest'
import { type KnownMetadata, readClient, withoutSecrets } from './client-metadata.ts'

// Goal: a client is read as its IdP exports it, and what is secret stays with the IdP.
// Method: a client of each product with the members that its documentation has; a table of what is read out of it.

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

const UNSET: KnownMetadata = {
  format: 'oidc',
  clientId: null,
  clientName: null,
  logoutUri: null,
  furtherUris: [],
  sessionRequired: null,
  algorithm: null,
  encryption: null,
  contentEncryption: null,
  jwks: null,
  jwksUri: null,
}

describe('what is read', () => {
  test.each<[product: string, client: object, read: Partial<KnownMetadata>]>([
    [
      'Keycloak',
      KEYCLOAK,
      {
        format: 'keycloak',
        clientId: { value: 'shop', pointer: '/clientId' },
        clientName: { value: 'Web shop', pointer: '/name' },
        logoutUri: { value: URI, pointer: '/attributes/backchannel.logout.url' },
        sessionRequired: { value: true, pointer: '/attributes/backchannel.logout.session.required' },
        algorithm: { value: 'ES256', pointer: '/attributes/id.token.signed.response.alg' },
      },
    ],
    [
      'Ory',
      ORY,
      {
        clientId: { value: 'shop', pointer: '/client_id' },
        clientName: { value: 'Web shop', pointer: '/client_name' },
        logoutUri: { value: URI, pointer: '/backchannel_logout_uri' },
        sessionRequired: { value: true, pointer: '/backchannel_logout_session_required' },
        algorithm: { value: 'ES256', pointer: '/id_token_signed_response_alg' },
        jwks: { value: ORY.jwks, pointer: '/jwks' },
      },
    ],
    [
      'Keycloak, its tokens encrypted',
      {
        clientId: 'shop',
        attributes: {
          'id.token.encrypted.response.alg': 'RSA-OAEP',
          'id.token.encrypted.response.enc': 'A256GCM',
          'use.jwks.url': 'true',
          'jwks.url': 'https://shop.example/jwks',
        },
      },
      {
        format: 'keycloak',
        clientId: { value: 'shop', pointer: '/clientId' },
        encryption: { value: 'RSA-OAEP', pointer: '/attributes/id.token.encrypted.response.alg' },
        contentEncryption: { value: 'A256GCM', pointer: '/attributes/id.token.encrypted.response.enc' },
        jwksUri: { value: 'https://shop.example/jwks', pointer: '/attributes/jwks.url' },
      },
    ],
    [
      'Auth0',
      AUTH0,
      {
        format: 'auth0',
        clientId: { value: 'shop', pointer: '/client_id' },
        clientName: { value: 'Web shop', pointer: '/name' },
        logoutUri: { value: URI, pointer: '/oidc_logout/backchannel_logout_urls/0' },
        algorithm: { value: 'PS256', pointer: '/jwt_configuration/alg' },
      },
    ],
    [
      'Okta',
      OKTA,
      {
        format: 'okta',
        clientId: { value: 'shop', pointer: '/credentials/oauthClient/client_id' },
        clientName: { value: 'Web shop', pointer: '/label' },
      },
    ],
    [
      'Okta, with what Okta has no name for beside it',
      { ...OKTA, backchannel_logout_uri: URI },
      {
        format: 'okta',
        clientId: { value: 'shop', pointer: '/credentials/oauthClient/client_id' },
        clientName: { value: 'Web shop', pointer: '/label' },
        logoutUri: { value: URI, pointer: '/backchannel_logout_uri' },
      },
    ],
    [
      'Auth0 by the older name, with more URLs than one',
      { oidc_backchannel_logout: { backchannel_logout_urls: [URI, 'https://b.example'] } },
      {
        format: 'auth0',
        logoutUri: { value: URI, pointer: '/oidc_backchannel_logout/backchannel_logout_urls/0' },
        furtherUris: [
          { value: 'https://b.example', pointer: '/oidc_backchannel_logout/backchannel_logout_urls/1' },
        ],
      },
    ],
    ['nothing', {}, {}],
    ['nulls', { client_id: null, backchannel_logout_uri: null }, {}],
    [
      'an empty URI of the standard, which is a mistake',
      { backchannel_logout_uri: '' },
      { logoutUri: { value: '', pointer: '/backchannel_logout_uri' } },
    ],
    ['text where there should be objects', { settings: 'x', attributes: [1], oidc_logout: 7 }, {}],
  ])('of a client of %s', (_product, client, read) => {
    expect(readClient(client as Readonly<Record<string, unknown>>)).toEqual({ ...UNSET, ...read })
  })

  test("in the standard's words counts before a product's own", () => {
    const { logoutUri, sessionRequired } = readClient({
      ...KEYCLOAK,
      backchannel_logout_uri: 'https://new.example/logout',
      backchannel_logout_session_required: false,
    })
    expect(logoutUri).toEqual({ value: 'https://new.example/logout', pointer: '/backchannel_logout_uri' })
    expect(sessionRequired?.value).toBe(false)
  })
})

describe('what is secret', () => {
  test.each([
    ['Keycloak', KEYCLOAK, ['secret', 'registrationAccessToken', 'client.secret.rotated']],
    ['Ory', ORY, ['client_secret', 'client_secret_expires_at', 'registration_access_token', 'd']],
    ['Auth0', AUTH0, ['client_secret', 'private_key', 'storageAccessKey', 'masterkey']],
    ['Okta', OKTA, ['client_secret']],
  ])('is left out of a client of %s, and nothing else is', (_product, client, left) => {
    const kept = withoutSecrets(client)
    expect(JSON.stringify(kept)).not.toContain('hush')
    const withMembers = (value: unknown): unknown =>
      JSON.parse(JSON.stringify(value, (name, member) => (left.includes(name) ? undefined : member)))
    expect(kept).toEqual(withMembers(client))
  })

  test('are neither flags nor names that only speak of secrets', () => {
    const flags = {
      require_client_secret: true,
      token_endpoint_auth_method: 'client_secret_post',
      d: 'D',
      k: 1,
    }
    expect(withoutSecrets(flags)).toEqual(flags)
  })
})
