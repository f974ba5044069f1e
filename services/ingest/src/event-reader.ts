import type { GivenEventId, Issuer, UnnotifiedClients } from '@curfew/domain'
import {
  type Database,
  type EventIdentity,
  type FoundEvent,
  findEvents,
  findUnnotified,
  identifyEvents,
} from '@curfew/ledger'
import { createBatcher, DEFERRED, ProblemError, QueueFullError } from '@curfew/runtime'

/**
 * Reads events with their deliveries. It batches concurrent reads into few statements, and serves callers (credentials) in turn.
 */
export interface EventReader {
  /**
   * @returns null if no event has the id, or it is not planned yet.
   * @throws {ProblemError} 429 if too many reads of the caller wait, 503 if too many reads of all callers wait.
   */
  find(id: string, caller: string): Promise<FoundEvent | null>
  /** Finds the events with a given id, at `iss` or, if `iss` is null, at every issuer. @throws {ProblemError} as `find` does. */
  identify(asked: {
    readonly givenId: GivenEventId
    readonly iss: Issuer | null
    readonly caller: string
  }): Promise<readonly EventIdentity[]>
  /** Finds the clients that get no delivery of an event. @throws {ProblemError} as `find` does. */
  unnotified(found: FoundEvent, caller: string): Promise<UnnotifiedClients>
}

/** The greatest number of events in one batch. */
const EVENTS_MAX = 200
/** The greatest number of deliveries in one batch, which limits memory. A single event with more is read by itself. */
const DELIVERIES_MAX = 5_000
/** While the process converts one batch to answers, the database reads the next one. */
const BATCHES = 2
/** The greatest number of waiting reads. A waiting read costs less memory than its connection. */
const QUEUE_MAX = 50_000
/**
 * The greatest number of waiting reads of one credential. At an issuer logout, thousands of waits of one IdP end at the same
 * time.
 */
const QUEUE_MAX_OF_CALLER = 10_000
const RETRY_AFTER_S = 2

export function createEventReader(db: Database): EventReader {
  const fair = {
    batchSize: EVENTS_MAX,
    concurrency: BATCHES,
    queueMax: QUEUE_MAX,
    queueMaxOfCaller: QUEUE_MAX_OF_CALLER,
    callerOf: ({ caller }: { readonly caller: string }) => caller,
  }
  const reads = createBatcher<{ readonly id: string; readonly caller: string }, FoundEvent | null>({
    ...fair,
    async run(asked) {
      const found = await findEvents(db, { ids: asked.map(({ id }) => id), deliveriesMax: DELIVERIES_MAX })
      return asked.map(({ id }) => {
        const event = found.get(id) ?? null
        return event === 'later' ? DEFERRED : event
      })
    },
  })
  const identities = createBatcher<Parameters<EventReader['identify']>[0], readonly EventIdentity[]>({
    ...fair,
    run: (asked) => identifyEvents(db, asked),
  })
  const unnotified = createBatcher<
    { readonly found: FoundEvent; readonly caller: string },
    UnnotifiedClients
  >({
    ...fair,
    run: (asked) =>
      findUnnotified(
        db,
        asked.map(({ found }) => found),
      ),
  })
  return {
    unnotified: (found, caller) => unnotified.add({ found, caller }).catch(rejectFull),
    identify: (asked) => identities.add(asked).catch(rejectFull),
    find: (id, caller) => reads.add({ id, caller }).catch(rejectFull),
  }
}

/** @throws a 429 or 503 problem if the queue is full, else the error itself. */
function rejectFull(error: unknown): never {
  if (!(error instanceof QueueFullError)) throw error
  throw new ProblemError(
    {
      status: error.perCaller ? 429 : 503,
      title: 'Too many reads of events',
      detail: `Too many reads of events${error.perCaller ? ' with this credential' : ''} are waiting. The logout goes on. Ask again shortly.`,
      headers: { 'retry-after': String(RETRY_AFTER_S) },
    },
    { cause: error },
  )
}
