import { SpanKind, SpanStatusCode } from '@opentelemetry/api'
import {
  AlwaysOffSampler,
  AlwaysOnSampler,
  InMemorySpanExporter,
  ParentBasedSampler,
  type Sampler,
  SimpleSpanProcessor,
  TracerProvider,
} from '@opentelemetry/sdk-trace'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { errorTypeOf, inSpan, record, startBatchSpan, startSpan } from './spans.ts'

// Goal: a span has the parent it was given, costs nothing in a trace that is not recorded, and holds no text of an error.
// Method: the SDK's own tracer, with its exporter into memory.

const TRACE = '0af7651916cd43dd8448eb211c80319c'
const SPAN = 'b7ad6b7169203331'
const SAMPLED = `00-${TRACE}-${SPAN}-01`
const UNSAMPLED = `00-${TRACE}-${SPAN}-00`
const MESSAGING = { 'messaging.system': 'kafka' }

/** Records the spans of one test. @returns the ended spans, and the number of calls of the tracer so far. */
function recording(sampler: Sampler = new ParentBasedSampler({ root: new AlwaysOnSampler() })) {
  const exporter = new InMemorySpanExporter()
  const spanProcessors = [new SimpleSpanProcessor({ exporter })]
  const tracer = new TracerProvider({ sampler, spanProcessors }).getTracer('test')
  const started = vi.spyOn(tracer, 'startSpan')
  const parentDecides = sampler instanceof ParentBasedSampler
  onTestFinished(record({ tracer, parentDecides, messaging: MESSAGING }))
  return { ended: () => exporter.getFinishedSpans(), calls: () => started.mock.calls.length }
}
const startOne = (parent: string | null, links: readonly (string | null)[] = []) =>
  startSpan({ ...{ name: 'plan', role: 'internal', parent, links }, attributes: () => ({ lane: 'bulk' }) })

describe('while nothing is recorded', () => {
  test('a span passes the context of its parent on', () => {
    const attributes = vi.fn()
    const span = startSpan({ name: 'plan', role: 'internal', parent: SAMPLED, attributes })
    expect(span).toMatchObject({ recorded: false, traceparent: SAMPLED })
    span.end({ late: true }, 'TypeError')
    expect(attributes).not.toHaveBeenCalled()
  })

  test('a span without a parent begins a trace that is not sampled', () => {
    expect(startOne(null).traceparent).toMatch(/^00-[0-9a-f]{32}-[0-9a-f]{16}-00$/)
    expect(startOne(null).traceparent).not.toBe(startOne(null).traceparent)
  })

  test('a batch has no span', () => {
    expect(startBatchSpan({ name: 'receipts', role: 'internal', items: [SAMPLED] }).recorded).toBe(false)
  })
})

describe('where the parent decides', () => {
  test('a span below a sampled parent is recorded in its trace', () => {
    const { ended } = recording()
    const span = startOne(SAMPLED)
    expect(span.traceparent).toMatch(new RegExp(`^00-${TRACE}-(?!${SPAN})[0-9a-f]{16}-01$`))
    span.end({ planned: true })
    const [only, ...others] = ended()
    expect(others).toEqual([])
    expect(only?.parentSpanContext).toMatchObject({ traceId: TRACE, spanId: SPAN })
    expect(span.traceparent.slice(36, 52)).toBe(only?.spanContext().spanId)
    expect(only).toMatchObject({ name: 'plan', attributes: { lane: 'bulk', planned: true } })
    expect(only?.status.code).toBe(SpanStatusCode.UNSET)
  })

  test('a span below a parent that is not sampled calls nothing', () => {
    const { ended, calls } = recording()
    const attributes = vi.fn()
    const span = startSpan({ name: 'POST', role: 'client', parent: UNSAMPLED, attributes })
    expect(span).toMatchObject({ recorded: false, traceparent: UNSAMPLED })
    span.end({ late: true })
    expect([calls(), attributes.mock.calls.length, ended().length]).toEqual([0, 0, 0])
  })

  test('the sampler decides about a trace that begins here', () => {
    const on = recording()
    expect(startOne(null).traceparent).toMatch(/-01$/)
    expect(on.calls()).toBe(1)
    recording(new ParentBasedSampler({ root: new AlwaysOffSampler() }))
    const span = startOne(null)
    expect(span.recorded).toBe(false)
    expect(span.traceparent).toMatch(/^00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-00$/)
  })
})

