import { readClient } from '@curfew/domain'
import { describe, expect, test } from 'vitest'
import type { RegisterContext } from '../channel.ts'
import { readRegistration } from './registration.ts'

// Goal: back-channel settings are read from the client formats of all supported products.
// Method: clients with the members in each product's documentation. Fakes judge addresses and keys.

const ISSUER = {
  name: 'main',
  iss: 'https://idp.example/realms/main',
  sidSupported: true,
  sessionIndex: 'partial' as const,
  maxTokenTtlS: 3_600,
}
const URI = 'https://shop.example/backchannel-logout'
const UNSET = {
  ...{ subject_claims: 'both', session_required: false, algorithm: 'RS256', encryption: null },
  ...{ token_type: 'logout+jwt', already_ended_errors: [] },
}

function read(client: object, over: Partial<RegisterContext<object>> = {}) {
  return readRegistration(readClient(client as Readonly<Record<string, unknown>>), {
    ...{ issuer: ISSUER, registered: {}, settings: {}, own: {} },
    ...{ targetFault: () => null, hasEncryptionKey: () => true },
    ...over,
  })
}

const keycloak = (attributes: object) => ({ clientId: 'shop', attributes })

describe('reading the logout URL of a Keycloak client', () => {
  const uriOf = (url: string, more: object = {}) => {
    const { endpoints, faults } = read({ ...keycloak({ 'backchannel.logout.url': url }), ...more })
    return [endpoints[0]?.uri ?? null, faults.map(({ detail }) => detail)]
  }
  const rootUrl = 'https://shop.example/app'
  const filled = (name: string) => `$${'{'}${name}}`

  test.each<[string, string, object, string]>([
    ['puts the rootUrl before a relative URL', '/out', { rootUrl }, `${rootUrl}/out`],
    ['ignores the rootUrl of a whole URL', URI, { rootUrl }, URI],
    [
      'puts the address of Keycloak in place of its placeholder',
      '/out',
      { rootUrl: filled('authBaseUrl') },
      'https://idp.example/out',
    ],
    ['follows the host of Keycloak without a rootUrl', '/out', {}, 'https://idp.example/out'],
  ])('%s', (_, url, more, uri) => {
    expect(uriOf(url, more)).toEqual([uri, []])
  })

  test.each<[string, string, object]>([
    [filled('application.session.host'), `https://${filled('application.session.host')}/out`, {}],
    [filled('SHOP_URL'), '/out', { rootUrl: filled('SHOP_URL') }],
    ['$(env:SHOP)', 'https://$(env:SHOP)/out', {}],
    [filled('authAdminUrl'), '/out', { rootUrl: filled('authAdminUrl') }],
  ])('names the placeholder %s, which Curfew cannot fill in', (name, url, more) => {
    expect(uriOf(url, more)).toEqual([null, [expect.stringContaining(name)]])
  })
})

