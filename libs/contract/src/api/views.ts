import type { AttemptError, DeliveryRecord, EventRecord, EventSummary as SummaryFacts } from '@curfew/domain'
import type { Delivery, EventSummary, LastError, LogoutEventStatus } from './common.ts'

/** The public name of an event. `issuer` is the short name; null if the `iss` is not registered. */
export interface EventName {
  readonly givenId: string
  readonly issuer: string | null
}

const ofIssuer = ({ issuer }: EventName) => (issuer === null ? '' : `?issuer=${issuer}`)
export const issuerLogoutPath = (event: EventName) => `/v1/issuer-logouts/${event.givenId}${ofIssuer(event)}`
/**
 * The path of an event.
 *
 * @param of a path below the event, such as `/receipt`.
 */
export const eventPath = (event: EventName, of = '') =>
  `/v1/logout-events/${event.givenId}${of}${ofIssuer(event)}`

/** The response body for a delivery. */
export function deliveryView(delivery: DeliveryRecord): Delivery {
  return {
    id: delivery.id,
    event_id: delivery.givenEventId,
    issuer: delivery.issuer,
    client_id: delivery.clientId,
    client_name: delivery.clientName,
    channel: delivery.channel,
    fallback_for: delivery.fallbackFor,
    counts: delivery.counts,
    endpoint: delivery.endpoint,
    sid: delivery.sid,
    sub: delivery.sub,
    names: delivery.names,
    lane: delivery.lane,
    state: delivery.state,
    level: delivery.level,
    evidence: [...delivery.evidence],
    attempt_count: delivery.attemptCount,
    dead_letter_reason: delivery.deadLetterReason,
    superseded_by: delivery.supersededBy,
    generation: delivery.generation,
    planned_at: delivery.plannedAt.toISOString(),
    due_at: delivery.dueAt?.toISOString() ?? null,
    settled_at: delivery.settledAt?.toISOString() ?? null,
    elapsed_ms:
      delivery.settledAt === null ? null : delivery.settledAt.getTime() - delivery.acceptedAt.getTime(),
    erased_at: delivery.erasedAt?.toISOString() ?? null,
    last_error: delivery.lastError && lastErrorView(delivery.lastError),
    links: {
      self: `/v1/deliveries/${delivery.id}`,
      event: eventPath({ ...delivery, givenId: delivery.givenEventId }),
    },
  }
}

/** The error of an attempt without the words of the relying party. Like attempts, these need the scope `ledger:read`. */
export function withoutWords(error: AttemptError): AttemptError {
  return { ...error, error: null, errorDescription: null }
}

/** The response member for the error of an attempt. */
export function lastErrorView(error: AttemptError): LastError {
  return {
    at: error.startedAt.toISOString(),
    status: error.status,
    error_class: error.errorClass,
    error: error.error,
    error_description: error.errorDescription,
  }
}

/** The response body for an event with its deliveries. */
export function eventView(event: EventRecord, deliveries: readonly DeliveryRecord[]): LogoutEventStatus {
  const { issuerLogout: job } = event
  const settledAt =
    job?.state !== 'running' && deliveries.every((delivery) => delivery.settledAt !== null)
      ? new Date(
          Math.max(
            event.plannedAt.getTime(),
            job?.endedAt?.getTime() ?? 0,
            ...deliveries.map((delivery) => delivery.settledAt?.getTime() ?? 0),
          ),
        )
      : null
  return {
    id: event.givenId,
    iss: event.iss,
    sub: event.sub,
    email: event.email,
    sid: event.sid,
    scope: event.scope,
    device: event.device,
    reason: event.reason,
    initiator: event.initiator,
    clients: event.clients === null ? null : [...event.clients],
    unregistered_clients: [...event.unregisteredClients],
    relayed_for: event.relayedFor,
    lane: event.lane,
    occurred_at: event.occurredAt.toISOString(),
    accepted_at: event.acceptedAt.toISOString(),
    planned_at: event.plannedAt.toISOString(),
    plan_basis: event.planBasis,
    parent_id: event.givenParentId,
    issuer_logout:
      job === null
        ? null
        : {
            state: job.state,
            ended_at: job.endedAt?.toISOString() ?? null,
            total: job.total,
            done: job.done,
            links: { self: issuerLogoutPath(event) },
          },
    erased_at: event.erasedAt?.toISOString() ?? null,
    status: settledAt === null ? 'in_progress' : 'settled',
    acknowledged: deliveries.filter(({ state }) => state === 'acknowledged').length,
    total: deliveries.length,
    settled_at: settledAt?.toISOString() ?? null,
    elapsed_ms: settledAt === null ? null : settledAt.getTime() - event.acceptedAt.getTime(),
    deliveries: deliveries.map(deliveryView),
    links: { self: eventPath(event), receipt: eventPath(event, '/receipt') },
  }
}

/** The response body for the summary of an event. */
export function summaryView(event: EventName, summary: SummaryFacts): EventSummary {
  return {
    event_id: event.givenId,
    status: summary.status,
    signed_out: summary.signedOut,
    total: summary.total,
    text: summary.text,
    applications: summary.applications.map((application) => ({
      client_id: application.clientId,
      name: application.name,
      state: application.state,
      level: application.level,
      within_s: application.withinS,
      by_itself: application.byItself,
      not_notified: application.notNotified,
      text: application.text,
    })),
    steps: summary.steps,
    initiator:
      summary.initiator === null
        ? null
        : { client_id: summary.initiator.clientId, name: summary.initiator.name },
    links: { self: eventPath(event, '/summary'), event: eventPath(event) },
  }
}
