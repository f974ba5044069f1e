import type { GivenEventId, Issuer } from '@curfew/domain'
import {
  type Database,
  type EventIdentity,
  type FoundEvent,
  findEvents,
  identifyEvents,
} from '@curfew/ledger'
import { createBatcher, LATER, ProblemError, QueueFullError } from '@curfew/runtime'

/** Reads events with their deliveries, many who ask at once by two statements. Callers, which are credentials, take turns. */
export interface EventReader {
  /** Null where it is not (yet) planned. @throws {ProblemError} 429 when too many reads of the caller wait, 503 when too many of all do. */
  find(id: string, caller: string): Promise<FoundEvent | null>
  /** Looks up the events of a given id, at `iss` or, if that is null, at every issuer. @throws {ProblemError} as `find`. */
  identify(asked: {
    readonly givenId: GivenEventId
    readonly iss: Issuer | null
    readonly caller: string
  }): Promise<readonly EventIdentity[]>
}

/** Most events read together, and most deliveries of them: what is in memory at once, beside an event that has more by itself. */
const EVENTS_MAX = 200
const DELIVERIES_MAX = 5_000
/** While one batch is made into answers the database reads the next. */
const BATCHES = 2
/** Most who may wait for their turn. Each costs less than the connection that it asks over. */
const QUEUE_MAX = 50_000
/** Most of them of one credential. An IdP whose users all log out has thousands that end their waits together. */
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
        return event === 'later' ? LATER : event
      })
    },
  })
  const identities = createBatcher<Parameters<EventReader['identify']>[0], readonly EventIdentity[]>({
    ...fair,
    run: (asked) => identifyEvents(db, asked),
  })
  return {
    identify: (asked) => identities.add(asked).catch(rejectFull),
    find: (id, caller) => reads.add({ id, caller }).catch(rejectFull),
  }
}

/** @throws a 429 or 503 problem if the queue is full, else the error as it came. */
function rejectFull(error: unknown): never {
  if (!(error instanceof QueueFullError)) throw error
  throw new ProblemError(
    {
      status: error.ofCaller ? 429 : 503,
      title: 'Too many ask at once',
      detail: `More events are asked for${error.ofCaller ? ' with this credential' : ''} than can be read. The logout goes on: ask again.`,
      headers: { 'retry-after': String(RETRY_AFTER_S) },
    },
    { cause: error },
  )
}
