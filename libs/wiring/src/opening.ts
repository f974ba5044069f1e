import { hostname } from 'node:os'
import {
  createKafkaEventLog,
  createKafkaLog,
  createKafkaMonitor,
  createKafkaPublisher,
  identifyKafka,
} from '@curfew/broker'
import { openSpool, type Spool } from '@curfew/client/spool'
import { API_DESCRIPTION, API_TAGS, SCOPES } from '@curfew/contract'
import type { EventLogMonitor } from '@curfew/domain'
import {
  createDatabase,
  createPostgresEventLog,
  createPostgresMonitor,
  createQuarantine,
  type Database,
  type DatabaseOptions,
  type GuardedEventLog,
  guardEventLog,
  openCredentialStore,
  openIssuerNetworks,
  openKeyStore,
  POSTGRES_LOG,
  readOwnLedger,
} from '@curfew/ledger'
import { createGuardedClient, createIssuerPost, createOwnAddresses, fetchJson } from '@curfew/outbound'
import {
  type AccessConfig,
  type ApiKey,
  createCredentials,
  createHttpServer,
  createMetrics,
  type HttpServer,
  type HttpServerOptions,
  httpService,
  type Log,
  metricsServices,
  type Scope,
  type Service,
} from '@curfew/runtime'
import {
  createAccessTokenVerifier,
  createKeyMaker,
  createKeyring,
  createSessionTokenSealer,
} from '@curfew/tokens'
import { createAliveWatch } from './alive.ts'
import type { CommonConfig, MasterKeys, SpoolConfig } from './config.ts'
import { createRelayedTokens } from './relayed-tokens.ts'

export interface OpeningOptions {
  /** The name of the process, such as `ingest`. Logs, PostgreSQL and Kafka show it. */
  readonly name: string
  readonly config: Omit<CommonConfig, 'logLevel' | 'stopDeadlineMs'>
  readonly scope: Pick<Scope, 'defer'>
  readonly log: Log
}

/** Opens the resources that a service asks for. They close when the process ends, in reverse order. */
export type Opening = ReturnType<typeof createOpening>

/** The readiness checks of an event log. */
export function eventLogChecks(eventLog: Pick<GuardedEventLog, 'check' | 'checkChoice'>) {
  return {
    'event-log': () => eventLog.check(),
    'event-log-choice': () => eventLog.checkChoice(),
  }
}

/** While PostgreSQL is the event log, its check fails with that of the ledger, and for the same reason. */
const EVENT_LOG_IN_POSTGRES = { 'event-log': 'ledger' }

type ServerOptions = Pick<HttpServerOptions, 'title' | 'authenticate' | 'requestsPerSecond' | 'checks'> & {
  readonly hasApi?: boolean
}

