import { readClient } from '@curfew/domain'
import { describe, expect, test } from 'vitest'
import type { RegisterContext } from '../channel.ts'
import { revocation } from './channel.ts'

// Goal: the endpoint, the method and the algorithm that follow from the metadata of an authorization server (RFC 8414) and of a client.

const URI = 'https://as.example/revoke'
const JWK = '{"kty":"EC","crv":"P-256","x":"x","y":"y","d":"d"}'

function read(own: object | null, client: object = {}, { off = false, certificate = false } = {}) {
  const registered = {
    ...(own !== null && { channels: { revocation: own as Record<string, unknown> } }),
    ...(certificate && { tls: { client_certificate: 'PEM' } }),
  }
  return revocation.endpoints(readClient(client as Readonly<Record<string, unknown>>), {
    issuer: {
      ...{ name: 'main', iss: 'https://idp.example', sidSupported: true, maxTokenTtlS: 3_600 },
      sessionIndex: off ? 'off' : 'partial',
    },
    ...{ registered, settings: registered, own: own ?? {} },
    ...{ targetFault: () => null, hasEncryptionKey: () => true },
  } as RegisterContext<object>)
}
const faultsOf = (...given: Parameters<typeof read>) =>
  read(...given).faults.map(({ pointer }) => pointer.replace('/curfew/channels/revocation/', ''))

describe('REV-04: the endpoint', () => {
  test('is the revocation_endpoint of the registration, otherwise that of the client', () => {
    expect(read({ revocation_endpoint: URI }).endpoints).toMatchObject([{ name: 'main', uri: URI }])
    expect(read({}, { revocation_endpoint: URI }).endpoints).toMatchObject([
      { uri: URI, pointer: '/revocation_endpoint' },
    ])
    expect(faultsOf({})).toEqual(['revocation_endpoint'])
  })

  test('in the metadata of a client alone does not enable the channel', () => {
    const { endpoints, faults } = read(null, { revocation_endpoint: URI })
    expect([endpoints, faults]).toEqual([[], []])
  })

  test('is refused while the issuer has no session index, which has the tokens', () => {
    expect(faultsOf({ revocation_endpoint: URI }, {}, { off: true })).toEqual(['revocation_endpoint'])
  })
})

describe('REV-04: the method', () => {
  const methodFor = (own: object, client: object = {}) =>
    read({ revocation_endpoint: URI, ...own }, client).settings.method
  const supported = (...names: string[]) => ({ revocation_endpoint_auth_methods_supported: names })

  test('is client_secret_basic if the metadata of the server names none', () => {
    expect(methodFor({})).toBe('client_secret_basic')
    expect(methodFor({}, { token_endpoint_auth_method: 'private_key_jwt' })).toBe('client_secret_basic')
  })

  test.each<[readonly string[], object, string]>([
    [['client_secret_post', 'private_key_jwt'], {}, 'client_secret_post'],
    [['magic', 'private_key_jwt'], {}, 'private_key_jwt'],
    [
      ['client_secret_post', 'private_key_jwt'],
      { token_endpoint_auth_method: 'private_key_jwt' },
      'private_key_jwt',
    ],
    [['client_secret_post'], { token_endpoint_auth_method: 'none' }, 'client_secret_post'],
  ])('of a server with %j for the client %j is %s', (names, client, method) => {
    expect(methodFor(supported(...names), client)).toBe(method)
  })

  test('is the registered one, which must be supported', () => {
    expect(methodFor({ method: 'none' })).toBe('none')
    const own = { revocation_endpoint: URI, ...supported('client_secret_post') }
    expect(faultsOf({ ...own, method: 'private_key_jwt' })).toEqual(['method'])
    // A public client has no credential, so servers do not list its method.
    expect(faultsOf({ ...own, method: 'none' })).toEqual([])
    expect(faultsOf({ revocation_endpoint: URI, ...supported('magic') })).toEqual([
      'revocation_endpoint_auth_methods_supported',
    ])
  })

  test('with mutual TLS needs a client certificate', () => {
    const own = { revocation_endpoint: URI, method: 'tls_client_auth' }
    expect(faultsOf(own)).toEqual(['method'])
    expect(faultsOf(own, {}, { certificate: true })).toEqual([])
  })

  test('decides whether a secret is sent', () => {
    const sends = (method: string) => read({ revocation_endpoint: URI, method }).sendsSecret
    expect(['client_secret_post', 'private_key_jwt', 'none', 'tls_client_auth'].map(sends)).toEqual([
      ...[true, true, false, false],
    ])
  })

  test('private_key_jwt needs a private JWK as the secret', () => {
    const own = { revocation_endpoint: URI, method: 'private_key_jwt' }
    expect(faultsOf({ ...own, secret: JWK })).toEqual([])
    for (const secret of ['hush', '{}', '{"kty":"EC"}'])
      expect(faultsOf({ ...own, secret })).toEqual(['secret'])
  })
})

describe('the algorithm of an assertion', () => {
  const own = { revocation_endpoint: URI, method: 'client_secret_jwt' }
  const values = 'revocation_endpoint_auth_signing_alg_values_supported'
  test.each<[object, object, string | null]>([
    [{}, {}, 'HS256'],
    [{ [values]: ['RS256', 'HS512'] }, {}, 'HS512'],
    [{ signing_alg: 'HS384' }, {}, 'HS384'],
    [{}, { token_endpoint_auth_signing_alg: 'HS384' }, 'HS384'],
    [{ method: 'private_key_jwt' }, {}, null],
    [{ method: 'private_key_jwt', signing_alg: 'PS256' }, {}, 'PS256'],
    [{ method: 'client_secret_post' }, {}, null],
  ])('of %j for the client %j is %s', (more, client, algorithm) => {
    const { settings, faults } = read({ ...own, ...more }, client)
    expect([settings.algorithm, faults]).toEqual([algorithm, []])
  })

  test.each<[object, string]>([
    [{ signing_alg: 'RS256' }, 'signing_alg'],
    [{ signing_alg: 'HS384', [values]: ['HS256'] }, 'signing_alg'],
    [{ [values]: ['RS256'] }, values],
    [{ method: 'client_secret_post', signing_alg: 'HS256' }, 'signing_alg'],
    [{ method: 'none', audience: 'https://as.example' }, 'audience'],
  ])('%j is refused', (more, member) => {
    expect(faultsOf({ ...own, ...more })).toEqual([member])
  })
})

test('a delivery names a session that the identity provider posted', () => {
  const { settings } = read({ revocation_endpoint: URI })
  expect(revocation.names(settings)).toMatchObject({ names: 'session', posted: true })
})
