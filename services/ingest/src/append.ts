import {
  type EventLog,
  EventLogUnavailableError,
  type LogLane,
  type LogRecord,
  RecordTooLargeError,
  WrongEventLogError,
} from '@curfew/domain'
import { type Batcher, createBatcher, ProblemError, QueueFullError } from '@curfew/runtime'
import { ELEMENTS_MAX } from './elements.ts'

/** Makes the records of one post durable. @param one the noun for a record in errors. @throws a 503 problem if it fails. */
export type Append = (records: readonly LogRecord[], one: string) => Promise<void>

const QUEUE_MAX = 20_000
const RETRY_AFTER_S = 2
/** The `Retry-After` of faults that an operator must correct first. */
const OPERATOR_S = 60

/** The result for one record. Null: it is durable. */
type Appended = RecordTooLargeError | null

/**
 * Creates an append that batches the records of concurrent posts. Each lane has its own queue, so a full lane does not block
 * another.
 */
export function createAppend(eventLog: Pick<EventLog, 'append'>): Append {
  const queue = (): Batcher<LogRecord, Appended> =>
    createBatcher({
      batchSize: ELEMENTS_MAX,
      queueMax: QUEUE_MAX,
      run: (records) => appendAll(eventLog, records),
    })
  const queues: Readonly<Record<LogLane, ReturnType<typeof queue>>> = {
    interactive: queue(),
    bulk: queue(),
    sessions: queue(),
  }
  return async (records, one) => {
    try {
      const byLane = Map.groupBy(records, ({ lane }) => lane)
      const appended = await Promise.all([...byLane].map(([lane, some]) => queues[lane].addAll(some)))
      const refused = appended.flat().find((result) => result !== null)
      if (refused !== undefined) throw refused
    } catch (error) {
      if (!(error instanceof EventLogUnavailableError || error instanceof QueueFullError)) throw error
      throw notAppended(error, one)
    }
  }
}

/** Appends the records of several posts. If one record is too large, it appends each record by itself. */
async function appendAll(
  eventLog: Pick<EventLog, 'append'>,
  records: readonly LogRecord[],
): Promise<readonly Appended[]> {
  try {
    await eventLog.append(records)
    return records.map(() => null)
  } catch (error) {
    if (!(error instanceof RecordTooLargeError)) throw error
    if (records.length === 1) return [error]
    return (await Promise.all(records.map((record) => appendAll(eventLog, [record])))).flat()
  }
}

/** The answer if the event log did not take a post. */
function notAppended(cause: EventLogUnavailableError | QueueFullError, one: string): ProblemError {
  const facts = (detail: string, retryAfterS: number) =>
    new ProblemError(
      {
        status: 503,
        title: 'Event log unavailable',
        detail,
        headers: { 'retry-after': String(retryAfterS) },
      },
      { cause },
    )
  if (cause instanceof WrongEventLogError)
    return facts(
      `This service uses another event log than the rest of Curfew, so no worker would read the ${one}. It was not accepted. The operator finds the cause in /readyz and with curfew doctor.`,
      OPERATOR_S,
    )
  if (cause instanceof RecordTooLargeError)
    return facts(
      `${cause.message}. The ${one} was not accepted. Send it again after the operator has changed this.`,
      OPERATOR_S,
    )
  return facts(
    `The event log did not store the ${one}, so it was not accepted. Send it again unchanged.`,
    RETRY_AFTER_S,
  )
}
