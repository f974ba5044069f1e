import type { RelyingPartySettings } from '@curfew/contract'
import type {
  Answer,
  AttemptOutcome,
  Binding,
  ChannelNames,
  ChannelSettings,
  ClientMetadata,
  DeadLetterReason,
  Digest,
  EncryptionAlgorithm,
  InFlightDelivery,
  InspectedTls,
  LastAttempt,
  Level,
  LogoutEvent,
  Offer,
  SessionIndexUse,
  SessionToken,
  Step,
  TokenAlgorithm,
  TokenEncryption,
  TokenSignature,
} from '@curfew/domain'
import type { TObject, TProperties } from 'typebox'
import type { ProbeReport } from './probe-report.ts'
import type { ProbedSession } from './probe-session.ts'

// A channel is one protocol for notifying a relying party. The code of each channel is in one folder. All other code uses
// channels only by the interface in this file, and has the kind of a channel only as data.

/** A fault of a registration: its place (a JSON pointer), and what to change. */
export interface Fault {
  readonly pointer: string
  readonly detail: string
}

/** The input from which a channel reads its part of a registration, in addition to the metadata of the client. */
export interface RegisterContext<Own> {
  readonly issuer: {
    readonly name: string
    readonly iss: string
    readonly sidSupported: boolean
    readonly sessionIndex: SessionIndexUse
    /** The longest life of its access tokens, in seconds. */
    readonly maxTokenTtlS: number
  }
  /** The member `curfew` of the registration. */
  readonly registered: RelyingPartySettings
  /** The effective `curfew` settings: those of the relying party, with its issuer's defaults for absent members. */
  readonly settings: RelyingPartySettings
  /** `curfew.channels.<kind>`, valid by the channel's `registration`; empty if it is absent. */
  readonly own: Own
  /** The fault of an address that Curfew would call, in words; null if there is none. */
  targetFault(uri: string): string | null
  /** Whether a JWK Set has a public key for the encryption algorithm. */
  hasEncryptionKey(jwks: unknown, algorithm: EncryptionAlgorithm): boolean
}

/** One endpoint in a registration. */
export interface RegisteredEndpoint {
  /** Unique within the channel of the relying party. */
  readonly name: string
  readonly uri: string
  readonly enabled: boolean
  /** JSON pointer to the endpoint in the registration. */
  readonly pointer: string
}

/** The registered address and settings of an endpoint. Another release may have written the settings. */
export interface RegisteredAt<Settings> {
  readonly uri: string
  readonly settings: Partial<Settings>
}

/** A channel's part of a registration. */
export interface Registered<Settings> {
  /** The settings of the channel's endpoints. They are set even if no endpoint is registered. */
  readonly settings: Settings
  readonly endpoints: readonly RegisteredEndpoint[]
  /** The algorithm of the channel's signatures, for which the issuer needs a key; null if its messages are not signed. */
  readonly signs: { readonly algorithm: TokenAlgorithm; readonly pointer: string } | null
  /** The strongest acknowledgement with these settings. Absent: that of the channel. */
  readonly best?: Level
  /** Whether the channel sends a secret to its endpoints. */
  readonly sendsSecret: boolean
  /** Empty if nothing is registered for the channel. */
  readonly faults: readonly Fault[]
}

/** One attempt of one delivery. */
export interface Job<Settings> {
  readonly delivery: Pick<InFlightDelivery, 'sid' | 'event' | 'attempts'>
  readonly binding: Binding
  readonly settings: Settings
  readonly startedAt: Date
  /** The message that `prepare` made, in the first attempt only; null in every other one. */
  readonly firstMessage: string | null
}

/**
 * The tools for one attempt at the binding of the job. A tool that rejects ends the attempt: its failure is a fault of Curfew.
 */
export interface Tools {
  readonly now: () => Date
  /** Makes a new id for a message of the delivery: see `messageId` in the domain. */
  readonly newId: () => string
  /** SHA-256, in hexadecimal. */
  readonly digest: Digest
  /**
   * Signs claims with the issuer's key.
   *
   * @param typ the `typ` of the header (RFC 7515 section 4.1.9); null for a header without it.
   * @returns a compact JWS.
   */
  sign(algorithm: TokenAlgorithm, typ: string | null, claims: object): Promise<string>
  /** Encrypts a signed token to a key of the relying party. @param typ as for `sign`. @returns a compact JWE. */
  encrypt(typ: string | null, token: string, encryption: TokenEncryption): Promise<string>
  /** The secret that the endpoint expects. */
  secret(): Promise<string>
  /**
   * Signs the claims of a client's assertion (RFC 7523 section 2.2) with the secret of the endpoint: for HS256, HS384 and HS512 with the text,
   * otherwise with the private JWK that the text is.
   *
   * @param algorithm null: that of the JWK.
   */
  assertion(algorithm: string | null, claims: object): Promise<string>
  /** The tokens that the identity provider posted with the session of the delivery. Empty if the session index has none. */
  sessionTokens(): Promise<readonly SessionToken[]>
  /** Sends with the allowed networks, TLS settings and time limit of the binding. Never rejects because of the peer. */
  readonly http: {
    post(request: {
      readonly uri: string
      readonly body: string
      readonly headers: Readonly<Record<string, string>>
    }): Promise<Answer>
    /** Same as `post`, by any method. A `body` of null is no body. */
    send(request: {
      readonly method: string
      readonly uri: string
      readonly body: string | null
      readonly headers: Readonly<Record<string, string>>
    }): Promise<Answer>
  }
}

