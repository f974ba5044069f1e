import type { AttemptOutcome, Binding, InFlightDelivery } from '@curfew/domain'
import { childOf, inSpan, type Span, startSpan } from '@curfew/runtime'
import type { Delivered } from './deliver.ts'

/** One attempt of a delivery. */
interface Trial {
  readonly delivery: InFlightDelivery
  /** Null if this worker knows none. */
  readonly binding: Binding | null
  readonly number: number
}

/**
 * Does an attempt in a span of its own, below the plan of the event: also if another worker planned it, or if it is a retry hours
 * later. No attribute holds the token, the subject, the session or the query of the endpoint.
 */
export async function inAttemptSpan<Result extends Delivered>(
  trial: Trial,
  work: (span: Span) => Promise<Result>,
): Promise<Result> {
  const { delivery } = trial
  const span = startSpan({
    ...{ name: 'POST', role: 'client', parent: delivery.event.traceparent },
    attributes: () => attributesOf(trial),
  })
  return inSpan(
    span,
    () => work(span),
    ({ outcome }) => {
      const status = 'status' in outcome ? outcome.status : null
      return { ...(status !== null && { 'http.response.status_code': status }) }
    },
    ({ outcome }) => failureOf(outcome),
  )
}

/**
 * The trace context that a relying party receives. Its parent is the span of the attempt. If that is not recorded, it is a new id in
 * the trace of the event.
 */
export function contextFor(span: Span): string {
  return span.recorded ? span.traceparent : childOf(span.traceparent)
}

function attributesOf({ delivery, binding, number }: Trial) {
  const resends = number - delivery.attempts - 1
  const url = binding === null || !URL.canParse(binding.uri) ? null : new URL(binding.uri)
  return {
    'http.request.method': 'POST',
    ...(resends > 0 && { 'http.request.resend_count': resends }),
    ...(url !== null && {
      'server.address': url.hostname,
      'server.port': url.port === '' ? (url.protocol === 'http:' ? 80 : 443) : Number(url.port),
    }),
    ...(binding !== null && {
      'curfew.issuer': binding.issuer,
      'curfew.client_id': binding.clientId,
      'curfew.channel': binding.kind,
    }),
    'curfew.delivery.id': delivery.id,
    'curfew.attempt': number,
  }
}

/** The class of a failure; null if the relying party acknowledged. */
function failureOf(outcome: AttemptOutcome): string | null {
  if (outcome.kind === 'acknowledged') return null
  if (outcome.kind === 'undeliverable') return outcome.reason
  return outcome.kind === 'unavailable' && outcome.failure !== null ? outcome.failure : outcome.kind
}
