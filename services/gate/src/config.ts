import {
  type Environment,
  type EnvironmentReader,
  readEnvironment,
  readMetricsPort,
  readProcessConfig,
} from '@curfew/runtime'
import { isPolicy, POLICIES, type Policy } from './policy.ts'

export type GateConfig = ReturnType<typeof readGateConfig>

const FEED_PATH = /\/v1\/issuers\/[^/]+\/revocations$/
const HTTP = ['https:', 'http:']
/** The algorithms that a token may have: only asymmetric ones, because the keys of the issuer are public (RFC 8725 3.2). */
const ALGORITHMS = [
  ...['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512'],
  ...['ES256', 'ES384', 'ES512', 'EdDSA', 'Ed25519'],
]
const DEFAULT_ALGORITHMS = ['RS256', 'PS256', 'ES256', 'EdDSA']

/** Reads the environment of the gate. @throws {ConfigurationError} */
export function readGateConfig(env: Environment) {
  return readEnvironment(env, (read) => {
    const config = {
      host: read.string('HOST', '0.0.0.0'),
      port: read.integer('PORT', { fallback: 8485, min: 0, max: 65_535 }),
      metricsPort: readMetricsPort(read),
      allowedNetworks: read.cidrs('CURFEW_ALLOWED_NETWORKS'),
      ...readProcessConfig(read),
      ...readFeed(read),
      ...readTokens(read),
      whenStale: readDefaultPolicy(read),
      introspection: readIntrospection(read),
    }
    const { rules, whenStale, introspection } = config
    if (rules.verify === 'signature' && rules.audiences.length === 0)
      read.fault('CURFEW_GATE_AUDIENCE is not set: a token for another API would pass')
    if (whenStale === 'introspect' && introspection === null)
      read.fault('CURFEW_GATE_WHEN_STALE=introspect needs CURFEW_GATE_INTROSPECTION')
    return config
  })
}

function readFeed(read: EnvironmentReader) {
  const feed = read.url('CURFEW_GATE_FEED', { protocols: HTTP, required: true })
  if (feed !== '' && URL.parse(feed)?.pathname.match(FEED_PATH) == null)
    read.fault('CURFEW_GATE_FEED must end with /v1/issuers/{issuer}/revocations')
  return {
    feed,
    /** Shortens the age that the feed allows, in milliseconds. Null: as the feed says. */
    maxStalenessMs:
      read.optional('CURFEW_GATE_MAX_STALENESS_MS') === null
        ? null
        : read.integer('CURFEW_GATE_MAX_STALENESS_MS', { fallback: 0, min: 2_000, max: 3_600_000 }),
    feedKey: read.string('CURFEW_GATE_KEY'),
    /** The time of a token that a logout of its subject is compared with. */
    since: read.oneOf('CURFEW_GATE_SINCE', ['iat', 'auth_time'], 'iat'),
  }
}

function readTokens(read: EnvironmentReader) {
  const algorithms = read.list('CURFEW_GATE_ALGORITHMS', (name) =>
    ALGORITHMS.includes(name) ? null : `is none of ${ALGORITHMS.join(', ')}`,
  )
  return {
    /** The URL of the issuer's JWK Set. Null: its discovery document names it. */
    jwksUri: read.url('CURFEW_GATE_JWKS', { protocols: HTTP }),
    tokenBytesMax: read.integer('CURFEW_GATE_TOKEN_MAX_BYTES', { fallback: 8_192, min: 256, max: 32_768 }),
    rules: {
      issuer: read.string('CURFEW_GATE_ISSUER'),
      audiences: read.list('CURFEW_GATE_AUDIENCE'),
      algorithms: algorithms.length === 0 ? DEFAULT_ALGORITHMS : algorithms,
      clockSkewS: read.integer('CURFEW_GATE_CLOCK_SKEW_S', { fallback: 5, min: 0, max: 300 }),
      anyType: read.flag('CURFEW_GATE_ANY_TYPE', false),
      verify: read.oneOf('CURFEW_GATE_VERIFY', ['signature', 'none'], 'signature'),
    },
  } as const
}

function readDefaultPolicy(read: EnvironmentReader): Policy {
  const policy = read.oneOf('CURFEW_GATE_WHEN_STALE', POLICIES, 'deny')
  return isPolicy(policy) ? policy : 'deny'
}

/** The introspection endpoint of the issuer (RFC 7662), and the client that may ask it. */
function readIntrospection(read: EnvironmentReader) {
  const endpoint = read.url('CURFEW_GATE_INTROSPECTION', { protocols: HTTP })
  if (endpoint === null) return null
  return {
    endpoint,
    clientId: read.string('CURFEW_GATE_CLIENT_ID'),
    clientSecret: read.string('CURFEW_GATE_CLIENT_SECRET'),
  }
}
