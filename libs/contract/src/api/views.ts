import type { Level, PlanBasis, EventSummary as SummaryFacts } from '@curfew/domain'
import type { Delivery, EventSummary, LogoutEventStatus } from './common.ts'

/** What the ledger knows of a delivery. */
export interface DeliveryFacts {
  readonly id: string
  /** The id that its issuer gave the event. */
  readonly givenEventId: string
  readonly issuer: string
  readonly clientId: string
  readonly clientName: string | null
  /** The kind of its channel, and of the one that it stands in for. */
  readonly channel: string
  readonly fallbackFor: string | null
  readonly endpoint: string
  readonly sid: string | null
  /** Whom the RP takes it to be about. */
  readonly names: 'session' | 'subject'
  readonly lane: string
  readonly state: string
  readonly level: Level | null
  readonly attemptCount: number
  readonly deadLetterReason: string | null
  /** The newer delivery that says all that this one would have said. */
  readonly supersededBy: string | null
  /** How often it was replayed. */
  readonly generation: number
  readonly plannedAt: Date
  readonly dueAt: Date | null
  readonly settledAt: Date | null
  /** When the event was accepted (202). */
  readonly acceptedAt: Date
  /** When whom it was about was erased. */
  readonly erasedAt: Date | null
}

/** What the ledger knows of an event. */
export interface EventFacts {
  /** The id that its issuer gave it. */
  readonly givenId: string
  readonly iss: string
  /** Short name of the issuer; null if this `iss` was never registered. */
  readonly issuer: string | null
  readonly sub: string | null
  readonly sid: string | null
  readonly scope: string
  readonly device: string | null
  readonly reason: string | null
  readonly initiator: string | null
  readonly lane: string
  readonly occurredAt: Date
  readonly acceptedAt: Date
  readonly plannedAt: Date
  readonly planBasis: PlanBasis
  readonly givenParentId: string | null
  readonly issuerLogout: {
    readonly state: 'running' | 'done' | 'cancelled' | 'failed'
    readonly endedAt: Date | null
    readonly total: number | null
    readonly done: number
  } | null
  readonly erasedAt: Date | null
}

/** The name of an event outside. `issuer` is the short name; null if the `iss` is not registered. */
export interface EventName {
  readonly givenId: string
  readonly issuer: string | null
}

const ofIssuer = ({ issuer }: EventName) => (issuer === null ? '' : `?issuer=${issuer}`)
export const issuerLogoutPath = (event: EventName) => `/v1/issuer-logouts/${event.givenId}${ofIssuer(event)}`
/** @param of a path below the event, such as `/receipt`. */
export const eventPath = (event: EventName, of = '') =>
  `/v1/logout-events/${event.givenId}${of}${ofIssuer(event)}`

/** A delivery as the API shows it. */
export function deliveryView(facts: DeliveryFacts): Delivery {
  return {
    id: facts.id,
    event_id: facts.givenEventId,
    issuer: facts.issuer,
    client_id: facts.clientId,
    client_name: facts.clientName,
    channel: facts.channel,
    fallback_for: facts.fallbackFor,
    endpoint: facts.endpoint,
    sid: facts.sid,
    names: facts.names,
    lane: facts.lane,
    state: facts.state,
    level: facts.level,
    attempt_count: facts.attemptCount,
    dead_letter_reason: facts.deadLetterReason,
    superseded_by: facts.supersededBy,
    generation: facts.generation,
    planned_at: facts.plannedAt.toISOString(),
    due_at: facts.dueAt?.toISOString() ?? null,
    settled_at: facts.settledAt?.toISOString() ?? null,
    elapsed_ms: facts.settledAt === null ? null : facts.settledAt.getTime() - facts.acceptedAt.getTime(),
    erased_at: facts.erasedAt?.toISOString() ?? null,
    links: {
      self: `/v1/deliveries/${facts.id}`,
      event: eventPath({ ...facts, givenId: facts.givenEventId }),
    },
  }
}

/** An event as the API shows it, with how each of its deliveries stands. */
export function eventView(event: EventFacts, deliveries: readonly DeliveryFacts[]): LogoutEventStatus {
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
    sid: event.sid,
    scope: event.scope,
    device: event.device,
    reason: event.reason,
    initiator: event.initiator,
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

/** The summary of an event as the API shows it. */
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
      text: application.text,
    })),
    links: { self: eventPath(event, '/summary'), event: eventPath(event) },
  }
}
