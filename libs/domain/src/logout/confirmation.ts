import type { ApplicationState, EventSummary } from './summary.ts'

// The confirmation of a logout to the client that started it: one message, once the logout is settled or its deadline has passed.

/** The limits of a client's `confirmation_deadline_ms`. */
export const CONFIRMATION_DEADLINE_MS_MIN = 1_000
export const CONFIRMATION_DEADLINE_MS_MAX = 86_400_000
/**
 * The default time from the acceptance of a logout to its confirmation, in milliseconds. The first two delays of the default retry
 * schedule (5 s and 30 s) fit in it, so an application that restarts is signed out in time.
 */
export const CONFIRMATION_DEADLINE_MS = 60_000

/** The result of a logout for the client that started it. It has no endpoints, attempts or errors. */
export interface Confirmation {
  /** Whether the user is signed out of all applications. */
  readonly complete: boolean
  /** When the last delivery was settled; null if the deadline passed before. */
  readonly settledAt: Date | null
  readonly applications: readonly {
    readonly clientId: string
    /** The registered name, or else the client_id. */
    readonly clientName: string
    readonly state: ApplicationState
  }[]
}

/** Reduces the summary of a logout to its confirmation. */
export function confirmationOf(
  summary: Pick<EventSummary, 'status' | 'applications'>,
  { plannedAt, deliveries }: ConfirmedEvent,
): Confirmation {
  const settled = deliveries.map(({ settledAt }) => settledAt?.getTime() ?? null)
  const times = settled.filter((time) => time !== null)
  return {
    complete: summary.status === 'complete',
    settledAt: times.length < settled.length ? null : new Date(Math.max(plannedAt.getTime(), ...times)),
    applications: summary.applications.map(({ clientId, name, state }) => ({
      ...{ clientId, clientName: name, state },
    })),
  }
}

/** The times of an event that decide when it was settled. */
export interface ConfirmedEvent {
  readonly plannedAt: Date
  readonly deliveries: readonly { readonly settledAt: Date | null }[]
}
