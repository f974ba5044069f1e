import { DESTINATIONS } from '@curfew/contract'
import type { BatchHandler, ConsumedRecord, LogLane } from '@curfew/domain'
import { inSpan, type Span, startBatchSpan } from '@curfew/runtime'

/**
 * Wraps a handler of batches in a span for each batch, with links to its records: they belong to different traces.
 *
 * @param handlerOf makes the handler of one batch.
 */
export function spanning(lane: LogLane, handlerOf: (span: Span) => BatchHandler): BatchHandler {
  return (records, slow) => {
    const span = startProcess(lane, records)
    return inSpan(
      span,
      () => handlerOf(span)(records, slow),
      (quarantined) => ({ 'curfew.quarantined': quarantined.length }),
    )
  }
}

function startProcess(lane: LogLane, records: readonly ConsumedRecord[]): Span {
  return startBatchSpan({
    name: `process ${DESTINATIONS[lane]}`,
    role: 'consumer',
    items: records.map(({ headers }) => headers.traceparent ?? null),
    attributes: () => ({
      'messaging.operation.name': 'process',
      'messaging.operation.type': 'process',
      'messaging.destination.name': DESTINATIONS[lane],
      'messaging.batch.message_count': records.length,
    }),
  })
}
