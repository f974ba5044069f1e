import type { Level } from '../delivery/level.ts'
import type { RetryPolicy } from '../delivery/retry.ts'
import type { BindingId, ClientId, Issuer, IssuerName } from '../ids.ts'
import type { TokenEncryption } from './encryption.ts'
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

/**
 * What a token for a single session carries. `both` is what most RPs expect; some read it as "either" and end every
 * session of the user, so an RP may ask for one of them.
 */
export type SubjectClaims = 'sid' | 'sub' | 'both'

/** TLS of an RP's own, in PEM. */
export interface BindingTls {
  /** Certificates that alone vouch for it; null: those that vouch for everybody. */
  readonly ca: string | null
  /** What it is shown when it asks who calls (mTLS): a chain, ours first, and our private key, a compact JWE under the master key. */
  readonly client: { readonly certificate: string; readonly sealedKey: string } | null
}

/** The name of the endpoint that `backchannel_logout_uri` is. */
export const MAIN_ENDPOINT = 'main'

/** One way of telling one relying party: a back-channel logout endpoint of its, with everything an attempt needs to know. */
export interface Binding extends NetworkAccess {
  readonly id: BindingId
  /** Its channel. */
  readonly kind: string
  readonly issuer: IssuerName
  readonly iss: Issuer
  readonly clientId: ClientId
  /** Its name among those of the relying party. */
  readonly endpoint: string
  /** Absolute, without fragment; its query is kept byte for byte (Back-Channel Logout 2.2). */
  readonly uri: string
  /** `backchannel_logout_session_required`: a token must name a session. */
  readonly sessionRequired: boolean
  readonly algorithm: SigningAlgorithm
  readonly subjectClaims: SubjectClaims
  /** From the start of the connection to the end of the answer, in milliseconds. */
  readonly timeoutMs: number
  /** Most attempts at once, from all workers together; null where the owner has not said. */
  readonly concurrency: number | null
  /** Most attempts started in a second, by all workers together; null without a limit. */
  readonly ratePerSecond: number | null
  readonly retry: RetryPolicy
  readonly tls: BindingTls | null
  /** Null: its tokens are signed only. */
  readonly encryption: TokenEncryption | null
  /** The weakest acknowledgement that keeps the promise (SLA). */
  readonly counts: Level
  /** The kind of the relying party's channel that this one stands in for; null: it is required. */
  readonly fallbackFor: string | null
  /** Null when enabled; otherwise why not, in words. */
  readonly disabledReason: string | null
}
