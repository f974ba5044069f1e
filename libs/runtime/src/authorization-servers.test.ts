import { expect, test } from 'vitest'
import { readAccess } from './authorization-servers.ts'
import { ConfigurationError, readEnvironment } from './environment.ts'

// Goal: what is wrong in the list of authorization servers stops the start and is named.

const read = (servers: unknown) =>
  readEnvironment(
    { CURFEW_AUTHORIZATION_SERVERS: typeof servers === 'string' ? servers : JSON.stringify(servers) },
    readAccess,
  ).authorizationServers

const LEAST = { issuer: 'https://as.example', audience: 'curfew', jwks_uri: 'https://as.example/jwks' }

test('none where nothing is said', () => {
  expect(readEnvironment({}, readAccess)).toEqual({ authorizationServers: [], requestsPerSecond: 1_000 })
})

test('the least that must be said, and what it then means', () => {
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
  ['no JSON', '[{', 'is not JSON'],
  ['no list', LEAST, 'CURFEW_AUTHORIZATION_SERVERS: '],
  ['no audience', [{ ...LEAST, audience: undefined }], '/0/audience'],
  ['a misspelt member', [{ ...LEAST, jwks_url: 'x' }], '/0/jwks_url'],
  ['a shared secret', [{ ...LEAST, algorithms: ['HS256'] }], '/0/algorithms/0'],
  ['no signature', [{ ...LEAST, algorithms: ['none'] }], '/0/algorithms/0'],
  ['keys at no URL', [{ ...LEAST, jwks_uri: 'jwks.json' }], '/0/jwks_uri is not a URL'],
  ['the same twice', [LEAST, LEAST], '/1/issuer is there twice'],
  ['clients of no issuer', [{ ...LEAST, clients_claim: 'clients' }], '/0/clients_claim needs'],
])('%s', (_what, servers, words) => {
  expect(() => read(servers)).toThrow(ConfigurationError)
  expect(() => read(servers)).toThrow(words)
})
