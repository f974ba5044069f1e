import type { Level } from '../delivery/level.ts'
import type { RetryPolicy } from '../delivery/retry.ts'
import type { BindingId, ClientId, Issuer, IssuerName } from '../ids.ts'
import type { NetworkAccess } from './networks.ts'

/**
 * What a message of a binding can name.
 * - `session`, `subject`: only that. `either`: a session or the subject.
 * - `any`: whatever the event names, also everybody. Its relying party holds no sessions, and is owed one delivery of each event.
 */
export type Names = 'session' | 'subject' | 'either' | 'any'

/** The settings of a binding that only its channel reads: JSON that is valid by the channel's schema. */
export type ChannelSettings = Readonly<Record<string, unknown>>

/** The TLS settings of an RP, in PEM. */
export interface BindingTls {
  /** The only CAs that Curfew trusts for the RP; null for the default CAs. */
  readonly ca: string | null
  /** Our client certificate for mTLS: the chain, ours first, and our private key as a compact JWE under the master key. */
  readonly client: { readonly certificate: string; readonly sealedKey: string } | null
}

/** How long the deliveries of a pull channel are offered, and how they end if the relying party does not fetch them. */
export interface Offer {
  /** From the plan to the deadline, in milliseconds. */
  readonly lastsMs: number
  /** `lapsed`: after the deadline no logout is needed. */
  readonly onDeadline: 'lapsed' | 'dead_lettered'
}

/** The name of the first endpoint of a channel. */
export const MAIN_ENDPOINT = 'main'

/** One way to notify one relying party: an endpoint of one channel, with the settings that an attempt needs. */
export interface Binding extends NetworkAccess {
  readonly id: BindingId
  /** The kind of its channel. */
  readonly kind: string
  /** Null if Curfew sends to the endpoint. Otherwise the relying party fetches its logouts. */
  readonly offer: Offer | null
  readonly issuer: IssuerName
  readonly iss: Issuer
  readonly clientId: ClientId
  /** The name of the endpoint within the channel. */
  readonly endpoint: string
  /** Absolute, without a fragment. The query is kept byte for byte. */
  readonly uri: string
  readonly settings: ChannelSettings
  readonly names: Names
  /** Whether a message for the subject may be used for a logout of one session. Only relevant if `names` is `subject`. */
  readonly widens: boolean
  /**
   * Whether the sessions behind the binding are those of the issuer itself. Each logout of the issuer is then owed to it, whatever
   * sessions the client holds.
   */
  readonly always: boolean
  /**
   * Whether it is owed only the logouts of sessions that the identity provider posted, because its messages need the tokens of a
   * session. Default: it is owed every logout that may be about its client.
   */
  readonly posted?: boolean
  /** The secret that the channel sends to the endpoint, as a compact JWE under the master key; null without one. */
  readonly sealedSecret: string | null
  /** From the start of the connection to the end of the answer, in milliseconds. */
  readonly timeoutMs: number
  /** The most concurrent attempts of all workers together; null if the owner set none. */
  readonly concurrency: number | null
  /** The most attempts started per second by all workers together; null without a limit. */
  readonly ratePerSecond: number | null
  readonly retry: RetryPolicy
  /** Whether its requests carry the trace context of the attempt (`traceparent`). */
  readonly traceContext: boolean
  readonly tls: BindingTls | null
  /** The weakest acknowledgement that satisfies the SLA. */
  readonly counts: Level
  /** The kind of the channel that this one is a fallback for; null if it is required. */
  readonly fallbackFor: string | null
  /** Why the binding is disabled, as text; null if it is enabled. */
  readonly disabledReason: string | null
}
