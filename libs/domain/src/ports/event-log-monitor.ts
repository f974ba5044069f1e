import type { LogLane } from './event-log.ts'

// The state of the event log, for operators: the lag of its consumers, and the settings of its topics.

/** The lag of one lane's consumers. If it is unknown, `unknown` says why. */
export type LaneState =
  | { readonly lane: LogLane; readonly unknown: string }
  | {
      readonly lane: LogLane
      readonly unknown: null
      /** Records that wait for a consumer. The log in PostgreSQL counts to `WAITING_MAX`. */
      readonly waiting: number
      /** How long the oldest of them has waited, in seconds; 0 if none waits. For Kafka it is accurate to about a tenth. */
      readonly oldestSeconds: number
      /** Partitions without a consumer. Null if consumers own no partitions. */
      readonly unassigned: readonly number[] | null
      /** Records that retention removed before a consumer had read them. */
      readonly removed: number
    }

/** A wrong setting of a topic. */
export interface TopicFault {
  /** The name of the setting, such as `retention.ms` or `partitions`. */
  readonly setting: string
  readonly actual: string
  readonly wanted: string
  /** The consequence, in one clause. */
  readonly why: string
  /** How to correct it, as a command if there is one. Several faults of a topic may have the same fix. */
  readonly fix: string
  /** Whether the fault can lose accepted records or make the log refuse records. */
  readonly severe: boolean
}

/** Describes a fault in one sentence, without its fix. */
export function topicFaultText({ setting, actual, wanted, why, severe }: Omit<TopicFault, 'fix'>): string {
  return `${setting} is ${actual} and ${severe ? 'must' : 'should'} be ${wanted}: ${why}`
}

export interface TopicState {
  readonly topic: string
  readonly faults: readonly TopicFault[]
}

export interface EventLogState {
  /** The name of the event log, which is the same for all services that use it. */
  readonly name: string
  /** The ids of unavailable brokers with copies of the topics. Empty for the log in PostgreSQL. */
  readonly brokersUnavailable: readonly number[]
  readonly lanes: readonly LaneState[]
  /** Empty for the log in PostgreSQL. */
  readonly topics: readonly TopicState[]
}

/** Observes the event log without consuming it. It has the same two implementations as `EventLog`. */
export interface EventLogMonitor {
  readonly store: 'kafka' | 'postgresql'
  /** Reads the state of the log. Concurrent calls share one read. @throws {EventLogUnavailableError} */
  look(): Promise<EventLogState>
}

/** The most waiting records of a lane that the log in PostgreSQL counts. */
export const WAITING_MAX = 100_000
