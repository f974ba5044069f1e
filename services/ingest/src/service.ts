import { randomBytes } from 'node:crypto'
import type { Spool } from '@curfew/client/spool'
import { type EventId, type EventLog, uuidV7 } from '@curfew/domain'
import {
  createIssuerNames,
  type Database,
  followSettled,
  identifyEvents,
  settledEvents,
} from '@curfew/ledger'
import type { HttpServer, Log, Metrics, Service } from '@curfew/runtime'
import type { AliveWatch, RelayedTokens } from '@curfew/wiring'
import { type Append, createAppend } from './append.ts'
import { createEventReader } from './event-reader.ts'
import { registerGetEvent } from './get-event.ts'
import { registerGetSummary } from './get-summary.ts'
import { createLaneLimits } from './lane-limits.ts'
import { registerPostEvents } from './post-events.ts'
import { registerPostSessions, type SealTokens } from './post-sessions.ts'
import { createRelayLimits } from './relay/limits.ts'
import { createIsMinted } from './relay/minted.ts'
import { createRegistryCopy } from './relay/registry-copy.ts'
import { registerRelay } from './relay/route.ts'
import { createRelaySpool } from './relay/spool.ts'
import { createStore } from './relay/store.ts'
import { createSessionQuotas } from './session-quotas.ts'
import { createWaiters } from './waiters.ts'
import { type Awaited, givenIdOf } from './waiting-list.ts'

export { readBacklogMax, readIngestConfig } from './config.ts'
export { checkSpool, tolerant } from './relay/spool.ts'

/** The opened dependencies of ingest. */
export interface IngestDeps {
  readonly server: HttpServer
  readonly eventLog: EventLog
  /** A pool for reads of events. Accepting a logout needs no database. */
  readonly db: Database
  /** The URL of the same database, for the connection that listens for settled deliveries. */
  readonly databaseUrl: string
  /** Verifies the logout tokens of the relay. */
  readonly tokens: RelayedTokens
  /** The disk on which the relay keeps tokens while the event log is unavailable. Null: it answers 503 then. */
  readonly spool: Spool | null
  /** Encrypts the tokens of posted sessions. Null: without a master key, sessions with tokens are refused. */
  readonly sealTokens: SealTokens | null
  /** Says whether a delivery worker is alive. Default: unknown. */
  readonly alive?: Pick<AliveWatch, 'latest'>
  readonly log: Log
  readonly metrics: Metrics
  /**
   * The greatest backlog of the bulk lane and of the sessions lane, in records per lane. Null if the event log is not in `db`.
   */
  readonly backlogMax: number | null
  /** The interval at which all awaited events are checked without an announcement, in milliseconds. Default 1,000. */
  readonly waitPollMs?: number
}

/** Wires ingest, which accepts posts of IdPs and reports the state of logouts. Opens and starts nothing. */
export function createIngest(deps: IngestDeps): readonly Service[] {
  const { server, eventLog, db, databaseUrl, log, metrics, backlogMax, waitPollMs = 1_000 } = deps
  const waiters = createWaiters({
    settledEvents: (awaited) => settledAmong(db, awaited),
    follow: (follower, stopping) => followSettled(databaseUrl, follower, stopping),
    log,
    pollMs: waitPollMs,
  })
  metrics.gauge('waiters', 'Requests that wait for an event to be settled.', () => waiters.count)
  const lanes = createLaneLimits({ db, backlogMax, log })
  const quotas = createSessionQuotas({ db, lanes, log })
  const append = createAppend(eventLog)
  const now = () => new Date()
  const newId = () => uuidV7(now(), randomBytes(10))
  const names = createIssuerNames(db)
  registerPostEvents(server, { append, db, lanes, names, now, newId })
  registerPostSessions(server, { append, quotas, sealTokens: deps.sealTokens, now, newId })
  const workersAlive = () => deps.alive?.latest()?.workers ?? null
  const eventDeps = { waiters, reader: createEventReader(db), names, db, workersAlive }
  registerGetEvent(server, eventDeps)
  registerGetSummary(server, { ...eventDeps, now })
  return [waiters.service, lanes.service, quotas.service, ...createRelay(deps, { append, now })]
}

/** Wires the relay. @returns its services. */
function createRelay(
  { server, db, tokens, spool: disk, log, metrics }: IngestDeps,
  { append, now }: { readonly append: Append; readonly now: () => Date },
): readonly Service[] {
  const registry = createRegistryCopy({ db, log })
  const spool = disk && createRelaySpool({ spool: disk, append, log, metrics, nowMs: () => now().getTime() })
  registerRelay(server, {
    ...{ registry, tokens, log, metrics, now },
    limits: createRelayLimits(),
    isMinted: createIsMinted(db),
    store: createStore({ append, spool, log, monotonicMs: () => performance.now() }),
  })
  return [registry.service, ...(spool === null ? [] : [spool.service])]
}

/** The awaited events that are settled. An id that is awaited at any issuer is settled once one of its events is settled. */
async function settledAmong(db: Database, awaited: readonly Awaited[]): Promise<ReadonlySet<string>> {
  const anywhere = awaited.flatMap((id) => {
    const givenId = givenIdOf(id)
    return givenId === null ? [] : [{ awaited: id, givenId, iss: null }]
  })
  const found = anywhere.length === 0 ? [] : await identifyEvents(db, anywhere)
  const ids = new Map<Awaited, readonly EventId[]>(
    anywhere.map((one, at) => [one.awaited, (found[at] ?? []).map(({ id }) => id)]),
  )
  const idsOf = (id: Awaited) => ids.get(id) ?? [id as EventId]
  const asked = [...new Set(awaited.flatMap(idsOf))]
  const settled = asked.length === 0 ? new Set() : await settledEvents(db, asked)
  return new Set(awaited.filter((id) => idsOf(id).some((eventId) => settled.has(eventId))))
}
