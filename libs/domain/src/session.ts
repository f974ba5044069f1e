import type { ClientId, Issuer, Sid, Subject } from './ids.ts'

/** A session that one client has at one issuer, as its IdP posted it. */
export interface Session {
  readonly iss: Issuer
  readonly sub: Subject
  readonly sid: Sid
  readonly clientId: ClientId
  /** Which device it is on; null where the IdP has not said. */
  readonly device: string | null
  readonly startedAt: Date
  /** When it ends by itself. */
  readonly expiresAt: Date
}

/** A session that ended by itself, as its IdP posted it: nobody is to be told. */
export interface SessionEnd {
  readonly iss: Issuer
  readonly sid: Sid
  /** Null: of every client that has part in it. */
  readonly clientId: ClientId | null
}

/**
 * What the sessions of an issuer in the index are good for. `off`: nothing. `partial`: who is known to hold one is told by
 * sid, and the others are told all the same, for they may hold one. `complete`: only who is known to hold one is told.
 */
export type SessionIndexUse = 'off' | 'partial' | 'complete'
