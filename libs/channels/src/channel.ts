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
  Names,
  SigningAlgorithm,
  TokenEncryption,
  TokenSignature,
} from '@curfew/domain'
import type { TObject, TProperties } from 'typebox'
import type { ProbeReport } from './probe-report.ts'

// A channel is one way of speaking to a relying party. What differs between channels is in one folder each; everything else knows
// them by this interface, and their kind as data.

/** What is wrong with a registration: where (a JSON pointer), and what to change. */
export interface Fault {
  readonly pointer: string
  readonly detail: string
}

/** What a channel reads a registration with. */
export interface RegisterContext<Own> {
  readonly issuer: { readonly name: string; readonly sidSupported: boolean }
  /** `curfew` as the registration has it. */
  readonly said: RelyingPartySettings
  /** `curfew` as it takes effect: the relying party's own settings over its issuer's defaults. */
  readonly settings: RelyingPartySettings
  /** `curfew.channels.<kind>`, valid by the channel's `registration`; empty where it is left out. */
  readonly own: Own
  /** What is wrong with an address that is to be called, in words; null: nothing. */
  targetFault(uri: string): string | null
  /** Whether a JWK Set has a public key that an algorithm can encrypt to. */
  hasEncryptionKey(jwks: unknown, algorithm: EncryptionAlgorithm): boolean
}

/** One endpoint as a registration names it. */
export interface RegisteredEndpoint {
  /** Unique within the channel of the relying party. */
  readonly name: string
  readonly uri: string
  readonly enabled: boolean
  /** Where the registration names it. */
  readonly pointer: string
}

/** What a registration says to a channel. */
export interface Registered<Settings> {
  /** The settings of each of its endpoints. Without endpoints: those that one would have. */
  readonly settings: Settings
  readonly endpoints: readonly RegisteredEndpoint[]
  /** The algorithm that its messages are signed in, so that the issuer needs a key for it; null: none is signed. */
  readonly signs: { readonly algorithm: SigningAlgorithm; readonly pointer: string } | null
  /** Whether its endpoints are shown a secret. */
  readonly showsSecret: boolean
  /** Empty where nothing is registered for the channel. */
  readonly faults: readonly Fault[]
}

/** One attempt of one delivery. */
export interface Job<Settings> {
  readonly delivery: Pick<InFlightDelivery, 'sid' | 'event' | 'attempts'>
  readonly binding: Binding
  readonly settings: Settings
  readonly startedAt: Date
}

/** What a channel works with. All of it is for the binding of the job. A tool that rejects ends the attempt: the fault is ours. */
export interface Tools {
  readonly now: () => Date
  /** A new id that cannot be guessed. */
  readonly newId: () => string
  /** SHA-256, in hexadecimal. */
  readonly digest: Digest
  /** Signs claims with the issuer's key. @param typ the `typ` of the header (RFC 7515 4.1.9). @returns a compact JWS. */
  sign(algorithm: SigningAlgorithm, typ: string, claims: object): Promise<string>
  /** Encrypts a signed token to a key of the relying party. @param typ as for `sign`. @returns a compact JWE. */
  encrypt(typ: string, token: string, encryption: TokenEncryption): Promise<string>
  /** The secret that the endpoint is shown. */
  secret(): Promise<string>
  /** Sends within the networks, the TLS and the time limit of the binding. Never rejects for what the peer does. */
  readonly http: {
    post(request: {
      readonly uri: string
      readonly body: string
      readonly headers: Readonly<Record<string, string>>
    }): Promise<Answer>
  }
}

/** What came of one attempt. */
export interface Sent {
  readonly outcome: AttemptOutcome
  /** The id of the message that was sent; null where nothing was sent. */
  readonly jti: string | null
  /** SHA-256 of the token that was sent, in hexadecimal; null where no token was. */
  readonly tokenDigest: string | null
}

/** An endpoint that is probed. */
export interface ProbeTarget<Settings> {
  readonly uri: string
  readonly iss: string
  readonly clientId: string
  readonly settings: Settings
  readonly timeoutMs: number
}

interface ProbeMessage {
  readonly uri: string
  readonly headers: Readonly<Record<string, string>>
  readonly timeoutMs: number
}

/** What a probe works with. All of it is for the endpoint that is probed. */
export interface ProbeTools extends Pick<Tools, 'newId' | 'encrypt' | 'secret'> {
  /**
   * Makes a token, good or such as must be refused.
   *
   * @param header what is different about the header; null takes a member away.
   * @returns a compact JWS; without a signature for `none`.
   */
  forge(
    typ: string,
    claims: Readonly<Record<string, unknown>>,
    how?: {
      readonly signature?: TokenSignature | undefined
      readonly header?: Readonly<Record<string, unknown>> | undefined
    },
  ): Promise<string>
  /** Sends within the networks and the TLS of the endpoint. Never rejects for what it does. */
  readonly http: {
    get(message: ProbeMessage): Promise<Answer>
    post(message: ProbeMessage & { readonly body: string }): Promise<Answer>
    inspectTls(uri: string): Promise<InspectedTls | null>
  }
  /** Called after each answer. */
  readonly onProgress: (sent: number) => void
}

/** How an endpoint of a channel is probed. */
export interface Probe<Settings> {
  /** Requests that there are. */
  readonly total: number
  /** Sends an endpoint what it must take and must refuse, and judges what it answers. Never rejects for what it does. */
  run(target: ProbeTarget<Settings>, tools: ProbeTools): Promise<ProbeReport & { readonly sent: number }>
}

/** What every channel has, whoever calls whom. */
interface Base<Settings, Own> {
  /** The kind of its bindings, and the label in metrics, logs and receipts. */
  readonly kind: string
  /** The strongest acknowledgement that it can get. */
  readonly best: Level
  /** The members of `curfew.channels.<kind>` that only this channel has. */
  readonly registration: TProperties
  /** The schema of `bindings.settings`. */
  readonly settings: TObject
  /** Reads its part of a registration. The one place that resolves own settings, the issuer's and defaults. */
  endpoints(client: ClientMetadata, at: RegisterContext<Own>): Registered<Settings>
  /** What one message can name, and whether one for the subject may stand for a logout of one session. */
  names(settings: Settings): { readonly names: Names; readonly widens: boolean }
  /** Its names in the words for a dead letter. */
  readonly called: ChannelNames
  /** What mends a dead letter, where the channel knows better than the general words; null elsewhere. */
  mend(reason: DeadLetterReason, last: LastAttempt | null): string | null
}

/** A channel by which we send. Leases, schedule, breaker and pace are the engine's. */
export interface PushChannel<Settings = ChannelSettings, Own = object> extends Base<Settings, Own> {
  readonly mode: 'push'
  /** Attempts one delivery. Rejects only for what a tool rejects. */
  send(job: Job<Settings>, tools: Tools): Promise<Sent>
  readonly probe: Probe<Settings>
}

/** Every channel. Those that relying parties fetch from will be another member, with the state `offered` for their deliveries. */
export type Channel = PushChannel
