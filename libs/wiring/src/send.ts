import { DESTINATIONS } from '@curfew/contract'
import type { LogLane, LogRecord } from '@curfew/domain'
import { errorTypeOf, type Span, startSpan } from '@curfew/runtime'

/** Things to append to the event log. */
export interface Sending<Item> {
  readonly items: readonly Item[]
  /** The trace context of what caused them; null begins a trace. */
  readonly parent: string | null
  laneOf(item: Item): LogLane
  /** Makes the record of an item. The record carries the trace context. */
  encode(item: Item, traceparent: string): LogRecord
}

/**
 * Makes records and appends them, in one span for each lane. The records carry the context of the span, so that the trace goes on
 * at the worker that reads them.
 *
 * @param failureOf the class of the failure if a result means that the records are not durable, otherwise null.
 */
export async function send<Item, Result>(
  { items, parent, laneOf, encode }: Sending<Item>,
  append: (records: readonly LogRecord[]) => Promise<Result>,
  failureOf: (result: Result) => string | null = () => null,
): Promise<Result> {
  const spans = new Map<LogLane, Span>()
  const records = items.map((item) => encode(item, spanOf(laneOf(item)).traceparent))
  const end = (error: string | null) => {
    for (const span of spans.values()) span.end(undefined, error)
  }
  try {
    const result = await append(records)
    end(failureOf(result))
    return result
  } catch (error) {
    end(errorTypeOf(error))
    throw error
  }

  function spanOf(lane: LogLane): Span {
    const known = spans.get(lane)
    if (known !== undefined) return known
    const span = startSpan({
      name: `send ${DESTINATIONS[lane]}`,
      role: 'producer',
      parent,
      attributes: () => ({
        'messaging.operation.name': 'send',
        'messaging.operation.type': 'send',
        'messaging.destination.name': DESTINATIONS[lane],
        'messaging.batch.message_count': items.filter((item) => laneOf(item) === lane).length,
      }),
    })
    spans.set(lane, span)
    return span
  }
}
