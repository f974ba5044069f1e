import type { Lane } from '../logout/event.ts'
import type { QuarantineKind } from '../logout/quarantine.ts'

/**
 * A lane of the event log: those of logouts, and one for what IdPs say of sessions, so that a storm of logins never delays
 * a logout.
 */
export type LogLane = Lane | 'sessions'

/** A ledger, as commits in an event log name it that several ledgers can reach. */
export interface LedgerId {
  readonly id: string
  /** The database, which tells a copy of the ledger from the ledger; null where that is not known. */
  readonly database: string | null
}

/** The ledger of this process. */
export interface OwnLedger extends LedgerId {
  /** Since then the event log is of this ledger, whichever ledger used it before; in milliseconds. Null: an operator never said so. */
  readonly takenMs: number | null
}

/** One record on its way into the event log. */
export interface LogRecord {
  readonly lane: LogLane
  /** Records of one key are consumed in the order in which their appends were called. */
  readonly key: string
  readonly value: Uint8Array
  readonly headers: Readonly<Record<string, string>>
}

/** One record on its way out. */
export interface ConsumedRecord extends LogRecord {
  /** Where it lies in the log, for people to read: partition and offset. */
  readonly position: string
}

/** A record that could not be planned or applied. No relying party is owed anything for it yet. */
export interface Quarantined {
  readonly record: ConsumedRecord
  readonly kind: QuarantineKind
  /** In words. */
  readonly reason: string
}

/**
 * Stores records in quarantine. A record that is given twice is stored once. No content of a record makes it reject.
 *
 * @throws {LedgerUnavailableError}
 */
export type Quarantine = (records: readonly Quarantined[]) => Promise<void>

/**
 * Handles one batch. When it resolves, the records it returned are put into quarantine and the whole batch is
 * committed; when it rejects, nothing is committed and the same records come again, after a pause, in the same order.
 *
 * @param slow to be called where the rest of the batch takes long. A log that can hands out other batches meanwhile, of the same
 * partitions too, but with none of its keys. Without effect where `SLOW_BATCHES_MAX` are slow already.
 */
export type BatchHandler = (
  batch: readonly ConsumedRecord[],
  slow: () => void,
) => Promise<readonly Quarantined[]>

/** Most batches of one consumer that are slow at once: what they hold is in memory. */
export const SLOW_BATCHES_MAX = 16

export interface ConsumeOptions {
  readonly lane: LogLane
  /** Most records in one batch. */
  readonly batchSize: number
  /** Most batches being handled at once in this consumer, beside slow ones. Two batches at once never hold the same key. */
  readonly batchesInFlight: number
  /** Told of every failure that the consumer recovers from by itself: a rejected batch, a lost connection. */
  onError(error: unknown): void
  /**
   * False while this process cannot work. A log that deals records out to its consumers then gives this one's to the others, until it
   * can work again. Default: it always can.
   */
  readonly able?: () => boolean
  /** Told of a fault of the log, before the partition is read on. The fault is told again where this rejects. */
  readonly onFault?: (fault: LogFault) => Promise<void>
}

/**
 * The log and the place up to which it was handled do not fit together. `removed`: retention removed records before anything read them.
 * `rewound`: the log lost its end, or was made anew; records are read again, so that none is skipped.
 */
export interface LogFault {
  readonly kind: 'removed' | 'rewound'
  readonly lane: LogLane
  /** For people to read, such as `logout.events/3`. */
  readonly partition: string
  /** The position that was to be read next; null where no commit says it. */
  readonly from: number | null
  /** The position that is read next instead. */
  readonly to: number
}

/** What a consumer is doing. `left`: it takes no part, for it was stopped or its process cannot work. */
export type ConsumerStatus =
  | { readonly state: 'consuming' | 'joining' | 'left' }
  /** The log has records that this consumer cannot read, or may not read. */
  | { readonly state: 'unreadable'; readonly error: Error }

/** A running consumption. All consumers of a lane, in all processes, share its records: each comes to one of them. */
export interface Consumer {
  /** Stops handing out batches. What is being handled goes on and is committed. Partitions are kept. */
  pause(): void
  resume(): void
  status(): ConsumerStatus
  /** Hands out no more, waits until what is being handled is committed, and leaves. Idempotent. */
  stop(): Promise<void>
}

/**
 * The durable, ordered way in. Two real implementations (Kafka in the broker library, PostgreSQL in the ledger
 * library) and a memory one for simulation; one contract test holds them to these words.
 */
export interface EventLog {
  /**
   * Resolves when every record is durable: it survives the loss of any one process. On rejection some may have
   * been appended all the same; the caller appends again, and consumers see at least once.
   *
   * @throws {EventLogUnavailableError} when durability could not be confirmed in time.
   * @throws {RecordTooLargeError} when the log refuses one of the records for its size.
   */
  append(records: readonly LogRecord[]): Promise<void>
  /** Begins to consume. Connection losses are reported to `onError` and recovered from, however long they last. */
  consume(options: ConsumeOptions, handle: BatchHandler): Consumer
  /**
   * Resolves when every lane takes records.
   *
   * @throws {EventLogDegradedError} when the interactive lane does, and another does not.
   * @throws {EventLogUnavailableError}
   */
  check(): Promise<void>
  /** Releases connections. Call after every consumer has stopped. */
  close(): Promise<void>
}