/** The result of one attempt. */
export interface Sent {
  readonly outcome: AttemptOutcome
  /** The id of the sent message; null if nothing was sent. */
  readonly jti: string | null
  /** SHA-256 of the sent token, in hexadecimal; null if no token was sent. */
  readonly tokenDigest: string | null
}

/** The endpoint of a probe. */
export interface ProbeTarget<Settings> {
  readonly uri: string
  readonly iss: string
  readonly clientId: string
  readonly settings: Settings
  readonly timeoutMs: number
  /** A real session, which the last request names and so ends. Absent unless the caller asked for it. */
  readonly session?: ProbedSession
}

interface ProbeMessage {
  readonly uri: string
  readonly headers: Readonly<Record<string, string>>
  readonly timeoutMs: number
}

/** The tools for a probe of one endpoint. */
export interface ProbeTools extends Pick<Tools, 'newId' | 'encrypt' | 'secret' | 'assertion'> {
  /**
   * Makes a token: a good one, or a forged one that the endpoint must refuse.
   *
   * @param typ as for `sign`. @param how `header` has the changes to the header; null removes a member.
   * @returns a compact JWS; without a signature for `none`.
   */
  forge(
    typ: string | null,
    claims: Readonly<Record<string, unknown>>,
    how?: {
      readonly signature?: TokenSignature | undefined
      readonly header?: Readonly<Record<string, unknown>> | undefined
    },
  ): Promise<string>
  /** Sends with the allowed networks and TLS settings of the endpoint. Never rejects because of the endpoint. */
  readonly http: {
    get(message: ProbeMessage): Promise<Answer>
    post(message: ProbeMessage & { readonly body: string }): Promise<Answer>
    send(message: ProbeMessage & { readonly method: string; readonly body: string | null }): Promise<Answer>
    inspectTls(uri: string): Promise<InspectedTls | null>
  }
  /** Called after each answer. */
  readonly onProgress: (sent: number) => void
}

/** The probe of a channel's endpoints. */
export interface Probe<Settings> {
  /** Number of requests of a full probe without a real session. */
  readonly total: number
  /** Whether a probe can name a real session. */
  readonly namesSessions: boolean
  /** Sends valid and invalid requests to an endpoint, and judges its answers. Never rejects because of the endpoint. */
  run(target: ProbeTarget<Settings>, tools: ProbeTools): Promise<ProbeReport & { readonly sent: number }>
}

/** The members that push and pull channels have in common. */
interface Base<Settings, Own> {
  /** The kind of its bindings, and the label in metrics, logs and receipts. */
  readonly kind: string
  /** Whether the channel revokes or notifies. */
  readonly step: Step
  /** The strongest acknowledgement that the channel can get. */
  readonly best: Level
  /** The members of `curfew.channels.<kind>` that only this channel has. */
  readonly registration: TProperties
  /** The schema of `bindings.settings`. */
  readonly settings: TObject
  /**
   * Reads the channel's part of a registration. Only this function resolves settings of the client, of the issuer and defaults.
   */
  endpoints(client: ClientMetadata, at: RegisterContext<Own>): Registered<Settings>
  /**
   * The kinds of names that one message can have, whether a message for the subject may replace one for a session, and which logouts
   * are owed to the binding. See `Binding`.
   */
  names(settings: Settings): Pick<Binding, 'names' | 'widens' | 'always' | 'posted'>
  /**
   * The addresses besides the endpoint's that get its secret. A stored secret is kept only while they stay the same. Default: none.
   */
  secretPlaces?(settings: Partial<Settings>): readonly string[]
  /** The names of the channel for texts about dead letters. */
  readonly channelNames: ChannelNames
  /**
   * A text that explains how to correct the cause of a dead letter; null if the general text is good enough.
   *
   * @param endpoint its registered address and settings; null if they are unknown.
   */
  deadLetterFix(
    reason: DeadLetterReason,
    last: LastAttempt | null,
    endpoint: RegisteredAt<Settings> | null,
  ): string | null
}

/** A channel that sends to an endpoint. The delivery service has the leases, retry schedule, breaker and pace. */
export interface PushChannel<Settings = ChannelSettings, Own = object> extends Base<Settings, Own> {
  readonly mode: 'push'
  /**
   * Makes the message of the first attempt when the event is planned, for messages that only the event can provide. It is stored
   * sealed until that attempt. Null: the attempt makes its own message.
   */
  prepare?(event: Pick<LogoutEvent, 'relayed'>, binding: Pick<Binding, 'clientId'>): string | null
  /** Attempts one delivery. Rejects only if a tool rejects. */
  send(job: Job<Settings>, tools: Tools): Promise<Sent>
  readonly probe: Probe<Settings>
}

/**
 * A channel from which relying parties fetch their logouts. Curfew offers each delivery until the relying party acknowledges it, or
 * until the offer ends.
 */
export interface PullChannel<Settings = ChannelSettings, Own = object> extends Base<Settings, Own> {
  readonly mode: 'pull'
  /** How long a delivery is offered, and how it ends without an acknowledgement. */
  offer(settings: Settings): Offer
}

/** Any channel. */
export type Channel = PushChannel | PullChannel
