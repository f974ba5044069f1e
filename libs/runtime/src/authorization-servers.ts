import { type Static, Type } from 'typebox'
import type { EnvironmentReader } from './environment.ts'
import { createValidator } from './validator.ts'

const Text = Type.String({ minLength: 1 })
const Texts = Type.Array(Text, { minItems: 1 })
/** Only algorithms with asymmetric keys: our configuration must not be enough to make a token (RFC 8725 3.2). */
const ALGORITHMS = [
  ...['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512'],
  ...['ES256', 'ES384', 'ES512', 'EdDSA', 'Ed25519'],
]

const Servers = Type.Array(
  Type.Object(
    {
      issuer: Text,
      audience: Text,
      jwks_uri: Text,
      algorithms: Type.Optional(
        Type.Array(Type.Union(ALGORITHMS.map((name) => Type.Literal(name))), { minItems: 1 }),
      ),
      clock_skew_s: Type.Optional(Type.Integer({ minimum: 0, maximum: 300 })),
      any_type: Type.Optional(Type.Boolean()),
      scope_claim: Type.Optional(Text),
      scope_of: Type.Optional(Type.Record(Type.String(), Texts)),
      bound_to: Type.Optional(
        Type.Object({ issuer: Text, clients: Type.Optional(Texts) }, { additionalProperties: false }),
      ),
      issuer_claim: Type.Optional(Text),
      clients_claim: Type.Optional(Text),
    },
    { additionalProperties: false },
  ),
)
const faultsOf = createValidator(Servers)

export type AccessConfig = ReturnType<typeof readAccessConfig>

/** Reads which access tokens are accepted, and how many requests a credential may make. */
export function readAccessConfig(read: Pick<EnvironmentReader, 'optional' | 'fault' | 'integer'>) {
  return {
    authorizationServers: readAuthorizationServers(read),
    requestsPerSecond: read.integer('CURFEW_REQUESTS_PER_SECOND', {
      fallback: 1_000,
      min: 1,
      max: 1_000_000,
    }),
  }
}

/** `CURFEW_AUTHORIZATION_SERVERS`: a JSON array. Default: no servers. */
function readAuthorizationServers(read: Pick<EnvironmentReader, 'optional' | 'fault'>) {
  const name = 'CURFEW_AUTHORIZATION_SERVERS'
  const text = read.optional(name)
  if (text === null) return []
  const value = parse(text)
  if (value === undefined) {
    read.fault(`${name} is not JSON`)
    return []
  }
  const faults = faultsOf(value)
  for (const { pointer, detail } of faults) read.fault(`${name}: ${pointer} ${detail}`)
  if (faults.length > 0) return []
  const servers = value as Static<typeof Servers>
  for (const [index, server] of servers.entries()) {
    if (URL.parse(server.jwks_uri)?.protocol.startsWith('http') !== true)
      read.fault(`${name}: /${index}/jwks_uri is not a URL`)
    if (servers.findIndex(({ issuer }) => issuer === server.issuer) !== index)
      read.fault(`${name}: /${index}/issuer is a duplicate; list each issuer once`)
    if (server.clients_claim !== undefined && (server.issuer_claim ?? server.bound_to) === undefined)
      read.fault(
        `${name}: /${index}/clients_claim needs issuer_claim or bound_to, because clients belong to an issuer`,
      )
  }
  return servers.map((server) => ({
    issuer: server.issuer,
    audience: server.audience,
    jwksUri: server.jwks_uri,
    algorithms: (server.algorithms as readonly string[] | undefined) ?? ['RS256', 'PS256', 'ES256', 'EdDSA'],
    clockSkewS: server.clock_skew_s ?? 30,
    anyType: server.any_type ?? false,
    scopeClaim: server.scope_claim ?? 'scope',
    scopeOf: server.scope_of ?? null,
    boundTo:
      server.bound_to === undefined
        ? null
        : { issuer: server.bound_to.issuer, clients: server.bound_to.clients ?? null },
    issuerClaim: server.issuer_claim ?? null,
    clientsClaim: server.clients_claim ?? null,
  }))
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    // The caller reports the fault.
    return undefined
  }
}