describe('reading a client', () => {
  test.each<[product: string, client: object, pointer: string, settings: object]>([
    [
      'Keycloak',
      keycloak({
        'backchannel.logout.url': URI,
        'backchannel.logout.session.required': 'true',
        'id.token.signed.response.alg': 'ES256',
        'id.token.encrypted.response.alg': '',
      }),
      '/attributes/backchannel.logout.url',
      { session_required: true, algorithm: 'ES256' },
    ],
    [
      'Ory',
      {
        backchannel_logout_uri: URI,
        backchannel_logout_session_required: true,
        id_token_signed_response_alg: 'ES256',
      },
      '/backchannel_logout_uri',
      { session_required: true, algorithm: 'ES256' },
    ],
    [
      'Keycloak with encrypted tokens',
      keycloak({
        'backchannel.logout.url': URI,
        'id.token.encrypted.response.alg': 'RSA-OAEP',
        'id.token.encrypted.response.enc': 'A256GCM',
        'jwks.url': 'https://shop.example/jwks',
      }),
      '/attributes/backchannel.logout.url',
      { encryption: { alg: 'RSA-OAEP', enc: 'A256GCM', jwks_uri: 'https://shop.example/jwks' } },
    ],
    [
      'Keycloak with encrypted tokens and a pasted key set',
      keycloak({
        'backchannel.logout.url': URI,
        'id.token.encrypted.response.alg': 'RSA-OAEP',
        'use.jwks.string': 'true',
        'jwks.string': '{"keys":[{"kty":"RSA"}]}',
      }),
      '/attributes/backchannel.logout.url',
      { encryption: { alg: 'RSA-OAEP', enc: 'A128CBC-HS256', jwks: { keys: [{ kty: 'RSA' }] } } },
    ],
    [
      'Keycloak with a pasted key set that it does not use any more',
      keycloak({
        'backchannel.logout.url': URI,
        'id.token.encrypted.response.alg': 'RSA-OAEP',
        'jwks.string': '{"keys":[]}',
        'jwks.url': 'https://shop.example/jwks',
      }),
      '/attributes/backchannel.logout.url',
      { encryption: { alg: 'RSA-OAEP', enc: 'A128CBC-HS256', jwks_uri: 'https://shop.example/jwks' } },
    ],
    [
      'Duende IdentityServer',
      { ClientId: 'shop', BackChannelLogoutUri: URI, AllowedIdentityTokenSigningAlgorithms: ['ES256'] },
      '/BackChannelLogoutUri',
      { algorithm: 'ES256' },
    ],
    [
      'Spring Authorization Server',
      {
        clientId: 'shop',
        backchannelLogoutUri: URI,
        tokenSettings: { 'settings.token.id-token-signature-algorithm': ['SignatureAlgorithm', 'ES256'] },
      },
      '/backchannelLogoutUri',
      { algorithm: 'ES256' },
    ],
    [
      'Auth0',
      { oidc_logout: { backchannel_logout_urls: [URI] }, jwt_configuration: { alg: 'PS256' } },
      '/oidc_logout/backchannel_logout_urls/0',
      { algorithm: 'PS256' },
    ],
    [
      'Auth0 with the older name',
      { oidc_backchannel_logout: { backchannel_logout_urls: [URI] } },
      '/oidc_backchannel_logout/backchannel_logout_urls/0',
      {},
    ],
    [
      'Okta',
      { settings: { oauthClient: { backchannel_logout_uri: URI, id_token_signed_response_alg: 'ES384' } } },
      '/settings/oauthClient/backchannel_logout_uri',
      { algorithm: 'ES384' },
    ],
    [
      "a product with the standard's member beside its own",
      { ...keycloak({ 'backchannel.logout.url': 'https://old.example/' }), backchannel_logout_uri: URI },
      '/backchannel_logout_uri',
      {},
    ],
  ])('gives the endpoint and settings of a client of %s', (_product, client, pointer, settings) => {
    const { endpoints, faults, ...registered } = read(client)
    expect(faults).toEqual([])
    expect(endpoints).toEqual([{ name: 'main', uri: URI, enabled: true, pointer }])
    expect(registered.settings).toEqual({ ...UNSET, ...settings })
  })

  test('a client without an endpoint has no faults, even if its other members are invalid', () => {
    const { endpoints, faults } = read({
      id_token_signed_response_alg: 'HS256',
      id_token_encrypted_response_alg: 'RSA1_5',
    })
    expect([endpoints, faults]).toEqual([[], []])
  })

  test('an effective setting from the issuer is used if the client has none', () => {
    const settings = { subject_claims: 'sub' as const, token_type: 'JWT' as const }
    expect(read({ backchannel_logout_uri: URI }, { settings }).settings).toMatchObject(settings)
  })
})

