import { readClient } from '@curfew/domain'
import { describe, expect, test } from 'vitest'
import type { RegisterContext } from '../channel.ts'
import { readRegistration } from './registration.ts'

// Goal: a back-channel endpoint is read in the words of each product. Method: the members that each product's documentation has; a
// table of what is read. The address and the keys are judged by functions that are handed in.

const URI = 'https://shop.example/backchannel-logout'
const UNSET = { subject_claims: 'both', session_required: false, algorithm: 'RS256', encryption: null }

function read(client: object, over: Partial<RegisterContext<object>> = {}) {
  return readRegistration(readClient(client as Readonly<Record<string, unknown>>), {
    ...{ issuer: { name: 'main', sidSupported: true }, said: {}, settings: {}, own: {} },
    ...{ targetFault: () => null, hasEncryptionKey: () => true },
    ...over,
  })
}

const keycloak = (attributes: object) => ({ clientId: 'shop', attributes })

describe('what is read', () => {
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
      'Keycloak, its tokens encrypted',
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
      'Auth0',
      { oidc_logout: { backchannel_logout_urls: [URI] }, jwt_configuration: { alg: 'PS256' } },
      '/oidc_logout/backchannel_logout_urls/0',
      { algorithm: 'PS256' },
    ],
    [
      'Auth0 by the older name',
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
      "a product, with the standard's words beside its own",
      { ...keycloak({ 'backchannel.logout.url': 'https://old.example/' }), backchannel_logout_uri: URI },
      '/backchannel_logout_uri',
      {},
    ],
  ])('of a client of %s', (_product, client, pointer, settings) => {
    const { endpoints, faults, ...registered } = read(client)
    expect(faults).toEqual([])
    expect(endpoints).toEqual([{ name: 'main', uri: URI, enabled: true, pointer }])
    expect(registered.settings).toEqual({ ...UNSET, ...settings })
  })

  test('of a client without an endpoint are no faults, whatever else it has', () => {
    const { endpoints, faults } = read({
      id_token_signed_response_alg: 'HS256',
      id_token_encrypted_response_alg: 'RSA1_5',
    })
    expect([endpoints, faults]).toEqual([[], []])
  })

  test('settings of the issuer count where the client says nothing', () => {
    const settings = { subject_claims: 'sub' as const }
    expect(read({ backchannel_logout_uri: URI }, { settings }).settings.subject_claims).toBe('sub')
  })
})

describe('what is wrong', () => {
  const URLS = [URI, 'https://b.example']
  const told = (client: object) => ({ backchannel_logout_uri: URI, ...client })
  test.each<[what: string, client: object, pointer: string, over?: Partial<RegisterContext<object>>]>([
    ['a URI that is no text', { backchannel_logout_uri: 7 }, '/backchannel_logout_uri'],
    [
      'a second URL at Auth0',
      { oidc_logout: { backchannel_logout_urls: URLS } },
      '/oidc_logout/backchannel_logout_urls/1',
    ],
    [
      'an algorithm that is none',
      told({ id_token_signed_response_alg: 'HS256' }),
      '/id_token_signed_response_alg',
    ],
    [
      'a text for a boolean',
      told({ backchannel_logout_session_required: 'true' }),
      '/backchannel_logout_session_required',
    ],
    [
      'a session that the issuer cannot name',
      told({ backchannel_logout_session_required: true }),
      '/backchannel_logout_session_required',
      { issuer: { name: 'main', sidSupported: false } },
    ],
    [
      'a session that is required and never named',
      told({ backchannel_logout_session_required: true }),
      '/curfew/subject_claims',
      { said: { subject_claims: 'sub' } },
    ],
    [
      'an encryption that is broken',
      told({ id_token_encrypted_response_alg: 'RSA1_5' }),
      '/id_token_encrypted_response_alg',
    ],
    ['an encryption without a key', told({ id_token_encrypted_response_alg: 'RSA-OAEP' }), '/jwks_uri'],
    [
      'a key that does not fit',
      told({ id_token_encrypted_response_alg: 'RSA-OAEP', jwks: { keys: [] } }),
      '/jwks',
      { hasEncryptionKey: () => false },
    ],
    [
      'keys at an address that may not be called',
      told({ id_token_encrypted_response_alg: 'RSA-OAEP', jwks_uri: 'http://10.0.0.1' }),
      '/jwks_uri',
      { targetFault: () => 'must be https' },
    ],
    [
      'a further endpoint that is called main',
      {},
      '/curfew/endpoints/0/name',
      { settings: { endpoints: [{ name: 'main', uri: URI }] } },
    ],
  ])('%s', (_, client, pointer, over) => {
    expect(read(client, over).faults.map((fault) => fault.pointer)).toEqual([pointer])
  })
})
