import type { LogoutTokenClaims } from './claims.ts'
import { readLogoutToken } from './form.ts'
import { memoryReplayStore, type ReplayStore } from './replay-store.ts'
import { createLogoutTokenVerifier, type LogoutTokenVerifierOptions } from './verifier.ts'

/** A verified logout: the app must end these sessions. At least one of `subject` and `sessionId` is not null. */
export interface Logout {
  readonly issuer: string
  /** `sub`: the subject whose sessions end. If `sessionId` is not null, only that session of the subject ends. */
  readonly subject: string | null
  /** `sid`: the session at the issuer, as in the ID token of the app's session. */
  readonly sessionId: string | null
  /** `txn`: the issuer's id of the logout, which is the same in each attempt. */
  readonly eventId: string | null
  /** The id of the token. */
  readonly jti: string
  readonly claims: LogoutTokenClaims
}

/** A refused request: the answer that it got, and the cause. */
export interface Refusal {
  readonly status: number
  readonly error: 'invalid_request' | 'logout_failed'
  readonly description: string
  readonly cause?: unknown
}

export interface LogoutReceiverOptions extends LogoutTokenVerifierOptions {
  /**
   * Ends the sessions. It may be called again for the same logout, or for a session that is over already: both are a success. If
   * it throws, the answer is a 400 `logout_failed`, and the OP may send the same token again.
   */
  readonly onLogout: (logout: Logout) => unknown
  /** The store of used tokens. The default store is in memory, which is enough for a single process. */
  readonly replayStore?: ReplayStore | undefined
  /** Gets errors of `onLogout` and the replay store, and failures to fetch the issuer's keys. Default `console.error`. */
  readonly onError?: ((error: unknown) => void) | undefined
  /** Gets each request that was not answered with 200, for logging. A stranger can cause such requests. Default: not called. */
  readonly onRefusal?: ((refusal: Refusal) => void) | undefined
}

export interface LogoutReceiver {
  /** Answers one request to the `backchannel_logout_uri`. Never rejects. */
  handle(request: Request): Promise<Response>
}

type Outcome = Refusal | null

/**
 * Creates the back-channel logout endpoint of a relying party (Back-Channel Logout 2.5 to 2.8). It reads the token from the
 * request, verifies it, guards against replay, calls `onLogout` and answers.
 *
 * @throws {TypeError} if an option is wrong.
 */
export function createLogoutReceiver(options: LogoutReceiverOptions): LogoutReceiver {
  const { issuer, clientId, onLogout, onRefusal } = options
  const { onError = (error) => console.error(error) } = options
  if (typeof onLogout !== 'function') throw new TypeError('onLogout must be a function')
  const verifier = createLogoutTokenVerifier(options)
  const replays = options.replayStore ?? memoryReplayStore(options.now && { now: options.now })
  /** Running logouts by replay key. A concurrent request with the same token shares the outcome. */
  const running = new Map<string, Promise<Outcome>>()

  return {
    async handle(request) {
      const refusal = await outcomeOf(request)
      if (refusal === null) return answer(200)
      attempt(() => onRefusal?.(refusal))
      return answer(refusal.status, refusal)
    },
  }

  async function outcomeOf(request: Request): Promise<Outcome> {
    if (request.method !== 'POST') return invalid('only POST is answered', { status: 405 })
    const read = await readLogoutToken(request)
    if (!read.ok) return invalid(read.description, { cause: read.cause })
    const verification = await verifier.verify(read.token)
    if (!verification.ok) {
      const { error, description, cause } = verification
      if (error === 'logout_failed') report(cause)
      return { status: 400, error, description, cause }
    }
    const { claims, usableForS } = verification
    const key = await replayKey(issuer, clientId, claims.jti)
    const shared = running.get(key)
    if (shared !== undefined) return shared
    const outcome = logOut(claims, key, usableForS).finally(() => running.delete(key))
    running.set(key, outcome)
    return outcome
  }

  async function logOut(claims: LogoutTokenClaims, key: string, ttlS: number): Promise<Outcome> {
    // An unavailable store must not prevent the logout: the guard is optional, and ending a session twice does no harm.
    const used = await attempt(() => replays.has(key))
    if (used === true) return invalid('jti was used before')
    const { iss, sub = null, sid = null, txn = null, jti } = claims
    try {
      await onLogout({ issuer: iss, subject: sub, sessionId: sid, eventId: txn, jti, claims })
    } catch (cause) {
      report(cause)
      // The app's error may contain secrets, so the answer does not repeat it.
      return { status: 400, error: 'logout_failed', description: 'the session could not be ended', cause }
    }
    await attempt(() => replays.add(key, ttlS))
    return null
  }

  /** Runs an action, and reports its failure to `onError`. @returns undefined if it failed. */
  async function attempt<Value>(action: () => Value | Promise<Value>): Promise<Value | undefined> {
    try {
      return await action()
    } catch (error) {
      report(error)
      return undefined
    }
  }

  function report(error: unknown): void {
    try {
      onError(error)
    } catch (failure) {
      console.error(failure)
    }
  }
}

function invalid(description: string, more: { status?: number; cause?: unknown } = {}): Refusal {
  return { status: 400, error: 'invalid_request', description, ...more }
}

/** Answers 200 or 400, never cached (Back-Channel Logout 2.8), or 405 for another method. */
function answer(status: number, refusal?: Refusal): Response {
  const headers = new Headers({ 'cache-control': 'no-store' })
  if (status === 405) headers.set('allow', 'POST')
  if (refusal === undefined) return new Response(null, { status, headers })
  headers.set('content-type', 'application/json')
  const { error, description: error_description } = refusal
  return new Response(JSON.stringify({ error, error_description }), { status, headers })
}

/** Hashes issuer, client and `jti`, so that a key has a fixed length and differs between issuers and clients. */
async function replayKey(...parts: readonly string[]): Promise<string> {
  const digest = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(JSON.stringify(parts)))
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, '0')).join('')
}