export function createOpening({ name, config, scope, log }: OpeningOptions) {
  const { databaseUrl, allowedNetworks, allowedPorts, publicUrl, host, port, metricsPort, trustedProxies } =
    config
  const metrics = createMetrics()
  const own = createOwnAddresses({ databaseUrl, brokers: config.kafka?.brokers ?? [], publicUrl })
  const failures = metrics.counter('outbound_failures_total', 'Outgoing requests that got no answer.', [
    'class',
  ])
  const client = createGuardedClient({
    ...{ allowedNetworks, allowedPorts, own },
    onFailure: (failure) => failures.inc({ class: failure }),
  })
  scope.defer('outbound', () => client.close())
  const kafka = config.kafka && {
    ...config.kafka,
    clientId: `curfew-${name}@${hostname()}`,
    groupId: `${config.kafka.topics.prefix}curfew`,
    log: createKafkaLog(log),
  }
  const now = () => new Date()

  return {
    log,
    metrics,
    /** The HTTP client for every outgoing call. */
    client,
    /** Verifies the tokens of the relay. The parts of a process share the keys of issuers. */
    relayedTokens: createRelayedTokens({ client, log, now }),
    /** The addresses of this deployment, where no relying party lives. */
    own,
    /** Watches the live delivery workers and bookkeepers. Its service must run. */
    alive: (db: Database) => createAliveWatch({ db, metrics }),
    /** Opens a separate pool of connections. */
    database(options: DatabaseOptions = {}): Database {
      const db = createDatabase(databaseUrl, { applicationName: `curfew ${name}`, ...options })
      scope.defer('postgres', () => db.end())
      return db
    },
    /** @param alone whether no other service can use the ledger: see `guardEventLog`. */
    eventLog(db: Database, { alone = false }: { readonly alone?: boolean } = {}): GuardedEventLog {
      const real =
        kafka === null
          ? createPostgresEventLog({ db, url: databaseUrl })
          : createKafkaEventLog({
              ...kafka,
              quarantine: createQuarantine(db),
              ledger: () => readOwnLedger(db, alone),
            })
      const eventLog = guardEventLog(real, {
        db,
        user: `${name} at ${hostname()}`,
        identify: async () => (kafka === null ? POSTGRES_LOG : identifyKafka(kafka)),
        alone,
        onChanged: (to) => log.warn({ event: 'event-log.changed', to }),
        onWrong: (error) => log.error({ event: 'event-log.wrong', err: error }),
      })
      scope.defer('event log', () => eventLog.close())
      return eventLog
    },
    /** Opens a durable queue on disk. @throws {SpoolLockedError} if another process uses its directory. */
    async spool({ directory, bytesMax }: SpoolConfig): Promise<Spool> {
      const onError = (error: Error) => log.error({ event: 'spool.damaged', err: error })
      const spool = await openSpool({ directory, bytesMax, onError })
      scope.defer('spool', () => spool.close())
      return spool
    },
    monitor: (db: Database): EventLogMonitor =>
      kafka === null
        ? createPostgresMonitor(db)
        : createKafkaMonitor({ ...kafka, ledger: () => readOwnLedger(db, false) }),
    /** Null if PostgreSQL is the event log: it has no topics to publish to. */
    publisher() {
      const publisher = kafka && createKafkaPublisher(kafka)
      scope.defer('publisher', () => publisher?.close())
      return publisher
    },
    sessionTokens: ({ masterKey, oldMasterKey }: MasterKeys) =>
      createSessionTokenSealer(masterKey, oldMasterKey),
    keyMaker: (db: Database, keys: MasterKeys) =>
      createKeyMaker({ ...keys, post: createIssuerPost(client, openIssuerNetworks(db)) }),
    keyring: (db: Database, maker: ReturnType<typeof createKeyMaker>) =>
      createKeyring({ store: openKeyStore(db), maker, now }),
    /** @param fixed keys that are not rows of the ledger. */
    credentials: (db: Database, { fixed, access }: { fixed: readonly ApiKey[]; access: AccessConfig }) =>
      createCredentials({
        fixed,
        store: openCredentialStore(db),
        verifyAccessToken: createAccessTokenVerifier({
          servers: access.authorizationServers,
          fetchJwks: (uri) => fetchJson(client, uri),
          scopes: new Set(SCOPES),
          now,
        }),
        log,
        now,
      }),
    /** @param hasApi whether the service has routes of the API. */
    server: ({ hasApi = false, ...options }: ServerOptions) =>
      createHttpServer({
        ...{ ...options, log, metrics, metricsApart: metricsPort !== null },
        ...(kafka === null && { checksNeed: EVENT_LOG_IN_POSTGRES }),
        ...(hasApi && { api: { description: API_DESCRIPTION, tags: API_TAGS, url: publicUrl } }),
        ...(trustedProxies.length > 0 && { trustProxy: trustedProxies.join(',') }),
      }),
    /** The listeners: the server, and `/metrics` if it has its own port. */
    listeners(
      server: HttpServer,
      { onListening }: { readonly onListening?: (url: string) => void } = {},
    ): readonly Service[] {
      const onBound = own.listens
      return [
        httpService(server, { host, port, log, onBound, ...(onListening && { onListening }) }),
        ...metricsServices({ metrics, host, port: metricsPort, log, onBound }),
      ]
    },
  }
}
