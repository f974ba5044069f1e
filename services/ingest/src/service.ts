import { randomBytes } from 'node:crypto'
import { type EventLog, uuidV7 } from '@curfew/domain'
import { type Database, settledEvents } from '@curfew/ledger'
import type { HttpServer, Log, Service } from '@curfew/runtime'
import { registerGetEvent } from './get-event.ts'
import { registerPostEvents } from './post-events.ts'
import { createWaiters } from './waiters.ts'

export { readIngestConfig } from './config.ts'

/** What ingest works with, already open. */
export interface IngestDeps {
  readonly server: HttpServer
  readonly eventLog: EventLog
  /** Asked only for what became of an event. Accepting needs no database. */
  readonly db: Database
  readonly log: Log
}

const WAIT_POLL_MS = 50

/** Wires ingest: takes logout events in, and tells what became of them. Opens nothing, starts nothing. */
export function createIngest({ server, eventLog, db, log }: IngestDeps): readonly Service[] {
  const waiters = createWaiters({ settledEvents: (ids) => settledEvents(db, ids), log, pollMs: WAIT_POLL_MS })
  registerPostEvents(server, {
    eventLog,
    now: () => new Date(),
    newEventId: () => uuidV7(new Date(), randomBytes(10)),
  })
  registerGetEvent(server, { db, waiters })
  return [waiters.service]
}
