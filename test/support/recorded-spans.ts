import { record } from '@curfew/runtime'
import { SpanKind, SpanStatusCode } from '@opentelemetry/api'
import {
  InMemorySpanExporter,
  type ReadableSpan,
  SimpleSpanProcessor,
  TracerProvider,
} from '@opentelemetry/sdk-trace'
import { expect } from 'vitest'
import { eventually } from './curfew.ts'

// The spans of services that run in the process of the test.

/** An ended span. */
export interface RecordedSpan {
  readonly name: string
  /** In upper case, such as `PRODUCER`. */
  readonly kind: string
  readonly traceId: string
  readonly spanId: string
  /** Null for the first span of a trace. */
  readonly parentSpanId: string | null
  readonly attributes: Readonly<Record<string, unknown>>
  readonly linkedSpanIds: readonly string[]
  readonly isError: boolean
}

export interface RecordedSpans {
  /** The ended spans of a trace, or of all traces. */
  of(traceId?: string): readonly RecordedSpan[]
  /** Waits until a trace has exactly `count` spans with this name. */
  named(traceId: string, name: string, count: number): Promise<readonly RecordedSpan[]>
  /** Waits until a trace has exactly one span with this name. */
  one(traceId: string, name: string): Promise<RecordedSpan>
  /** Everything that would be exported, as text. */
  text(): string
  end(): void
}

/** Records every span of this process until `end`. */
export function recordSpans(): RecordedSpans {
  const exporter = new InMemorySpanExporter()
  const provider = new TracerProvider({ spanProcessors: [new SimpleSpanProcessor({ exporter })] })
  const stop = record({
    tracer: provider.getTracer('test'),
    parentDecides: true,
    messaging: { 'messaging.system': 'postgresql' },
  })
  const of = (traceId?: string) =>
    exporter
      .getFinishedSpans()
      .map(toSpan)
      .filter((span) => traceId === undefined || span.traceId === traceId)
  const named = (traceId: string, name: string, count: number) =>
    eventually(() => {
      const found = of(traceId).filter((span) => span.name === name)
      expect(found, name).toHaveLength(count)
      return found
    })
  return {
    of,
    named,
    one: async (traceId, name) => (await named(traceId, name, 1))[0] as RecordedSpan,
    text: () => JSON.stringify(of()),
    end: stop,
  }
}

function toSpan(span: ReadableSpan): RecordedSpan {
  const { traceId, spanId } = span.spanContext()
  return {
    ...{ name: span.name, kind: SpanKind[span.kind], traceId, spanId, attributes: span.attributes },
    parentSpanId: span.parentSpanContext?.spanId ?? null,
    linkedSpanIds: span.links.map(({ context }) => context.spanId),
    isError: span.status.code === SpanStatusCode.ERROR,
  }
}
