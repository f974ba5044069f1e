import {
  createGuardedClient,
  createGuardedFetch,
  discoverKeySet,
  type FetchedJson,
  fetchJson,
  type GuardedClient,
} from '@curfew/outbound'
import { createRevocations, type RevocationsEvent } from '@curfew/rs'
import {
  createHttpServer,
  createLog,
  createMetrics,
  createThrottle,
  httpService,
  type Log,
  metricsServices,
  readOrExit,
  runProcess,
  type Scope,
} from '@curfew/runtime'
import { createBearerTokens } from '@curfew/tokens'
import { type GateConfig, readGateConfig } from './config.ts'
import { createIntrospect } from './introspection.ts'
import { createGate } from './service.ts'

/** Most bytes of an answer of the feed: a snapshot of four million logouts. */
const SNAPSHOT_BYTES_MAX = 256 * 1024 * 1024
/** The longest reading of the feed: a snapshot, or an answer that waits for a logout, in milliseconds. */
const FEED_MS_MAX = 60_000
/** The longest wait for an introspection: a request of a client waits for it. */
const INTROSPECTION_MS_MAX = 2_000
const INTROSPECTION_BYTES_MAX = 64 * 1_024

/**
 * Runs the gate as a process. It needs neither a database nor Kafka: only Curfew's feed, and the issuer's keys.
 *
 * @returns the exit status.
 */
export async function runGate(): Promise<0 | 1> {
  const config = readOrExit(readGateConfig)
  const { host, port, metricsPort, rules, logLevel, stopDeadlineMs } = config
  const log = createLog({ service: 'gate', level: logLevel })
  if (rules.verify === 'none')
    log.warn({
      event: 'gate.signatures-not-verified',
      msg: 'CURFEW_GATE_VERIFY=none: any sender can invent a token, unless the gateway verifies each signature itself.',
    })
  return runProcess((scope) => compose(config, scope, log), {
    stopDeadlineMs,
    about: { listens: `${host}:${port}`, metrics_port: metricsPort ?? port, issuer: rules.issuer },
    log,
  })
}

async function compose(config: GateConfig, scope: Scope, log: Log) {
  const { host, port, metricsPort, rules, introspection } = config
  const metrics = createMetrics()
  const failures = metrics.counter('outbound_failures_total', 'Outgoing requests that got no answer.', [
    'class',
  ])
  const client = createGuardedClient({
    allowedNetworks: config.allowedNetworks,
    onFailure: (failure) => failures.inc({ class: failure }),
  })
  scope.defer('outbound', () => client.close())
  const isTime = createThrottle()
  const gate = createGate({
    revocations: createRevocations({
      ...{ feed: config.feed, issuer: rules.issuer, key: config.feedKey, since: config.since },
      ...(config.maxStalenessMs !== null && { maxStalenessMs: config.maxStalenessMs }),
      // The guarded client decides: it uses plain http in allowed networks only.
      allowInsecureHttp: true,
      fetch: createGuardedFetch(client, { timeoutMs: FEED_MS_MAX, responseBytesMax: SNAPSHOT_BYTES_MAX }),
      onEvent: (event) => logEvent(event, log),
    }),
    tokens: createBearerTokens({
      rules,
      fetchJwks: () => fetchKeys(config, client),
      now: () => new Date(),
    }),
    introspect:
      introspection &&
      createIntrospect(
        {
          ...introspection,
          ...{ timeoutMs: INTROSPECTION_MS_MAX, allowInsecureHttp: true },
          fetch: createGuardedFetch(client, {
            timeoutMs: INTROSPECTION_MS_MAX,
            responseBytesMax: INTROSPECTION_BYTES_MAX,
          }),
        },
        (detail) => {
          if (isTime('introspection')) log.warn({ event: 'gate.introspection-failed', detail })
        },
      ),
    ...{ whenStale: config.whenStale, tokenBytesMax: config.tokenBytesMax, clockSkewS: rules.clockSkewS },
    ...{ metrics, log },
  })
  const server = await createHttpServer({
    ...{ title: 'Curfew gate', log, metrics, metricsApart: metricsPort !== null },
    // The gate has no routes of its own with credentials.
    authenticate: async () => null,
    checks: gate.checks,
    first: gate.first,
  })
  return [
    gate.service,
    httpService(server, { host, port, log }),
    ...metricsServices({ metrics, host, port: metricsPort, log }),
  ]
}

/** Fetches the keys of the issuer, by discovery unless the settings name their URL. */
async function fetchKeys({ jwksUri, rules }: GateConfig, client: GuardedClient): Promise<FetchedJson> {
  const fetch = (uri: string) => fetchJson(client, uri)
  if (jwksUri !== null) return named(jwksUri, await fetch(jwksUri))
  const found = await discoverKeySet(rules.issuer, fetch)
  if (found.ok) return named(found.jwksUri, await fetch(found.jwksUri))
  switch (found.fault) {
    case 'not_fetched':
      return { ok: false, detail: `${found.address} ${found.detail}` }
    case 'other_issuer':
      return { ok: false, detail: `${found.address} names another issuer than ${rules.issuer}` }
    case 'no_jwks_uri':
      return { ok: false, detail: `${found.address} has no jwks_uri` }
  }
}

function named(uri: string, fetched: FetchedJson): FetchedJson {
  return fetched.ok ? fetched : { ok: false, detail: `${uri} ${fetched.detail}` }
}

function logEvent(event: RevocationsEvent, log: Log): void {
  switch (event.type) {
    case 'snapshot':
      log.info({ event: 'gate.snapshot-read', seq: event.seq, entries: event.entries })
      break
    case 'refreshed':
      log.debug({ event: 'gate.refreshed', seq: event.seq, added: event.added })
      break
    case 'failed':
      // The first failure explains the line about staleness that may follow.
      log[event.failures === 1 ? 'warn' : 'debug']({ event: 'gate.feed-failed', err: event.error })
      break
    case 'stale':
      log.error({ event: 'gate.stale', as_of: event.asOf })
      break
    case 'fresh':
      log.info({ event: 'gate.fresh', as_of: event.asOf })
      break
    case 'clock':
      log.warn({ event: 'gate.clock-off', ahead_ms: event.aheadMs })
      break
    case 'outlived':
      log.warn({ event: 'gate.token-outlived', age_s: event.ageS, max_token_ttl_s: event.maxTokenTtlS })
      break
  }
}
