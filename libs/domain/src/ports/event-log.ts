import type { Lane } from '../logout/event.ts'
import type { QuarantineKind } from '../logout/quarantine.ts'

/**
 * A lane of the event log: the lanes of logouts, and one for session starts and ends. The separate lane keeps a storm of logins
 * from delaying a logout.
 */
export type LogLane = Lane | 'sessions'

/** The name of a ledger in the commits of an event log. Several ledgers may be able to reach one event log. */
export interface LedgerId {
  readonly id: string
  /** The database, which distinguishes a ledger from its copy; null if unknown. */
  readonly database: string | null
}

/** The ledger of this process. */
export interface OwnLedger extends LedgerId {
  /** When an operator took the event log over for this ledger from other ledgers, in milliseconds since 1970; null if never. */
  readonly takenMs: number | null
}

/** A record to append to the event log. */
export interface LogRecord {
  readonly lane: LogLane
  /** Records with one key are consumed in the order of their appends. */
  readonly key: string
  readonly value: Uint8Array
  readonly headers: Readonly<Record<string, string>>
}

/** A record consumed from the event log. */
export interface ConsumedRecord extends LogRecord {
  /** The place in the log, for people: partition and offset. */
  readonly position: string
}

/** A record that could not be planned or applied. It owes no delivery yet. */
export interface Quarantined {
  readonly record: ConsumedRecord
  readonly kind: QuarantineKind
  /** The reason for people. */
  readonly reason: string
}

/**
 * Stores records in quarantine. A repeated record is stored once. The content of a record never makes a call reject.
 *
 * @throws {LedgerUnavailableError}
 */
export type Quarantine = (records: readonly Quarantined[]) => Promise<void>

/**
 * Handles one batch. When the handler resolves, the returned records go into quarantine and the whole batch is committed. When it
 * rejects, nothing is committed, and the same records come again in the same order after a pause.
 *
 * @param slow the handler calls it if the rest of the batch takes long. The log may then hand out other batches meanwhile, even
 * of the same partitions, but never with the same keys. The call has no effect while `SLOW_BATCHES_MAX` batches are slow.
 */
export type BatchHandler = (
  batch: readonly ConsumedRecord[],
  slow: () => void,
) => Promise<readonly Quarantined[]>

/** The most slow batches of one consumer at a time. It is limited because their records stay in memory. */
export const SLOW_BATCHES_MAX = 16

export interface ConsumeOptions {
  readonly lane: LogLane
  /** The most records in one batch. */
  readonly batchSize: number
  /** The most batches handled at a time by this consumer, not counting slow ones. Concurrent batches never share a key. */
  readonly batchesInFlight: number
  /** Called with every failure that the consumer recovers from by itself, such as a rejected batch or a lost connection. */
  onError(error: unknown): void
  /**
   * False while this process cannot work. A log that assigns records to consumers then assigns them to the others. Default:
   * always true.
   */
  readonly able?: () => boolean
  /** Called with a fault of the log before the log reads the partition further. If it rejects, it is called again. */
  readonly onFault?: (fault: LogFault) => Promise<void>
}

/**
 * A mismatch between the log and the committed position.
 * - `removed`: retention removed records before any consumer read them.
 * - `rewound`: the log lost its end, or was created again. Records are read again, so that none is skipped.
 */
export interface LogFault {
  readonly kind: 'removed' | 'rewound'
  readonly lane: LogLane
  /** The partition, for people, such as `logout.events/3`. */
  readonly partition: string
  /** The expected next position; null without a commit. */
  readonly from: number | null
  /** The actual next position. */
  readonly to: number
}

/** The status of a consumer. `left`: the consumer was stopped, or its process cannot work. */
export type ConsumerStatus =
  | { readonly state: 'consuming' | 'joining' | 'left' }
  /** The log has records that this consumer cannot or may not read. */
  | { readonly state: 'unreadable'; readonly error: Error }

/** A running consumer. All consumers of a lane, in all processes, share its records; a record goes to one of them. */
export interface Consumer {
  /** Stops handing out batches. Batches under way are finished and committed. The consumer keeps its partitions. */
  pause(): void
  resume(): void
  status(): ConsumerStatus
  /** Stops handing out batches, waits until the batches under way are committed, and leaves. Idempotent. */
  stop(): Promise<void>
}

/**
 * The durable, ordered log of accepted events. It has two real implementations (Kafka in libs/broker, PostgreSQL in libs/ledger)
 * and one in memory for the simulation. One contract test checks all of them against these comments.
 */
export interface EventLog {
  /**
   * Resolves when every record is durable, so that it survives the loss of any one process. If it rejects, some records may be
   * appended nevertheless. The caller appends all again, and consumers see a record at least once.
   *
   * @throws {EventLogUnavailableError} if durability was not confirmed in time.
   * @throws {RecordTooLargeError} if the log refuses a record because of its size.
   */
  append(records: readonly LogRecord[]): Promise<void>
  /** Starts a consumer. It reports connection losses to `onError` and recovers from losses of any length. */
  consume(options: ConsumeOptions, handle: BatchHandler): Consumer
  /**
   * Resolves if every lane accepts records.
   *
   * @throws {EventLogDegradedError} if the interactive lane accepts records, but another lane does not.
   * @throws {EventLogUnavailableError}
   */
  check(): Promise<void>
  /** Releases connections. Call after every consumer has stopped. */
  close(): Promise<void>
}
