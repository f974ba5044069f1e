import type { EventLogMonitor, LaneState } from '@curfew/domain'
import type { Metrics } from '@curfew/runtime'
import type { Job } from '../repeat.ts'
import { createReading } from './reading.ts'

type KnownLane = Extract<LaneState, { readonly unknown: null }>

/**
 * Creates the job that reports how far the workers are behind the event log. The ledger does not know an event before it is
 * planned. A value that cannot be read is left out, so that an alert can detect its absence.
 */
export function createEventLogJob({ monitor, metrics }: { monitor: EventLogMonitor; metrics: Metrics }): Job {
  const reading = createReading('event log', () => monitor.look())
  const byLane = (read: (lane: KnownLane) => number | null) => () =>
    (reading.latest()?.lanes ?? []).flatMap((lane) => {
      const value = lane.unknown === null ? read(lane) : null
      return value === null ? [] : [{ labels: { lane: lane.lane }, value }]
    })
  metrics.gauges(
    'event_log_oldest_seconds',
    'Age of the oldest record in the event log that waits to be planned or applied.',
    ['lane'],
    byLane(({ oldestSeconds }) => oldestSeconds),
  )
  metrics.gauges(
    'event_log_lag_records',
    'Records in the event log that wait to be planned or applied.',
    ['lane'],
    byLane(({ waiting }) => waiting),
  )
  metrics.gauges(
    'event_log_unassigned_partitions',
    'Partitions of the Kafka topic that no delivery worker consumes.',
    ['lane'],
    byLane(({ unassigned }) => unassigned?.length ?? null),
  )
  metrics.gauges(
    'event_log_topic_faults',
    'Settings of the Kafka topic that can cause records to be lost or refused.',
    ['topic'],
    () =>
      (reading.latest()?.topics ?? []).map(({ topic, faults }) => ({
        labels: { topic },
        value: faults.filter(({ severe }) => severe).length,
      })),
  )
  return reading
}
