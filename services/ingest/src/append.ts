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

/** Makes the records of one post durable. @param one what a record is, for people. @throws a 503 problem where that cannot be. */
export type Append = (records: readonly LogRecord[], one: string) => Promise<void>

const QUEUE_MAX = 20_000
const RETRY_AFTER_S = 2
/** Where an operator must change a setting first. */
const OPERATOR_S = 60

/** Null: it is durable. */
type Appended = RecordTooLargeError | null

/** Appends the records of posts that come at once together. Each lane has its own queue: a full one fills no other. */
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
      const refused = appended.flat().find((each) => each !== null)
      if (refused !== undefined) throw refused
    } catch (error) {
      if (!(error instanceof EventLogUnavailableError || error instanceof QueueFullError)) throw error
      throw notAppended(error, one)
    }
  }
}

/** Appends records of several posts together. One that is too large costs the others nothing. */
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

/** The answer where the event log did not take what was posted. */
function notAppended(cause: EventLogUnavailableError | QueueFullError, one: string): ProblemError {
  const facts = (detail: string, retryAfterS: number) =>
    new ProblemError(
      {
        status: 503,
        title: 'Event log not available',
        detail,
        headers: { 'retry-after': String(retryAfterS) },
      },
      { cause },
    )
  if (cause instanceof WrongEventLogError)
    return facts(
      `This service uses another event log than the rest of Curfew, and no worker would read it. The ${one} was not accepted. The operator finds more in /readyz and curfew doctor.`,
      OPERATOR_S,
    )
  if (cause instanceof RecordTooLargeError)
    return facts(
      `${cause.message}. The ${one} was not accepted. Send it again when the operator has done so.`,
      OPERATOR_S,
    )
  return facts(
    `The ${one} could not be made durable and was not accepted. Send it again as it was.`,
    RETRY_AFTER_S,
  )
}
