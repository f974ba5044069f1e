import type { LogLane } from './event-log.ts'

// How the event log stands, for operators: how far its consumers are behind, and whether its topics are as they must be.

/** How far the consumers of one lane are behind; `unknown` says why it cannot be told. */
export type LaneState =
  | { readonly lane: LogLane; readonly unknown: string }
  | {
      readonly lane: LogLane
      readonly unknown: null
      /** Records that wait for a consumer. The log in PostgreSQL counts to `WAITING_MAX`. */
      readonly waiting: number
      /** How long the oldest of them has waited, in seconds; 0 where none waits. Kafka tells it to about a tenth. */
      readonly oldestSeconds: number
      /** Partitions that belong to no consumer. Null where consumers own no partitions. */
      readonly unassigned: readonly number[] | null
      /** Records that the log removed before a consumer had read them. */
      readonly removed: number
    }

/** A setting of a topic that is not as it must be. */
export interface TopicFault {
  /** Such as `retention.ms`, or `partitions`. */
  readonly setting: string
  readonly actual: string
  readonly wanted: string
  /** What comes of it, in one clause. */
  readonly why: string
  /** How it is mended: a command where there is one. Several faults of a topic can have the same. */
  readonly fix: string
  /** Whether accepted records can be lost by it, or records be refused. */
  readonly severe: boolean
}

/** A fault in words. */
export function topicFaultText({ setting, actual, wanted, why, severe }: Omit<TopicFault, 'fix'>): string {
  return `${setting} is ${actual} and ${severe ? 'must' : 'should'} be ${wanted}: ${why}`
}

export interface TopicState {
  readonly topic: string
  readonly faults: readonly TopicFault[]
}

export interface EventLogState {
  /** The name of the event log, the same for all that use it. */
  readonly name: string
  /** The ids of brokers that have copies of the topics and are unavailable. None where the log is in PostgreSQL. */
  readonly brokersGone: readonly number[]
  readonly lanes: readonly LaneState[]
  /** None where the log is in PostgreSQL. */
  readonly topics: readonly TopicState[]
}

/** Looks at the event log from outside. Two implementations, as of `EventLog`. */
export interface EventLogMonitor {
  readonly store: 'kafka' | 'postgresql'
  /** Looks that are asked for at the same time are one. @throws {EventLogUnavailableError} */
  look(): Promise<EventLogState>
}

/** Most records of a lane that the log in PostgreSQL counts. */
export const WAITING_MAX = 100_000
