import { expect, test } from 'vitest'
import { readAccessConfig } from './authorization-servers.ts'
import { ConfigurationError, readEnvironment } from './environment.ts'

// Goal: a mistake in the list of authorization servers stops the start and is named.
// Method: the list, read from an environment.

const read = (servers: unknown) =>
  readEnvironment(
    { CURFEW_AUTHORIZATION_SERVERS: typeof servers === 'string' ? servers : JSON.stringify(servers) },
    readAccessConfig,
  ).authorizationServers

const LEAST = { issuer: 'https://as.example', audience: 'curfew', jwks_uri: 'https://as.example/jwks' }

test('without the variable there are no servers', () => {
  expect(readEnvironment({}, readAccessConfig)).toEqual({
    authorizationServers: [],
    requestsPerSecond: 1_000,
  })
})

test('a server with only the required members has the defaults', () => {
  expect(read([LEAST])).toEqual([
    {
      issuer: 'https://as.example',
      audience: 'curfew',
      jwksUri: 'https://as.example/jwks',
      algorithms: ['RS256', 'PS256', 'ES256', 'EdDSA'],
      clockSkewS: 30,
      anyType: false,
      scopeClaim: 'scope',
      scopeOf: null,
      boundTo: null,
      issuerClaim: null,
      clientsClaim: null,
    },
  ])
})

test.each<[string, unknown, string]>([
  ['text that is not JSON', '[{', 'is not JSON'],
  ['a value that is not a list', LEAST, 'CURFEW_AUTHORIZATION_SERVERS: '],
  ['a missing audience', [{ ...LEAST, audience: undefined }], '/0/audience'],
  ['a misspelt member', [{ ...LEAST, jwks_url: 'x' }], '/0/jwks_url'],
  ['an algorithm with a shared secret', [{ ...LEAST, algorithms: ['HS256'] }], '/0/algorithms/0'],
  ['the algorithm none', [{ ...LEAST, algorithms: ['none'] }], '/0/algorithms/0'],
  ['a jwks_uri that is not a URL', [{ ...LEAST, jwks_uri: 'jwks.json' }], '/0/jwks_uri is not a URL'],
  ['a duplicate issuer', [LEAST, LEAST], '/1/issuer is a duplicate'],
  ['clients without an issuer', [{ ...LEAST, clients_claim: 'clients' }], '/0/clients_claim needs'],
])('%s is refused', (_what, servers, words) => {
  expect(() => read(servers)).toThrow(ConfigurationError)
  expect(() => read(servers)).toThrow(words)
})
