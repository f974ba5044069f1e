import { randomBytes } from 'node:crypto'
import { type EventLog, uuidV7 } from '@curfew/domain'
import {
  coveringDeliveries,
  type Database,
  followSettled,
  previewIssuerLogout,
  settledEvents,
} from '@curfew/ledger'
import type { HttpServer, Log, Metrics, Service } from '@curfew/runtime'
import { fewAtOnce } from './dry-run.ts'
import { createEventReader } from './event-reader.ts'
import { registerGetEvent } from './get-event.ts'
import { registerGetSummary } from './get-summary.ts'
import { registerPostEvents } from './post-events.ts'
import { registerPostSessions } from './post-sessions.ts'
import { createWaiters } from './waiters.ts'

export { readIngestConfig } from './config.ts'

/** What ingest works with, already open. */
export interface IngestDeps {
  readonly server: HttpServer
  readonly eventLog: EventLog
  /** Asked only for what became of an event, in a pool that nothing else needs. Accepting needs no database. */
  readonly db: Database
  /** Of the same database, for a connection that hears what is settled. */
  readonly databaseUrl: string
  readonly log: Log
  readonly metrics: Metrics
  /** How often what is waited for is asked for though nothing was heard of it, in milliseconds. Default 1,000. */
  readonly waitPollMs?: number
}

/** Wires ingest: takes in what IdPs say, and tells what became of logouts. Opens nothing, starts nothing. */
export function createIngest(deps: IngestDeps): readonly Service[] {
  const { server, eventLog, db, databaseUrl, log, metrics, waitPollMs = 1_000 } = deps
  const waiters = createWaiters({
    settledEvents: (ids) => settledEvents(db, ids),
    follow: (follower, stopping) => followSettled(databaseUrl, follower, stopping),
    log,
    pollMs: waitPollMs,
  })
  metrics.gauge('waiters', 'Requests that wait for an event to be settled.', () => waiters.count)
  const now = () => new Date()
  const newId = () => uuidV7(now(), randomBytes(10))
  registerPostEvents(server, {
    ...{ eventLog, now, newEventId: newId },
    previewIssuerLogout: fewAtOnce((event) => previewIssuerLogout(db, event)),
  })
  registerPostSessions(server, { eventLog, now, newRecordId: newId })
  const reader = createEventReader(db)
  registerGetEvent(server, { waiters, reader })
  registerGetSummary(server, {
    waiters,
    reader,
    covering: (ids) => coveringDeliveries(db, ids),
    now,
  })
  return [waiters.service]
}
