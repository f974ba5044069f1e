import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import protobuf from 'protobufjs'

// A receiver of OTLP over HTTP, in protobuf and in JSON.

/** A received span. */
export interface ReceivedSpan {
  readonly service: string
  readonly traceId: string
  readonly spanId: string
  /** Empty for the first span of a trace. */
  readonly parentSpanId: string
  readonly name: string
  readonly kind: string
  readonly attributes: Readonly<Record<string, unknown>>
  readonly links: readonly { readonly traceId: string; readonly spanId: string }[]
  readonly isError: boolean
}

export interface OtlpReceiver extends AsyncDisposable {
  /** The value of OTEL_EXPORTER_OTLP_ENDPOINT. */
  readonly endpoint: string
  readonly spans: readonly ReceivedSpan[]
  /** The paths of all requests, such as `/v1/traces`, with their media types. */
  readonly requests: readonly string[]
  /** Everything received, as text. */
  text(): string
  /** Makes later requests wait for their answer until the receiver closes. */
  hang(): void
}

const KINDS = ['unspecified', 'internal', 'server', 'client', 'producer', 'consumer']
const ERROR = 2

interface Attribute {
  readonly key: string
  readonly value?: Readonly<Record<string, unknown>>
}
interface Message {
  readonly resourceSpans?: readonly {
    readonly resource?: { readonly attributes?: readonly Attribute[] }
    readonly scopeSpans?: readonly { readonly spans?: readonly SpanMessage[] }[]
  }[]
}
interface SpanMessage {
  readonly traceId: unknown
  readonly spanId: unknown
  readonly parentSpanId?: unknown
  readonly name: string
  readonly kind: number
  readonly attributes?: readonly Attribute[]
  readonly links?: readonly { readonly traceId: unknown; readonly spanId: unknown }[]
  readonly status?: { readonly code?: number }
}

const root = new protobuf.Root()
root.resolvePath = (_origin, target) => join(import.meta.dirname, target)
const Request = root
  .loadSync('opentelemetry/proto/collector/trace/v1/trace_service.proto')
  .lookupType('opentelemetry.proto.collector.trace.v1.ExportTraceServiceRequest')

export async function openOtlpReceiver(): Promise<OtlpReceiver> {
  const spans: ReceivedSpan[] = []
  const requests: string[] = []
  const bodies: string[] = []
  let hangs = false
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    const type = request.headers['content-type'] ?? ''
    requests.push(`${request.url} ${type}`)
    const body = Buffer.concat(chunks)
    const message = (
      type === 'application/json' ? JSON.parse(body.toString('utf8')) : Request.toObject(Request.decode(body))
    ) as Message
    bodies.push(JSON.stringify(message))
    spans.push(...spansOf(message))
    if (hangs) return
    response.writeHead(200, { 'content-type': type }).end(type === 'application/json' ? '{}' : '')
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    spans,
    requests,
    text: () => bodies.join('\n'),
    hang() {
      hangs = true
    },
    async [Symbol.asyncDispose]() {
      const closed = once(server, 'close')
      server.close()
      server.closeAllConnections()
      await closed
    },
  }
}

function spansOf({ resourceSpans = [] }: Message): readonly ReceivedSpan[] {
  return resourceSpans.flatMap(({ resource, scopeSpans = [] }) => {
    const service = String(valuesOf(resource?.attributes)['service.name'])
    return scopeSpans.flatMap(({ spans = [] }) => spans.map((span) => toSpan(span, service)))
  })
}

function toSpan(span: SpanMessage, service: string): ReceivedSpan {
  return {
    service,
    traceId: hexOf(span.traceId),
    spanId: hexOf(span.spanId),
    parentSpanId: hexOf(span.parentSpanId),
    name: span.name,
    kind: KINDS[span.kind] ?? '',
    attributes: valuesOf(span.attributes),
    links: (span.links ?? []).map(({ traceId, spanId }) => ({
      traceId: hexOf(traceId),
      spanId: hexOf(spanId),
    })),
    isError: span.status?.code === ERROR,
  }
}

/** An id is bytes in protobuf, and hexadecimal in JSON. */
function hexOf(id: unknown): string {
  if (id === undefined || id === null) return ''
  return typeof id === 'string' ? id : Buffer.from(id as Uint8Array).toString('hex')
}

function valuesOf(attributes: readonly Attribute[] = []): Readonly<Record<string, unknown>> {
  return Object.fromEntries(
    attributes.map(({ key, value = {} }) => {
      const [found] = Object.values(value)
      return [key, typeof found === 'object' ? Number(found) : found]
    }),
  )
}
