import { hash, randomBytes } from 'node:crypto'
import { Writable } from 'node:stream'
import { type BookkeeperDeps, createBookkeeper, readRetention } from '@curfew/bookkeeper'
import { createKafkaEventLog } from '@curfew/broker'
import { type Client, createClient } from '@curfew/client'
import { openSpool } from '@curfew/client/spool'
import { createConsole } from '@curfew/console'
import { API_DESCRIPTION, API_TAGS, type Scope } from '@curfew/contract'
import { createDelivery } from '@curfew/delivery'
import {
  type AccessFilter,
  EVERYTHING,
  type EventId,
  type EventLog,
  type EventLogMonitor,
  eventIdOf,
  type GivenEventId,
  type Issuer,
  type Publisher,
} from '@curfew/domain'
import { checkSpool, createIngest } from '@curfew/ingest'
import {
  createDatabase,
  createDeliveryLedger,
  createPostgresEventLog,
  createPostgresMonitor,
  createQuarantine,
  type Database,
  openCredentialStore,
  openIssuerNetworks,
  openKeyStore,
} from '@curfew/ledger'
import {
  createGuardedClient,
  createIssuerPost,
  createOwnAddresses,
  createTargetCheck,
  type GuardedClientOptions,
} from '@curfew/outbound'
import {
  type ApiKey,
  type CredentialsDeps,
  createApiKeyAuthenticator,
  createCredentials,
  createHttpServer,
  createLog,
  createMetrics,
  type HttpServer,
  type HttpServerOptions,
  hashApiKey,
  httpService,
  type Metrics,
  readEnvironment,
  type Service,
} from '@curfew/runtime'
import {
  createAuditSecretSealer,
  createClientKeySealer,
  createCursorSealer,
  createKeyMaker,
  createKeyring,
  createLogKeeper,
  createMessageSealer,
  createSessionTokenSealer,
  createWebhookSecretSealer,
  type KeyMaker,
} from '@curfew/tokens'
import { createRelayedTokens } from '@curfew/wiring'
import { vi } from 'vitest'
import { createTestDatabase } from './database.ts'
import { type Gate, openGate } from './gate.ts'
import { smallTopics } from './kafka.ts'

// All services in one process, over their own database, on a free port of loopback. Everything is real except the signals of the
// process, which tests give by hand.

/** The issuer of most tests: its name in our URLs and its `iss`. */
export const ISSUER = 'main'
export const ISS = 'https://idp.example'
const LOOPBACK = ['127.0.0.0/8', '::1/128']

/** The id of an event in the database. @param givenId its id in the API. */
export function storedId(givenId: string, iss = ISS): EventId {
  return eventIdOf(iss as Issuer, givenId as GivenEventId, (text) => hash('sha256', text))
}

/** Retries `check` until it does not throw, for as long as a busy machine may take. @returns its result. */
export function eventually<Result>(check: () => Result | Promise<Result>): Promise<Result> {
  return vi.waitFor(check, { timeout: 25_000, interval: 20 })
}

