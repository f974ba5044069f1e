import type { Environment, EnvironmentReader } from '../environment.ts'
import { readEnvironment } from '../environment.ts'

/** How the spans of this process are exported. The SDK itself reads the variables of the specification. */
export interface TelemetrySettings {
  /** False if no variable asks for traces. */
  readonly enabled: boolean
  /** Whether a span is never recorded if its parent is not. */
  readonly parentDecides: boolean
}

const PROTOCOLS = ['grpc', 'http/protobuf', 'http/json'] as const
const EXPORTERS = ['otlp', 'console', 'none'] as const
const SAMPLERS = [
  'always_on',
  'always_off',
  'traceidratio',
  'parentbased_always_on',
  'parentbased_always_off',
  'parentbased_traceidratio',
] as const
/** The longest delay of a timer of Node.js, in milliseconds. A longer one would end at once. */
const INTEGER_MAX = 2_147_483_647
const WHOLE_NUMBERS = [
  'OTEL_BSP_SCHEDULE_DELAY',
  'OTEL_BSP_EXPORT_TIMEOUT',
  'OTEL_BSP_MAX_QUEUE_SIZE',
  'OTEL_BSP_MAX_EXPORT_BATCH_SIZE',
  'OTEL_EXPORTER_OTLP_TIMEOUT',
  'OTEL_EXPORTER_OTLP_TRACES_TIMEOUT',
  'OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT',
  'OTEL_ATTRIBUTE_COUNT_LIMIT',
  'OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT',
  'OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT',
  'OTEL_SPAN_EVENT_COUNT_LIMIT',
  'OTEL_SPAN_LINK_COUNT_LIMIT',
]

/**
 * Checks the `OTEL_*` variables. The SDK would ignore a wrong one, and the operator would miss the traces during an incident.
 *
 * @throws {ConfigurationError} with every mistake, if there are any.
 */
export function readTelemetry(env: Environment): TelemetrySettings {
  return readEnvironment(env, (read) => {
    const isDisabled = read.optional('OTEL_SDK_DISABLED')?.toLowerCase() === 'true'
    const exporters = read.list('OTEL_TRACES_EXPORTER', (name) =>
      EXPORTERS.some((known) => known === name) ? null : `is not one of ${EXPORTERS.join(', ')}`,
    )
    const endpoints = ['OTEL_EXPORTER_OTLP_ENDPOINT', 'OTEL_EXPORTER_OTLP_TRACES_ENDPOINT'].map((name) =>
      read.url(name, { protocols: ['http:', 'https:'] }),
    )
    const isAsked = exporters.length > 0 || endpoints.some((endpoint) => endpoint !== null)
    const enabled = isAsked && !isDisabled && !exporters.includes('none')
    for (const name of ['OTEL_EXPORTER_OTLP_PROTOCOL', 'OTEL_EXPORTER_OTLP_TRACES_PROTOCOL'])
      read.oneOf(name, PROTOCOLS, 'http/protobuf')
    for (const name of WHOLE_NUMBERS) read.integer(name, { fallback: 0, min: 0, max: INTEGER_MAX })
    const sampler = read.oneOf('OTEL_TRACES_SAMPLER', SAMPLERS, 'parentbased_always_on')
    checkRatio(read)
    return { enabled, parentDecides: sampler.startsWith('parentbased_') }
  })
}

function checkRatio(read: EnvironmentReader): void {
  const ratio = read.optional('OTEL_TRACES_SAMPLER_ARG')
  if (ratio === null || (/^(0|1|[01]?\.\d+)$/.test(ratio) && Number(ratio) <= 1)) return
  read.fault(`OTEL_TRACES_SAMPLER_ARG must be a number from 0 to 1, not ${JSON.stringify(ratio)}`)
}
