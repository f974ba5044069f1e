import type { EventId } from '@curfew/domain'
import { errorTypeOf, type Span, startSpan } from '@curfew/runtime'
import type { Incoming } from './read-batch.ts'

/** The spans of the events that are planned together. */
export interface PlanSpans {
  /** The events, with the context of their spans: the parent of their attempts, in whatever process. */
  readonly batch: readonly Incoming[]
  /** Ends the spans. @param written null if the plan failed because of `error`. */
  end(written: { readonly planned: ReadonlySet<EventId> } | null, error?: unknown): void
}

/** Starts the span of each event's plan, below the span that sent the event, with a link to the span of the batch. */
export function startPlans(batch: readonly Incoming[], batchSpan: Span): PlanSpans {
  const links = batchSpan.recorded ? [batchSpan.traceparent] : []
  const recorded: { readonly id: EventId; readonly span: Span }[] = []
  const traced = batch.map((incoming) => {
    const { event, traceparent: parent } = incoming
    if (parent === null) return incoming
    const span = startSpan({
      ...{ name: 'plan', role: 'internal', parent, links },
      attributes: () => ({ 'curfew.event.id': event.givenId, 'curfew.lane': event.lane }),
    })
    if (!span.recorded) return incoming
    recorded.push({ id: event.id, span })
    return { ...incoming, traceparent: span.traceparent }
  })
  return {
    batch: recorded.length === 0 ? batch : traced,
    end(written, error) {
      for (const { id, span } of recorded) {
        // An event that was delivered to this worker twice is planned once.
        if (written !== null) span.end({ 'curfew.planned': written.planned.has(id) })
        else span.end(undefined, errorTypeOf(error))
      }
    },
  }
}