export interface CurfewOptions {
  /** Brokers of the event log, which has its own topics there. Default: the event log is in PostgreSQL. */
  readonly kafka?: { readonly brokers: readonly string[]; readonly prefix: string }
  /** Wraps the event log of ingest, to make it fail. */
  readonly wrapEventLog?: (real: EventLog) => EventLog
  /** Longest wait for an append, in milliseconds. Default 5,000. */
  readonly appendTimeoutMs?: number
  /** Further readiness checks. Default: none. */
  readonly checks?: (db: Database, metrics: Metrics) => HttpServerOptions['checks']
  /** The monitor of the event log for the API. Default: the one of PostgreSQL. */
  readonly monitor?: EventLogMonitor
  /** Delivery workers to start. Default 1. */
  readonly workers?: number
  /** Bookkeepers to start. Default none. */
  readonly bookkeepers?: number
  /** The publisher of bookkeepers. Default: none. */
  readonly publisher?: Publisher
  /** Settings of receipts. Default: subjects in plain text, and no origin of the log. */
  readonly receipts?: Partial<BookkeeperDeps['receipts']>
  /** The pace of notifications. Default: as in production. */
  readonly notifying?: BookkeeperDeps['notifying']
  /** Lease of the workers that start by default, in milliseconds. Default 10,000. */
  readonly leaseMs?: number
  /** Networks that relying parties may be in. Default loopback. */
  readonly allowedNetworks?: readonly string[]
  /** The URL by which the outside reaches Curfew. Default: none is configured. */
  readonly publicUrl?: string
  /** Verifies access tokens. Default: none is accepted. */
  readonly verifyAccessToken?: CredentialsDeps['verifyAccessToken']
  /** Ports that relying parties may listen on. Default: all. */
  readonly allowedPorts?: GuardedClientOptions['allowedPorts']
  /** Time after which PostgreSQL cancels a read, in milliseconds. Default 5,000. */
  readonly readTimeoutMs?: number
  /** How often waiting requests poll without a notification, in milliseconds. Default: as in production. */
  readonly waitPollMs?: number
  /** Units of each budget that a credential may spend in a second. Default: no limit. */
  readonly requestsPerSecond?: number
  /** Most relying parties, and sessions, of an issuer. Default 20,000 and 20,000,000. */
  readonly relyingPartiesMax?: number
  readonly sessionsMax?: number
  /** The spool of the relay. Default: none. */
  readonly spool?: { readonly directory: string; readonly bytesMax?: number }
  /** Most records in the bulk lane, and in the sessions lane. Default: no limit. */
  readonly backlogMax?: number
  /** Whether ingest has the master key. Default true. */
  readonly sealsTokens?: boolean
  /** Wraps the console's maker of keys. */
  readonly wrapKeyMaker?: (real: KeyMaker) => KeyMaker
  /** The clock of signing keys and their rotation. Default: the real one. */
  readonly now?: () => Date
}

/** One delivery worker with its own connections. */
export interface TestWorker {
  /** The proxy in front of the worker's database. */
  readonly gate: Gate
  /** Rejects while the worker has an unreadable lane. */
  checkLanes(): Promise<void>
  /** Lets the worker finish its work and retire. */
  stop(): Promise<void>
  /** Stops the worker without waiting for relying parties, as a second signal or the deadline does. */
  abandon(): Promise<void>
  /** Simulates SIGKILL: the worker sends nothing more, neither to the database nor to relying parties. */
  kill(): Promise<void>
}

/** One bookkeeper with its own connections. */
export type TestBookkeeper = Pick<TestWorker, 'gate' | 'stop' | 'kill'>

/** One registered route. */
export interface Route {
  readonly method: string
  /** With `:name` for each parameter. */
  readonly path: string
  readonly scope: string
  /** How the access filter of a bound credential applies; empty for a public route. */
  readonly access: string
}

export interface Curfew extends AsyncDisposable {
  readonly url: string
  /** Uses the admin key. */
  readonly client: Client
  readonly adminKey: string
  /** The database, bypassing all gates. */
  readonly db: Database
  /** The proxy in front of the database for all services except workers, which have their own. */
  readonly gate: Gate
  readonly server: HttpServer
  /** Every route of ingest and console. */
  readonly routes: readonly Route[]
  /** The event log of ingest and the workers, without `wrapEventLog`. */
  readonly eventLog: EventLog
  /** Every line logged so far, as it was written. */
  readonly lines: readonly string[]
  /** A new key with exactly these scopes. */
  keyFor(...scopes: readonly Scope[]): string
  /** A new key with these scopes and this access filter. */
  keyBoundTo(access: AccessFilter, ...scopes: readonly Scope[]): string
  /** @param options.wallMs the clock of the worker's machine. Default: ours. */
  startWorker(options?: { readonly leaseMs?: number; readonly wallMs?: () => number }): Promise<TestWorker>
  /** @param masterKey differs from the key of the other services. */
  startBookkeeper(options?: { readonly masterKey?: Uint8Array }): Promise<TestBookkeeper>
  /** Sends a request with the admin key. A body other than text or bytes is sent as JSON. */
  call(
    method: string,
    path: string,
    body?: unknown,
    headers?: Readonly<Record<string, string>>,
  ): Promise<Response>
  stop(): Promise<void>
}