describe('errors that mean that the session is already over', () => {
  const read_ = (...already_ended_errors: string[]) => read({}, { registered: { already_ended_errors } })

  test('are settings of the endpoint, in the spelling of the relying party', () => {
    const { settings, faults } = read_('invalid SID, SUB or ISS', 'unknown_session')
    expect(faults).toEqual([])
    expect(settings.already_ended_errors).toEqual(['invalid SID, SUB or ISS', 'unknown_session'])
  })

  test.each([
    ...['invalid_request', 'Invalid_Token', 'partial_logout', 'logout_failed', 'application_error'],
    ...[
      'Invalid token',
      'InvalidToken',
      'invalid-token',
      ' invalid_request ',
      'Token expired',
      'invalid_jwt',
    ],
  ])('%s is a fault, because it would hide refused tokens or failed logouts', (error) => {
    expect(read_('unknown_session', error).faults).toEqual([
      { pointer: '/curfew/already_ended_errors/1', detail: expect.stringContaining(`not be ${error}`) },
    ])
  })
})

describe('faults', () => {
  const URLS = [URI, 'https://b.example']
  const withEndpoint = (client: object) => ({ backchannel_logout_uri: URI, ...client })
  test.each<[title: string, client: object, pointer: string, over?: Partial<RegisterContext<object>>]>([
    ['a URI that is not a text is a fault', { backchannel_logout_uri: 7 }, '/backchannel_logout_uri'],
    [
      'a second URL of Auth0 is a fault',
      { oidc_logout: { backchannel_logout_urls: URLS } },
      '/oidc_logout/backchannel_logout_urls/1',
    ],
    [
      'an unsupported algorithm is a fault',
      withEndpoint({ id_token_signed_response_alg: 'HS256' }),
      '/id_token_signed_response_alg',
    ],
    [
      'a text in place of a boolean is a fault',
      withEndpoint({ backchannel_logout_session_required: 'true' }),
      '/backchannel_logout_session_required',
    ],
    [
      'a required sid is a fault if the issuer has none',
      withEndpoint({ backchannel_logout_session_required: true }),
      '/backchannel_logout_session_required',
      { issuer: { ...ISSUER, sidSupported: false, maxTokenTtlS: 3_600 } },
    ],
    [
      'a required sid is a fault if tokens have only the sub',
      withEndpoint({ backchannel_logout_session_required: true }),
      '/curfew/subject_claims',
      { registered: { subject_claims: 'sub' } },
    ],
    [
      'an insecure encryption algorithm is a fault',
      withEndpoint({ id_token_encrypted_response_alg: 'RSA1_5' }),
      '/id_token_encrypted_response_alg',
    ],
    [
      'encryption without a key is a fault',
      withEndpoint({ id_token_encrypted_response_alg: 'RSA-OAEP' }),
      '/jwks_uri',
    ],
    [
      'a key set without a suitable key is a fault',
      withEndpoint({ id_token_encrypted_response_alg: 'RSA-OAEP', jwks: { keys: [] } }),
      '/jwks',
      { hasEncryptionKey: () => false },
    ],
    [
      'a jwks_uri at an address that is not allowed is a fault',
      withEndpoint({ id_token_encrypted_response_alg: 'RSA-OAEP', jwks_uri: 'http://10.0.0.1' }),
      '/jwks_uri',
      { targetFault: () => 'must be https' },
    ],
    [
      'a further endpoint with the name main is a fault',
      {},
      '/curfew/endpoints/0/name',
      { settings: { endpoints: [{ name: 'main', uri: URI }] } },
    ],
  ])('%s', (_, client, pointer, over) => {
    expect(read(client, over).faults.map((fault) => fault.pointer)).toEqual([pointer])
  })

  test('the fault of a second URL of Auth0 has the member that takes it', () => {
    const [fault] = read({ oidc_logout: { backchannel_logout_urls: URLS } }).faults
    const [, member = ''] = /: ("curfew": .+)$/.exec(fault?.detail ?? '') ?? []
    const { curfew } = JSON.parse(`{ ${member} }`.replace('…', 'https://b.example'))
    const mended = read({ oidc_logout: { backchannel_logout_urls: [URI] } }, { settings: curfew })
    expect(mended.faults).toEqual([])
    expect(mended.endpoints.map(({ name, uri }) => [name, uri])).toEqual([
      ['main', URI],
      ['second', 'https://b.example'],
    ])
  })
})
