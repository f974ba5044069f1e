import type { DeliveryState } from '../delivery/delivery.ts'
import type { Level } from '../delivery/level.ts'
import type { BindingId } from '../ids.ts'
import type { PlanBasis } from './plan.ts'

// How the ledger reads: what it returns of events, deliveries and attempts, and what the API and the topics are written from.

export interface EventRecord {
  readonly id: string
  /** The id that its issuer gave it. */
  readonly givenId: string
  readonly iss: string
  /** Short name of the issuer; null if this `iss` was never registered. */
  readonly issuer: string | null
  readonly sub: string | null
  /** The email address of the subject: the event's own, or that of a session. */
  readonly email: string | null
  readonly sid: string | null
  readonly scope: string
  readonly device: string | null
  /** Why the session ended, as the IdP said. */
  readonly reason: string | null
  readonly initiator: string | null
  readonly lane: string
  readonly occurredAt: Date
  readonly acceptedAt: Date
  readonly plannedAt: Date
  readonly planBasis: PlanBasis
  /** The given id of the logout of everyone that it is a part of; null if there is none, or it is no longer kept. */
  readonly givenParentId: string | null
  /** Of a logout of everyone: how its job stands. */
  readonly issuerLogout: IssuerLogoutProgress | null
  readonly erasedAt: Date | null
}

/** How the job of a logout of everyone stands. */
export interface IssuerLogoutProgress {
  /** `failed`: it ended because of a fault. */
  readonly state: 'running' | 'done' | 'cancelled' | 'failed'
  readonly endedAt: Date | null
  /** Subjects to be logged out, as counted when the job began; null until then. */
  readonly total: number | null
  /** Subjects whose own event is planned. */
  readonly done: number
}

/** A delivery as the ledger has it. Times by our clock; `acceptedAt` is the event's. */
export interface DeliveryRecord {
  readonly id: string
  readonly eventId: string
  /** The id that its issuer gave the event. */
  readonly givenEventId: string
  readonly bindingId: BindingId
  readonly issuer: string
  readonly clientId: string
  readonly clientName: string | null
  /** The kind of its channel. */
  readonly channel: string
  /** The kind of the channel that it stands in for; null: it is required. */
  readonly fallbackFor: string | null
  /** The weakest acknowledgement that keeps the promise. */
  readonly counts: Level
  /** Which of its endpoints. */
  readonly endpoint: string
  readonly sid: string | null
  /** Whom the RP takes it to be about, with its settings of now. */
  readonly names: 'session' | 'subject'
  readonly lane: string
  readonly state: DeliveryState
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
  /** When the session that it ends would end by itself. */
  readonly sessionEndsAt: Date | null
  readonly acceptedAt: Date
  /** When whom it was about was erased. */
  readonly erasedAt: Date | null
}

/** An attempt as the ledger has it. */
export interface StoredAttempt {
  readonly number: number
  readonly startedAt: Date
  readonly durationMs: number
  readonly outcome: string
  /** HTTP status; null when no answer came. */
  readonly status: number | null
  /** The failure in one word, such as `dns` or `http_400`. */
  readonly errorClass: string | null
  /** The relying party's own words, or the network's. */
  readonly error: string | null
  readonly errorDescription: string | null
  readonly jti: string | null
  /** A machine word for what else an acknowledgement said. */
  readonly note: string | null
}

/** A settled delivery, as listeners of the topic get it. */
export interface OutcomeRecord
  extends Pick<EventRecord, 'iss' | 'sub' | 'scope' | 'reason'>,
    Pick<
      DeliveryRecord,
      'id' | 'eventId' | 'givenEventId' | 'issuer' | 'clientId' | 'channel' | 'sid' | 'lane'
    >,
    Pick<
      DeliveryRecord,
      'state' | 'level' | 'deadLetterReason' | 'attemptCount' | 'generation' | 'acceptedAt'
    > {
  readonly settledAt: Date
  readonly traceparent: string | null
}

/** A delivery that was given up on. */
export interface DeadLetterRecord
  extends Pick<DeliveryRecord, 'id' | 'eventId' | 'givenEventId' | 'bindingId' | 'issuer' | 'clientId'>,
    Pick<
      DeliveryRecord,
      'clientName' | 'channel' | 'endpoint' | 'sid' | 'lane' | 'attemptCount' | 'generation'
    >,
    Pick<DeliveryRecord, 'plannedAt' | 'sessionEndsAt'> {
  readonly reason: string
  readonly replayId: string | null
  readonly deadLetteredAt: Date
  /** Whether the session has ended by itself: there is nothing left to log out of. */
  readonly lapsed: boolean
  /** Null where it was never attempted, or the attempt is no longer kept. */
  readonly lastAttempt: Omit<StoredAttempt, 'number' | 'durationMs' | 'note'> | null
}

/** What operators are notified of. */
export interface NotificationRecord {
  readonly id: string
  /** Such as `relying_party.breaker_opened`. */
  readonly type: string
  /** Short name of the issuer that it is about; null where it is about none. */
  readonly issuer: string | null
  readonly occurredAt: Date
  /** As receivers get it. */
  readonly data: Readonly<Record<string, unknown>>
}
