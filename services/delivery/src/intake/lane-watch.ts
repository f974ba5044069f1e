import type { ConsumeOptions, Consumer, LogLane } from '@curfew/domain'
import type { DeliveryLedger } from '@curfew/ledger'
import { createThrottle, type Log, type Metrics } from '@curfew/runtime'
import type { Worker } from '../worker/worker.ts'

export interface LaneWatchDeps {
  readonly ledger: Pick<DeliveryLedger, 'noticeRemoved'>
  readonly worker: Pick<Worker, 'able'>
  readonly log: Log
  readonly metrics: Metrics
}

/** The options common to the consumers of all lanes: they report faults, and tell whether this worker may consume. */
export type LaneWatch = (
  lane: LogLane,
) => Pick<ConsumeOptions, 'lane' | 'able' | 'onError'> & Required<Pick<ConsumeOptions, 'onFault'>>

export function createLaneWatch({ ledger, worker, log, metrics }: LaneWatchDeps): LaneWatch {
  const removed = metrics.counter(
    'event_log_records_removed_total',
    'Records that retention removed from the event log before a worker read them. Counts 1 if the number is unknown.',
    ['lane'],
  )
  const rewinds = metrics.counter(
    'event_log_rewinds_total',
    'Rewinds of event log partitions that lost their newest records or were recreated.',
    ['lane'],
  )
  const isTime = createThrottle()
  return (lane) => ({
    lane,
    able: () => worker.able(),
    onError(error) {
      // The error repeats with every try, which may be several times a second.
      const message = error instanceof Error ? error.message : String(error)
      if (isTime(`${lane} ${message}`)) log.warn({ event: 'event-log.consume-failed', lane, err: error })
    },
    async onFault(fault) {
      const { kind, partition, from, to } = fault
      if (kind === 'rewound') {
        rewinds.inc({ lane })
        log.error({ event: 'event-log.rewound', lane, partition, from, to })
        return
      }
      await ledger.noticeRemoved(fault)
      const records = from === null ? null : to - from
      removed.inc({ lane }, records ?? 1)
      log.error({ event: 'event-log.records-removed', lane, partition, from, to, records })
    },
  })
}

/** Throws while a lane has records that this worker cannot read. */
export function checkLanes(consumers: readonly Consumer[]): void {
  for (const consumer of consumers) {
    const status = consumer.status()
    if (status.state === 'unreadable') {
      throw new Error(`the event log cannot be read: ${status.error.message}`, { cause: status.error })
    }
  }
}
