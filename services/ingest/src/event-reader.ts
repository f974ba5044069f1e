import type { GivenEventId, Issuer } from '@curfew/domain'
import {
  type Database,
  type EventIdentity,
  type FoundEvent,
  findEvents,
  identifyEvents,
} from '@curfew/ledger'
import { createBatcher, ProblemError, QueueFullError } from '@curfew/runtime'

/** Reads events with their deliveries, many who ask at once by two statements. */
export interface EventReader {
  /** Null where it is not (yet) planned. @throws {ProblemError} 503 when too many ask. */
  find(id: string): Promise<FoundEvent | null>
  /** Looks up the events of a given id, at `iss` or, if that is null, at every issuer. @throws {ProblemError} 503 when too many ask. */
  identify(asked: {
    readonly givenId: GivenEventId
    readonly iss: Issuer | null
  }): Promise<readonly EventIdentity[]>
}

/** Most events read together, and most deliveries of them: what is in memory at once, beside an event that has more by itself. */
const EVENTS_MAX = 200
const DELIVERIES_MAX = 5_000
/** While one batch is made into answers the database reads the next. */
const BATCHES = 2
/** Most who may wait for their turn. Each costs less than the connection that it asks over. */
const QUEUE_MAX = 50_000
const RETRY_AFTER_S = 2

export function createEventReader(db: Database): EventReader {
  const reads = createBatcher<string, FoundEvent | 'later' | null>({
    batchSize: EVENTS_MAX,
    concurrency: BATCHES,
    queueMax: QUEUE_MAX,
    async run(ids) {
      const found = await findEvents(db, { ids, deliveriesMax: DELIVERIES_MAX })
      return ids.map((id) => found.get(id) ?? null)
    },
  })
  const identities = createBatcher<Parameters<EventReader['identify']>[0], readonly EventIdentity[]>({
    batchSize: EVENTS_MAX,
    concurrency: BATCHES,
    queueMax: QUEUE_MAX,
    run: (asked) => identifyEvents(db, asked),
  })
  return {
    identify: (asked) => identities.add(asked).catch(rejectFull),
    async find(id) {
      for (;;) {
        // The first of a batch is always found, so that every question ends.
        const found = await reads.add(id).catch(rejectFull)
        if (found !== 'later') return found
      }
    },
  }
}

/** @throws a 503 problem if the queue is full, else the error as it came. */
function rejectFull(error: unknown): never {
  if (!(error instanceof QueueFullError)) throw error
  throw new ProblemError(
    {
      status: 503,
      title: 'Too many ask at once',
      detail: 'More events are asked for than can be read. The logout goes on: ask again.',
      headers: { 'retry-after': String(RETRY_AFTER_S) },
    },
    { cause: error },
  )
}
