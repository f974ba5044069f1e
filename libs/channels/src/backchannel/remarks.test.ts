import { readClient } from '@curfew/domain'
import { describe, expect, test } from 'vitest'
import { remarksOn } from './remarks.ts'

// Goal: an import drops nothing in silence that decides whether and how a client is notified.
// Method: clients of each product, with members that Curfew does not read.

const URI = 'https://shop.example/logout'
const keycloak = (more: object) => ({ clientId: 'shop', protocol: 'openid-connect', ...more })
const places = (document: object, ...endpoints: string[]) =>
  remarksOn(readClient(document as Readonly<Record<string, unknown>>), endpoints).map(
    ({ code, pointer }) => `${code} ${pointer}`,
  )

describe('remarks on a client', () => {
  test.each<[string, object, string]>([
    [
      'an address at an unknown place',
      { backchannel: { logout_url: URI } },
      'endpoint_unread /backchannel/logout_url',
    ],
    [
      'addresses in a list',
      { attributes: { backchannelLogoutUri: [URI] } },
      'endpoint_unread /attributes/backchannelLogoutUri/0',
    ],
    [
      'a front-channel logout alone',
      { frontchannel_logout_uri: URI },
      'frontchannel_only /frontchannel_logout_uri',
    ],
    [
      'the front channel of Keycloak',
      keycloak({ frontchannelLogout: true }),
      'frontchannel_only /frontchannelLogout',
    ],
    ['the adapter of Keycloak', keycloak({ adminUrl: URI }), 'endpoint_unread /adminUrl'],
    ['SAML', keycloak({ protocol: 'saml', attributes: { 'saml.logout': URI } }), 'saml_client /protocol'],
  ])('name %s of a client that is not notified', (_, document, remark) => {
    expect(places(document)).toEqual([remark])
  })

  test.each<[string, object, string]>([
    [
      'the end of offline tokens',
      keycloak({ attributes: { 'backchannel.logout.revoke.offline.tokens': 'true' } }),
      'member_unused /attributes/backchannel.logout.revoke.offline.tokens',
    ],
    [
      'selected kinds of logout',
      { oidc_logout: { backchannel_logout_urls: [URI], backchannel_logout_initiators: { mode: 'custom' } } },
      'member_unused /oidc_logout/backchannel_logout_initiators/mode',
    ],
    [
      'several algorithms',
      { ClientId: 'shop', AllowedIdentityTokenSigningAlgorithms: ['PS256', 'RS256'] },
      'member_unused /AllowedIdentityTokenSigningAlgorithms',
    ],
    [
      'a relative address without a rootUrl',
      keycloak({ rootUrl: '', attributes: { 'backchannel.logout.url': '/logout' } }),
      'relative_to_idp /attributes/backchannel.logout.url',
    ],
    [
      'another address',
      { backchannel_logout_uri: URI, more: { backchannel_logout_uri: `${URI}/2` } },
      'endpoint_unread /more/backchannel_logout_uri',
    ],
  ])('name %s of a client that is notified', (_, document, remark) => {
    expect(places(document, URI)).toEqual([remark])
  })

  test.each<[string, object]>([
    ['an address that is read', { backchannel_logout_uri: URI }],
    [
      'an address that follows a rootUrl',
      keycloak({
        rootUrl: 'https://shop.example',
        attributes: { 'backchannel.logout.url': '/logout' },
      }),
    ],
    [
      'an unused address without a rootUrl',
      keycloak({ backchannel_logout_uri: URI, attributes: { 'backchannel.logout.url': '/logout' } }),
    ],
    ['the notification endpoint of CIBA', { backchannel_client_notification_endpoint: `${URI}/ciba` }],
    ['the addresses of an answer of Curfew', { status: { backchannel_logout: [`${URI}/old`] } }],
    ['a front channel beside the back channel', { frontchannel_logout_uri: `${URI}/front` }],
  ])('do not name %s', (_, document) => {
    expect(places(document, URI)).toEqual([])
  })

  test('do not name members that have no effect without an endpoint', () => {
    expect(places(keycloak({ attributes: { 'backchannel.logout.revoke.offline.tokens': 'true' } }))).toEqual(
      [],
    )
  })
})
