import type { Level } from '../delivery/level.ts'
import type { RetryPolicy } from '../delivery/retry.ts'
import type { BindingId, ClientId, Issuer, IssuerName } from '../ids.ts'
import type { NetworkAccess } from './networks.ts'

/** JWS algorithms that logout tokens are signed with: those of ID tokens, never `none` (Back-Channel Logout 2.6). */
export const SIGNING_ALGORITHMS = [
  'RS256',
  'RS384',
  'RS512',
  'PS256',
  'PS384',
  'PS512',
  'ES256',
  'ES384',
  'ES512',
  'EdDSA',
] as const
export type SigningAlgorithm = (typeof SIGNING_ALGORITHMS)[number]

/** What one message of a binding can name. `session`: a session, and nothing else. `subject`: the subject only. */
export type Names = 'session' | 'subject' | 'either'

/** The settings of a binding that its channel alone reads. JSON, valid by the schema of the channel. */
export type ChannelSettings = Readonly<Record<string, unknown>>

/** TLS of an RP's own, in PEM. */
export interface BindingTls {
  /** Certificates that alone vouch for it; null: those that vouch for everybody. */
  readonly ca: string | null
  /** What it is shown when it asks who calls (mTLS): a chain, ours first, and our private key, a compact JWE under the master key. */
  readonly client: { readonly certificate: string; readonly sealedKey: string } | null
}

/** The name of the first endpoint of a channel. */
export const MAIN_ENDPOINT = 'main'

/** One way to notify one relying party: an endpoint of one channel, with all that an attempt needs. */
export interface Binding extends NetworkAccess {
  readonly id: BindingId
  /** Its channel. */
  readonly kind: string
  readonly issuer: IssuerName
  readonly iss: Issuer
  readonly clientId: ClientId
  /** Its name among those of the relying party's channel. */
  readonly endpoint: string
  /** Absolute, without fragment; its query is kept byte for byte. */
  readonly uri: string
  readonly settings: ChannelSettings
  readonly names: Names
  /** Whether a message for the subject may stand for a logout of one session. Counts where `names` is `subject`. */
  readonly widens: boolean
  /** The secret that its channel shows the endpoint, a compact JWE under the master key; null without one. */
  readonly sealedSecret: string | null
  /** From the start of the connection to the end of the answer, in milliseconds. */
  readonly timeoutMs: number
  /** Most attempts at once, from all workers together; null where the owner has not said. */
  readonly concurrency: number | null
  /** Most attempts started in a second, by all workers together; null without a limit. */
  readonly ratePerSecond: number | null
  readonly retry: RetryPolicy
  readonly tls: BindingTls | null
  /** The weakest acknowledgement that keeps the promise (SLA). */
  readonly counts: Level
  /** The kind of the relying party's channel that this one stands in for; null: it is required. */
  readonly fallbackFor: string | null
  /** Null when enabled; otherwise why not, in words. */
  readonly disabledReason: string | null
}
