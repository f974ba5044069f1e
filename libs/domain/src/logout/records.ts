import type { Step, Strategy } from '../delivery/channels.ts'
import type { DeliveryState } from '../delivery/delivery.ts'
import type { Level } from '../delivery/level.ts'
import type { BindingId } from '../ids.ts'
import type { ChannelSettings } from '../registry/binding.ts'
import type { PlanBasis } from './plan.ts'

// The records that the ledger returns for events, deliveries and attempts. The API and the topics are written from them.

export interface EventRecord {
  readonly id: string
  /** The id that the issuer gave the event. */
  readonly givenId: string
  readonly iss: string
  /** The short name of the issuer; null if this `iss` was never registered. */
  readonly issuer: string | null
  readonly sub: string | null
  /** The email address of the subject: the event's own, or that of a session. */
  readonly email: string | null
  readonly sid: string | null
  readonly scope: string
  readonly device: string | null
  /** Why the session ended, as the IdP stated it. */
  readonly reason: string | null
  readonly initiator: string | null
  readonly includeInitiator: boolean
  /** The only clients that the event is about; null: every client that may hold a session. */
  readonly clients: readonly string[] | null
  /** Those of `clients` that were not registered when the event was planned. */
  readonly unregisteredClients: readonly string[]
  /** The client that the IdP addressed its logout token to; null if the event did not come by the relay. */
  readonly relayedFor: string | null
  readonly lane: string
  readonly occurredAt: Date
  readonly acceptedAt: Date
  readonly plannedAt: Date
  readonly planBasis: PlanBasis
  /** The strategy of the issuer; null if it has none. */
  readonly strategy: Strategy | null
  /** The given id of the issuer logout that the event is a part of; null if there is none, or if retention removed it. */
  readonly givenParentId: string | null
  /** The progress of an issuer logout; null for other events. */
  readonly issuerLogout: IssuerLogoutProgress | null
  readonly erasedAt: Date | null
}

/** The progress of an issuer logout's job. */
export interface IssuerLogoutProgress {
  /** `failed`: the job ended because of a fault. */
  readonly state: 'running' | 'done' | 'cancelled' | 'failed'
  readonly endedAt: Date | null
  /** Subjects to log out, counted when the job begins; null before that. */
  readonly total: number | null
  /** Subjects whose event is planned. */
  readonly done: number
}

/** A delivery as the ledger stores it. Times are by our clock; `acceptedAt` is the event's. */
export interface DeliveryRecord {
  readonly id: string
  readonly eventId: string
  /** The id that the issuer gave the event. */
  readonly givenEventId: string
  readonly bindingId: BindingId
  readonly issuer: string
  readonly clientId: string
  readonly clientName: string | null
  /** The kind of its channel. */
  readonly channel: string
  readonly step: Step
  /** The kind of the channel that its channel is a fallback for; null if its channel is required. */
  readonly fallbackFor: string | null
  /** The weakest level that keeps the promise. */
  readonly counts: Level
  /** The name of the endpoint within the channel. */
  readonly endpoint: string
  readonly sid: string | null
  /** The subject that its message names instead of the event's; null if it names the event's, or none. */
  readonly sub: string | null
  /** Whether the message names a session, the subject or everybody, by the RP's current settings. */
  readonly names: 'session' | 'subject' | 'issuer'
  readonly lane: string
  readonly state: DeliveryState
  readonly level: Level | null
  /** Machine words for the proof behind the acknowledgement, such as `applied_to:4711`. */
  readonly evidence: readonly string[]
  readonly attemptCount: number
  readonly deadLetterReason: string | null
  /** The delivery that covers this one: of a newer logout, or of the same logout by another way. */
  readonly supersededBy: string | null
  /** The number of replays. */
  readonly generation: number
  readonly plannedAt: Date
  readonly dueAt: Date | null
  readonly settledAt: Date | null
  /** When the named session ends by itself. */
  readonly sessionEndsAt: Date | null
  readonly acceptedAt: Date
  /** When the subject was erased; null if not. */
  readonly erasedAt: Date | null
  /** The error of the last attempt; null if it was acknowledged, if there was none, or if retention removed it. */
  readonly lastError: AttemptError | null
}

/** A failed attempt. */
export type AttemptError = Pick<
  StoredAttempt,
  'startedAt' | 'status' | 'errorClass' | 'error' | 'errorDescription'
>

/** An attempt as the ledger stores it. */
export interface StoredAttempt {
  readonly number: number
  readonly startedAt: Date
  readonly durationMs: number
  readonly outcome: string
  /** HTTP status; null without an answer. */
  readonly status: number | null
  /** The failure in one word, such as `dns` or `http_400`. */
  readonly errorClass: string | null
  /** The error that the relying party or the network reported. */
  readonly error: string | null
  readonly errorDescription: string | null
  /** The target of a redirect, without secrets; null if the answer was none. */
  readonly location: string | null
  readonly jti: string | null
  /** A code for what else an acknowledgement said, such as `unknown_user`. */
  readonly note: string | null
}

/** A settled delivery, as published to the outcomes topic. */
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

/** A dead-lettered delivery. */
export interface DeadLetterRecord
  extends Pick<DeliveryRecord, 'id' | 'eventId' | 'givenEventId' | 'bindingId' | 'issuer' | 'clientId'>,
    Pick<
      DeliveryRecord,
      'clientName' | 'channel' | 'endpoint' | 'sid' | 'lane' | 'attemptCount' | 'generation'
    >,
    Pick<DeliveryRecord, 'plannedAt' | 'sessionEndsAt'> {
  readonly reason: string
  /** The registered address of the endpoint. */
  readonly uri: string
  /** The registered settings of the endpoint. */
  readonly settings: ChannelSettings
  readonly replayId: string | null
  readonly deadLetteredAt: Date
  /** Whether the session has ended by itself, so that no logout is needed. */
  readonly lapsed: boolean
  /** Null if there was no attempt, or if retention removed it. */
  readonly lastAttempt: Omit<StoredAttempt, 'number' | 'durationMs' | 'note'> | null
}

/** A notification for operators. */
export interface NotificationRecord {
  readonly id: string
  /** Such as `relying_party.breaker_opened`. */
  readonly type: string
  /** The short name of the issuer that the notification is about; null if it is about none. */
  readonly issuer: string | null
  readonly occurredAt: Date
  /** The data as receivers get it. */
  readonly data: Readonly<Record<string, unknown>>
}
