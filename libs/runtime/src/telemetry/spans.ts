import {
  type Attributes,
  type Context,
  type Link,
  type Span as OtelSpan,
  ROOT_CONTEXT,
  type SpanContext,
  SpanKind,
  SpanStatusCode,
  type Tracer,
  trace,
} from '@opentelemetry/api'
import { isSampled, newTraceparent, parseTraceparent, traceIdOf } from './traceparent.ts'

// Spans take their parent as a `traceparent`, because the steps of one logout run in several processes, and hours apart. There is no
// ambient context. While nothing is exported, and in traces that are not recorded, a span is one small object.

/** The tracer of this process, while spans are exported. */
interface Tracing {
  readonly tracer: Tracer
  /** Whether a span is never recorded if its parent is not (the `parentbased_` samplers). */
  readonly parentDecides: boolean
  /** Attributes of every span that sends or processes messages. */
  readonly messaging: Attributes
}

let tracing: Tracing | null = null

/** Begins to record spans. @returns the function that ends it. */
export function record(to: Tracing): () => void {
  tracing = to
  return () => {
    if (tracing === to) tracing = null
  }
}

/** One step of a logout, or of a request. */
export interface Span {
  /** The trace context of the work that the step causes. */
  readonly traceparent: string
  readonly recorded: boolean
  /** Sets further attributes and ends the span. @param error the class of the failure, if the step failed. */
  end(attributes?: Attributes, error?: string | null): void
}

export type SpanRole = 'server' | 'client' | 'producer' | 'consumer' | 'internal'

export interface SpanOptions {
  readonly name: string
  readonly role: SpanRole
  /** The `traceparent` of the step that caused this one; null if there is none. */
  readonly parent: string | null
  /** Called only if the span is recorded. */
  readonly attributes?: () => Attributes
  /** Spans that are related, but not the parent. */
  readonly links?: readonly (string | null)[]
}

const KINDS: Readonly<Record<SpanRole, SpanKind>> = {
  server: SpanKind.SERVER,
  client: SpanKind.CLIENT,
  producer: SpanKind.PRODUCER,
  consumer: SpanKind.CONSUMER,
  internal: SpanKind.INTERNAL,
}

/**
 * Starts a span. Without a parent it begins a trace. A span that is not recorded passes its parent's context on, so that the trace
 * of a caller reaches the last step even if this process records nothing.
 */
export function startSpan({ name, role, parent, attributes, links = [] }: SpanOptions): Span {
  if (tracing === null || (parent !== null && tracing.parentDecides && !isSampled(parent)))
    return new Unrecorded(parent ?? newTraceparent())
  const { tracer, messaging } = tracing
  const context = parent === null ? ROOT_CONTEXT : contextOf(parent)
  const span = tracer.startSpan(name, { kind: KINDS[role], links: links.flatMap(linkTo) }, context)
  const traceparent = traceparentOf(span.spanContext())
  if (!span.isRecording()) return new Unrecorded(parent ?? traceparent)
  if (role === 'producer' || role === 'consumer') span.setAttributes(messaging)
  if (attributes !== undefined) span.setAttributes(attributes())
  return new Recorded(span, traceparent)
}

/**
 * Starts the span of a batch, whose items belong to different traces. It has links to the recorded ones, and is a child of the first
 * of them: a sampler that decided about a trace of its own would rarely record the batches of recorded traces.
 */
export function startBatchSpan({
  items,
  ...options
}: Omit<SpanOptions, 'parent' | 'links'> & { readonly items: readonly (string | null)[] }): Span {
  if (tracing === null) return NO_BATCH
  const recorded = items.flatMap((item) => {
    const valid = item === null ? null : parseTraceparent(item)
    return valid !== null && isSampled(valid) ? [valid] : []
  })
  const [first] = recorded
  if (first === undefined) return NO_BATCH
  return startSpan({ ...options, parent: first, links: recorded })
}

/**
 * Does the work of a span, and ends the span with the outcome.
 *
 * @param failureOf the class of the failure if the value means one, otherwise null. Default: no value does.
 */
export async function inSpan<Value>(
  span: Span,
  work: () => Promise<Value>,
  attributes?: (value: Value) => Attributes,
  failureOf: (value: Value) => string | null = () => null,
): Promise<Value> {
  if (!span.recorded) return work()
  try {
    const value = await work()
    span.end(attributes?.(value), failureOf(value))
    return value
  } catch (error) {
    span.end(undefined, errorTypeOf(error))
    throw error
  }
}

/** The class of an error. Its message stays out of spans: it may repeat what a peer or a subject wrote. */
export function errorTypeOf(error: unknown): string {
  if (!(error instanceof Error)) return '_OTHER'
  return 'code' in error && typeof error.code === 'string' ? error.code : error.name
}

class Unrecorded implements Span {
  readonly traceparent: string
  readonly recorded = false

  constructor(traceparent: string) {
    this.traceparent = traceparent
  }

  end(): void {
    // Nothing was recorded.
  }
}

class Recorded implements Span {
  readonly traceparent: string
  readonly recorded = true
  readonly #span: OtelSpan

  constructor(span: OtelSpan, traceparent: string) {
    this.#span = span
    this.traceparent = traceparent
  }

  end(attributes?: Attributes, error: string | null = null): void {
    if (attributes !== undefined) this.#span.setAttributes(attributes)
    if (error !== null) {
      this.#span.setAttribute('error.type', error)
      this.#span.setStatus({ code: SpanStatusCode.ERROR })
    }
    this.#span.end()
  }
}

/** The span of a batch in which no trace is recorded. It is the parent of nothing. */
const NO_BATCH: Span = new Unrecorded(newTraceparent())

function contextOf(traceparent: string): Context {
  return trace.setSpanContext(ROOT_CONTEXT, spanContextOf(traceparent))
}

function spanContextOf(traceparent: string): SpanContext {
  return {
    traceId: traceIdOf(traceparent),
    spanId: traceparent.slice(36, 52),
    traceFlags: Number.parseInt(traceparent.slice(53), 16),
    isRemote: true,
  }
}

function traceparentOf({ traceId, spanId, traceFlags }: SpanContext): string {
  return `00-${traceId}-${spanId}-${traceFlags.toString(16).padStart(2, '0')}`
}

function linkTo(traceparent: string | null): readonly Link[] {
  return traceparent === null || !isSampled(traceparent) ? [] : [{ context: spanContextOf(traceparent) }]
}
