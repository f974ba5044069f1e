import type {
  Answer,
  AttemptOutcome,
  Binding,
  Digest,
  InFlightDelivery,
  InspectedTls,
  SubjectClaims,
  TokenSignature,
} from '@curfew/domain'
import type { ProbeReport } from './probe-report.ts'

// A channel is one way of speaking to a relying party. What differs between channels is in one folder each; everything else knows
// them by this interface, and their kind as data.

/** One attempt of one delivery. */
export interface Job {
  readonly delivery: Pick<InFlightDelivery, 'sid' | 'event'>
  readonly binding: Binding
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
  sign(typ: string, claims: object): Promise<string>
  /** Encrypts a signed token where the relying party registered for it. @param typ as for `sign`. @returns it, or the token as it is. */
  encrypt(typ: string, token: string): Promise<string>
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
  /** The id of the message that was sent. */
  readonly jti: string
  /** SHA-256 of the message, in hexadecimal. */
  readonly tokenDigest: string
}

/** An endpoint that is probed. */
export interface ProbeTarget {
  readonly uri: string
  readonly iss: string
  readonly clientId: string
  readonly settings: {
    readonly subjectClaims: SubjectClaims
    readonly sessionRequired: boolean
    readonly timeoutMs: number
  }
}

interface ProbeMessage {
  readonly uri: string
  readonly headers: Readonly<Record<string, string>>
  readonly timeoutMs: number
}

/** What a probe works with. All of it is for the endpoint that is probed. */
export interface ProbeTools {
  readonly newId: () => string
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
export interface Probe {
  /** Requests that there are. */
  readonly total: number
  /** Sends an endpoint what it must take and must refuse, and judges what it answers. Never rejects for what it does. */
  run(target: ProbeTarget, tools: ProbeTools): Promise<ProbeReport & { readonly sent: number }>
}

/** A channel by which we send. Leases, schedule, breaker and pace are the engine's. */
export interface PushChannel {
  /** The kind of its bindings, and the label in metrics, logs and receipts. */
  readonly kind: string
  readonly mode: 'push'
  /** Attempts one delivery. Rejects only for what a tool rejects. */
  send(job: Job, tools: Tools): Promise<Sent>
  readonly probe: Probe
}

export type Channel = PushChannel
