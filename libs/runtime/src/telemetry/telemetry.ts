import { type Attributes, DiagLogLevel, diag, trace } from '@opentelemetry/api'
import type { Scope } from '../lifecycle.ts'
import type { Log } from '../log.ts'
import { createThrottle } from '../seldom.ts'
import { VERSION } from '../version.ts'
import { within } from '../within.ts'
import type { TelemetrySettings } from './settings.ts'
import { record } from './spans.ts'

// The export of spans is the one outgoing call that does not use the guarded client: its address comes from the operator, and no
// relying party can change it. Nothing of OpenTelemetry's SDK is loaded unless a variable asks for traces.

export interface TelemetryOptions extends TelemetrySettings {
  /** The name of the process, such as `ingest`. */
  readonly service: string
  /** Attributes of spans that send or process messages. */
  readonly messaging: Attributes
  readonly scope: Pick<Scope, 'defer'>
  readonly log: Log
}

/** Spans are given their parents, so that no ambient context is kept. The SDK accepts null, but its type does not say so. */
const WITHOUT_CONTEXT: object = { contextManager: null }
/** Longest that the end of the process waits for the last export, in milliseconds. */
const FLUSH_MS_MAX = 3_000
/** Pause before a process that could not flush is ended, in milliseconds: the caller sets the exit status meanwhile. */
const LINGER_MS = 1_000

/**
 * Starts the export of spans, if a variable asks for it. Curfew's metrics are for Prometheus and its log goes to standard error, so
 * the SDK exports neither. An unavailable collector costs spans and nothing else.
 */
export async function startTelemetry(options: TelemetryOptions): Promise<void> {
  const { enabled, service, parentDecides, messaging, scope, log } = options
  if (!enabled) return
  const { NodeSDK } = await import('@opentelemetry/sdk-node')
  const { defaultResource, envDetector, hostDetector, resourceFromAttributes, serviceInstanceIdDetector } =
    await import('@opentelemetry/resources')
  const own = resourceFromAttributes({ 'service.name': `curfew-${service}`, 'service.version': VERSION })
  const sdk = new NodeSDK({
    resource: defaultResource().merge(own),
    // Not the detector of the process: the command line may hold what must not leave the machine.
    resourceDetectors: [envDetector, hostDetector, serviceInstanceIdDetector],
    ...{ instrumentations: [], metricReaders: [], logRecordProcessors: [] },
    textMapPropagator: null,
    ...WITHOUT_CONTEXT,
  })
  reportTo(log)
  sdk.start()
  const stop = record({ tracer: trace.getTracer('curfew', VERSION), parentDecides, messaging })
  log.info({ event: 'telemetry.started', service: `curfew-${service}` })
  scope.defer('telemetry', async () => {
    stop()
    const flushed = sdk.shutdown().then(
      () => null,
      (error: unknown) => error,
    )
    const failure = await within(flushed, FLUSH_MS_MAX, new Error(`not within ${FLUSH_MS_MAX} ms`))
    if (failure === null) return
    log.warn({ event: 'telemetry.flush-failed', err: failure })
    // The export under way would keep the process alive until its own timeout. Everything else has been released by now.
    setTimeout(() => process.exit(), LINGER_MS).unref()
  })
}

/** Writes what the SDK reports to the log, each kind once a minute. */
function reportTo(log: Log): void {
  const isTime = createThrottle()
  const report = (kind: 'error' | 'warn') => (message: string) => {
    if (isTime(kind)) log.warn({ event: 'telemetry.export-failed', message: inWords(message) })
  }
  const nothing = () => undefined
  diag.setLogger(
    { error: report('error'), warn: report('warn'), info: nothing, debug: nothing, verbose: nothing },
    { logLevel: DiagLogLevel.WARN, suppressOverrideMessage: true },
  )
}

const REASON_LENGTH_MAX = 300

/** A report of the SDK as one sentence. */
function inWords(report: string): string {
  const [reason = ''] = reasonIn(report).split('\n', 1)
  const end = reason.endsWith('.') ? '' : '.'
  return `Spans do not reach the collector at OTEL_EXPORTER_OTLP_ENDPOINT: ${reason.slice(0, REASON_LENGTH_MAX)}${end}`
}

/** The reason in a report, which is an error as JSON or a text. An error has an HTTP status as `code`, or says its code in `message`. */
function reasonIn(report: string): string {
  try {
    const { message, name, code }: Record<string, unknown> = Object(JSON.parse(report))
    const parts = [/^\d+$/.test(String(code)) ? `it answered ${code}` : '', message]
    const said = parts.filter((part) => typeof part === 'string' && part !== '')
    return said.length > 0 ? said.join(' ') : String(code ?? name ?? report)
  } catch {
    // A text, and not an error.
    return report
  }
}