export async function openCurfew(options: CurfewOptions = {}): Promise<Curfew> {
  const { wrapEventLog = (real) => real, workers = 1, leaseMs = 10_000, allowedNetworks = LOOPBACK } = options
  const { appendTimeoutMs = 5_000, allowedPorts = null, bookkeepers = 0, publicUrl = null } = options
  const lines: string[] = []
  const log = createLog({
    service: 'test',
    level: 'debug',
    destination: new Writable({
      write(chunk: Buffer, _encoding, done) {
        lines.push(chunk.toString('utf8'))
        done()
      },
    }),
  })
  const keys: ApiKey[] = []
  const keyBoundTo = (access: AccessFilter, ...scopes: readonly Scope[]) => {
    const key = `cfw_${randomBytes(32).toString('base64url')}`
    keys.push({
      name: scopes.join(' '),
      hash: hashApiKey(key),
      scopes: new Set(scopes),
      access,
      requestsPerSecond: null,
      expiresAt: null,
    })
    return key
  }
  const keyFor = (...scopes: readonly Scope[]) => keyBoundTo(EVERYTHING, ...scopes)
  const adminKey = keyFor('admin')
  const { now = () => new Date() } = options
  const masterKey = randomBytes(32)
  const clientKeys = createClientKeySealer(masterKey)
  const sessionTokens = createSessionTokenSealer(masterKey)
  const webhookSecrets = createWebhookSecretSealer(masterKey)
  const auditSecrets = createAuditSecretSealer(masterKey)

  const database = await createTestDatabase()
  const gate = await openGate(database.url)
  const db = createDatabase(gate.url)
  const reads = createDatabase(gate.url, { statementTimeoutMs: options.readTimeoutMs ?? 5_000 })
  const openEventLog = (own: Database, url: string): EventLog => {
    const { kafka } = options
    if (kafka === undefined) return createPostgresEventLog({ db: own, url, timeoutMs: appendTimeoutMs })
    return createKafkaEventLog({
      ...{ brokers: kafka.brokers, clientId: 'test', groupId: `${kafka.prefix}curfew` },
      ...{ quarantine: createQuarantine(own), appendTimeoutMs, sessionTimeoutMs: 1_500 },
      topics: smallTopics(kafka.prefix),
    })
  }
  const eventLog = openEventLog(db, gate.url)
  const ownAddresses = createOwnAddresses({ databaseUrl: database.url, publicUrl })
  const outbound = createGuardedClient({ allowedNetworks, allowedPorts, own: ownAddresses })
  const keyMaker = createKeyMaker({ masterKey, post: createIssuerPost(outbound, openIssuerNetworks(db)) })
  const keyring = createKeyring({ store: openKeyStore(db), maker: keyMaker, now })
  const credentials = createCredentials({
    fixed: [],
    store: openCredentialStore(db),
    verifyAccessToken: options.verifyAccessToken ?? null,
    log,
    now: () => new Date(),
  })
  const metrics = createMetrics()
  const spool = options.spool === undefined ? null : await openSpool(options.spool)
  const server = await createHttpServer({
    title: 'Curfew',
    api: { description: API_DESCRIPTION, tags: API_TAGS, url: publicUrl },
    log,
    metrics,
    // Accepts the keys of `keyFor` besides those created through the API.
    authenticate: async (token) =>
      (await createApiKeyAuthenticator(keys)(token)) ?? credentials.authenticate(token),
    requestsPerSecond: options.requestsPerSecond ?? null,
    checks: {
      'event-log': () => eventLog.check(),
      ledger: async () => void (await db.query('select 1')),
      'master-key': () => keyring.check(),
      ...(spool !== null && { spool: () => checkSpool(spool) }),
      ...options.checks?.(db, metrics),
    },
    ...(options.kafka === undefined && { checksNeed: { 'event-log': 'ledger' } }),
  })
  const routes: Route[] = []
  server.addHook('onRoute', ({ method, url: path, config }) => {
    for (const each of [method].flat())
      routes.push({ method: each, path, scope: config?.scope ?? '', access: config?.access ?? '' })
  })
  const services = createIngest({
    server,
    eventLog: wrapEventLog(eventLog),
    db: reads,
    databaseUrl: gate.url,
    tokens: createRelayedTokens({ client: outbound, log, now: () => new Date() }),
    spool,
    sealTokens: options.sealsTokens === false ? null : sessionTokens.seal,
    backlogMax: options.backlogMax ?? null,
    log,
    metrics,
    ...(options.waitPollMs !== undefined && { waitPollMs: options.waitPollMs }),
  })
  const background = createConsole({
    server,
    db,
    reads,
    keyring,
    keyMaker: options.wrapKeyMaker?.(keyMaker) ?? keyMaker,
    clientKeys,
    client: outbound,
    cursors: createCursorSealer(masterKey),
    webhookSecrets,
    auditSecrets,
    now,
    targetFault: createTargetCheck({ allowedNetworks, allowedPorts, own: ownAddresses }),
    allowedNetworks,
    publicUrl,
    logKeeper: createLogKeeper(masterKey),
    logOrigin: options.receipts?.origin ?? null,
    relyingPartiesMax: options.relyingPartiesMax ?? 20_000,
    monitor: options.monitor ?? createPostgresMonitor(reads),
    log,
    metrics: createMetrics(),
  })
  const { promise: listening, resolve: onListening } = Promise.withResolvers<string>()
  const running = [
    ...services,
    ...background,
    credentials.service,
    httpService(server, { host: '127.0.0.1', port: 0, log, onListening, onBound: ownAddresses.listens }),
  ].map(run)
  const url = await listening

  async function startWorker({
    leaseMs: ms = leaseMs,
    wallMs = Date.now,
  }: {
    leaseMs?: number
    wallMs?: () => number
  } = {}): Promise<TestWorker> {
    const ownGate = await openGate(database.url)
    const ownDb = createDatabase(ownGate.url, { poolMax: 5, applicationName: 'curfew worker' })
    const ownLog = openEventLog(ownDb, ownGate.url)
    const outbound = createGuardedClient({ allowedNetworks, allowedPorts, own: ownAddresses })
    const delivery = createDelivery({
      eventLog: ownLog,
      ledger: createDeliveryLedger(ownDb),
      keyring: createKeyring({
        store: openKeyStore(ownDb),
        maker: createKeyMaker({ masterKey, post: createIssuerPost(outbound, openIssuerNetworks(ownDb)) }),
        now,
      }),
      clientKeys,
      messages: createMessageSealer(masterKey),
      sessionTokens,
      relayedTokens: createRelayedTokens({ client: outbound, log, now }),
      client: outbound,
      log,
      metrics: createMetrics(),
      workerName: 'test',
      leaseMs: ms,
      wallMs,
    })
    const worker = run(delivery)
    let ended: Promise<void> | null = null
    const end = (how: 'drain' | 'abandon' | 'kill') => {
      ended ??= (async () => {
        if (how === 'kill') await ownGate.shut()
        if (how === 'kill') await outbound.close()
        await worker.stop(how !== 'drain')
        await ownLog.close()
        await outbound.close()
        await ownDb.end()
        await ownGate.close()
        started.delete(handle)
      })()
      return ended
    }
    const handle: TestWorker = {
      gate: ownGate,
      checkLanes: delivery.checkLanes,
      stop: () => end('drain'),
      abandon: () => end('abandon'),
      kill: () => end('kill'),
    }
    started.add(handle)
    await worker.ready
    return handle
  }

  async function startBookkeeper(own: { readonly masterKey?: Uint8Array } = {}): Promise<TestBookkeeper> {
    const ownGate = await openGate(database.url)
    const ownDb = createDatabase(ownGate.url, { poolMax: 5, applicationName: 'curfew bookkeeper' })
    const ownLog = openEventLog(ownDb, ownGate.url)
    const outbound = createGuardedClient({ allowedNetworks, allowedPorts, own: ownAddresses })
    const bookkeeper = run(
      createBookkeeper({
        db: ownDb,
        beats: ownDb,
        name: 'test',
        eventLog: ownLog,
        monitor: createPostgresMonitor(ownDb),
        publisher: options.publisher ?? null,
        client: outbound,
        relayedTokens: createRelayedTokens({ client: outbound, log, now }),
        webhookSecrets,
        clientKeys,
        auditSecrets,
        retention: readEnvironment({}, readRetention),
        receipts: { subject: 'plain', origin: null, ...options.receipts },
        sessionsMax: options.sessionsMax ?? 20_000_000,
        logKeeper: createLogKeeper(own.masterKey ?? masterKey),
        generateKey: (issuer, algorithm) => keyMaker.generate(issuer, algorithm),
        now,
        ...(options.notifying !== undefined && { notifying: options.notifying }),
        log,
        metrics: createMetrics(),
      }),
    )
    let ended: Promise<void> | null = null
    const end = (abandon: boolean) => {
      ended ??= (async () => {
        if (abandon) await ownGate.shut()
        if (abandon) await outbound.close()
        await bookkeeper.stop(abandon)
        await ownLog.close()
        await outbound.close()
        await ownDb.end()
        await ownGate.close()
        bookkeeping.delete(handle)
      })()
      return ended
    }
    const handle: TestBookkeeper = { gate: ownGate, stop: () => end(false), kill: () => end(true) }
    bookkeeping.add(handle)
    await bookkeeper.ready
    return handle
  }

  const started = new Set<TestWorker>()
  const bookkeeping = new Set<TestBookkeeper>()
  await Promise.all(Array.from({ length: workers }, () => startWorker()))
  await Promise.all(Array.from({ length: bookkeepers }, () => startBookkeeper()))
  const api = createClient({ url, key: adminKey })
  await api.putIssuer(ISSUER, { iss: ISS })

  let stopped: Promise<void> | null = null
  const stop = () => {
    stopped ??= (async () => {
      await Promise.all([...started, ...bookkeeping].map((each) => each.stop()))
      await Promise.all(running.map((service) => service.stop(false)))
      await spool?.close()
      await eventLog.close()
      await outbound.close()
      await db.end()
      await reads.end()
      await gate.close()
      await database.drop()
    })()
    return stopped
  }
  return {
    url,
    client: api,
    adminKey,
    db: database.db,
    gate,
    server,
    routes,
    eventLog,
    lines,
    keyFor,
    keyBoundTo,
    startWorker,
    startBookkeeper,
    async call(method, path, body, headers = {}) {
      const raw = typeof body === 'string' || body instanceof Uint8Array
      return fetch(new URL(path, url), {
        method,
        redirect: 'manual',
        headers: {
          authorization: `Bearer ${adminKey}`,
          ...(body !== undefined && { 'content-type': 'application/json' }),
          ...headers,
        },
        ...(body !== undefined && { body: raw ? (body as string) : JSON.stringify(body) }),
      })
    },
    stop,
    [Symbol.asyncDispose]: stop,
  }
}

interface Running {
  /** Resolves when the service accepts work; rejects when it cannot. */
  readonly ready: Promise<void>
  stop(abandon: boolean): Promise<void>
}

/** Runs a service as a process does. Its rejection is thrown by `ready` or by `stop`. */
function run(service: Service): Running {
  const stopping = new AbortController()
  const abandoning = new AbortController()
  const { promise: ready, resolve, reject } = Promise.withResolvers<void>()
  const ended = service.run({ stopping: stopping.signal, abandoning: abandoning.signal, ready: resolve })
  ended.catch(reject)
  // A failure rejects `ready` and `stop`; a test need not await `ready`.
  ready.catch(() => undefined)
  return {
    ready,
    stop(abandon) {
      stopping.abort()
      if (abandon) abandoning.abort()
      return ended
    },
  }
}
