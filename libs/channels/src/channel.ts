import type { Answer, AttemptOutcome, Binding, Digest, InFlightDelivery } from '@curfew/domain'

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
  /** A new id that nobody can guess. */
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

/** A channel by which we send. Leases, schedule, breaker and pace are the engine's. */
export interface PushChannel {
  /** The kind of its bindings, and the label in metrics, logs and receipts. */
  readonly kind: string
  readonly mode: 'push'
  /** Attempts one delivery. Rejects only for what a tool rejects. */
  send(job: Job, tools: Tools): Promise<Sent>
}

export type Channel = PushChannel