describe('where the parent does not decide', () => {
  test('a sampler that is always on ignores the flag of the parent', () => {
    const { ended } = recording(new AlwaysOnSampler())
    const span = startOne(UNSAMPLED)
    expect(span.traceparent).toMatch(new RegExp(`^00-${TRACE}-[0-9a-f]{16}-01$`))
    span.end()
    expect(ended()).toMatchObject([{ parentSpanContext: { traceId: TRACE, spanId: SPAN } }])
  })

  test('a sampler that is always off leaves the context of the parent as it is', () => {
    recording(new AlwaysOffSampler())
    expect(startOne(SAMPLED)).toMatchObject({ recorded: false, traceparent: SAMPLED })
  })
})

describe('the span of a batch', () => {
  const other = `00-${'1'.repeat(32)}-${'2'.repeat(16)}-01`
  const batchOf = (...items: readonly (string | null)[]) =>
    startBatchSpan({ name: 'process', role: 'consumer', items })

  test('is a child of the first recorded item, and has a link to each of them', () => {
    const { ended } = recording()
    batchOf(null, UNSAMPLED, 'nonsense', SAMPLED, other).end()
    const [batch] = ended()
    expect(batch?.parentSpanContext).toMatchObject({ traceId: TRACE, spanId: SPAN })
    expect(batch?.links.map(({ context }) => context.traceId)).toEqual([TRACE, '1'.repeat(32)])
    expect(batch).toMatchObject({ kind: SpanKind.CONSUMER, attributes: MESSAGING })
  })

  test('is not recorded if no item is', () => {
    const { calls } = recording()
    expect(batchOf(null, UNSAMPLED, 'nonsense').recorded).toBe(false)
    expect(calls()).toBe(0)
  })
})

test('a span has links to the recorded ones of the given spans only', () => {
  const { ended } = recording()
  startOne(SAMPLED, [null, UNSAMPLED, SAMPLED]).end()
  expect(ended()[0]?.links.map(({ context }) => context.spanId)).toEqual([SPAN])
})

test.each([
  ['server', SpanKind.SERVER, {}],
  ['client', SpanKind.CLIENT, {}],
  ['internal', SpanKind.INTERNAL, {}],
  ['producer', SpanKind.PRODUCER, MESSAGING],
  ['consumer', SpanKind.CONSUMER, MESSAGING],
] as const)('a span of the role %s has its kind', (role, kind, attributes) => {
  const { ended } = recording()
  startSpan({ name: 'step', role, parent: null }).end()
  expect(ended()).toMatchObject([{ kind, attributes }])
})

describe('work in a span', () => {
  test('ends the span with the attributes of its result', async () => {
    const { ended } = recording()
    const stored = inSpan(
      startOne(SAMPLED),
      async () => true,
      (value) => ({ stored: value }),
    )
    expect(await stored).toBe(true)
    expect(ended()).toMatchObject([{ attributes: { stored: true }, status: { code: SpanStatusCode.UNSET } }])
  })

  test('that fails ends the span with the class of the error, and without its text', async () => {
    const { ended } = recording()
    const failure = Object.assign(new TypeError('alice@mail.example'), { detail: 'alice' })
    await expect(inSpan(startOne(SAMPLED), () => Promise.reject(failure))).rejects.toBe(failure)
    const [span] = ended()
    expect(span?.attributes).toEqual({ lane: 'bulk', 'error.type': 'TypeError' })
    expect(span?.status).toEqual({ code: SpanStatusCode.ERROR })
    expect(span?.events).toEqual([])
  })
})

test.each([
  [new RangeError('alice'), 'RangeError'],
  [Object.assign(new Error('alice'), { code: 'ECONNREFUSED' }), 'ECONNREFUSED'],
  [Object.assign(new Error('alice'), { code: 7 }), 'Error'],
  ['alice', '_OTHER'],
  [null, '_OTHER'],
])('the class of %o is %s', (error, type) => {
  expect(errorTypeOf(error)).toBe(type)
})
