import type { LogoutTokenClaims } from './claims.ts'
import { readLogoutToken } from './form.ts'
import { memoryReplayStore, type ReplayStore } from './replay-store.ts'
import { createLogoutTokenVerifier, type LogoutTokenVerifierOptions } from './verifier.ts'

/** A logout that the issuer has signed: end these sessions. At least one of `subject` and `sessionId` is there. */
export interface Logout {
  readonly issuer: string
  /** `sub`: whose sessions end; where `sessionId` is there too, only that session of theirs. */
  readonly subject: string | null
  /** `sid`: the session at the issuer, as in the ID token that began the session here. */
  readonly sessionId: string | null
  /** `txn`: the issuer's id of the logout, the same each time that it is tried. */
  readonly eventId: string | null
  /** The token's own id. */
  readonly jti: string
  readonly claims: LogoutTokenClaims
}

/** Why a request was refused, and what was answered. */
export interface Refusal {
  readonly status: number
  readonly error: 'invalid_request' | 'logout_failed'
  readonly description: string
  readonly cause?: unknown
}

export interface LogoutReceiverOptions extends LogoutTokenVerifierOptions {
  /**
   * Ends the sessions. May be called again for the same logout, and for one that is over already: both are a success. When
   * it throws, the answer is a 400 `logout_failed`, and the same token may come again.
   */
  readonly onLogout: (logout: Logout) => unknown
  /** Default in memory, which is enough for a single process. */
  readonly replayStore?: ReplayStore | undefined
  /** Hears what `onLogout` and the replay store threw, and that keys could not be had. Default `console.error`. */
  readonly onError?: ((error: unknown) => void) | undefined
  /** Hears of each request that was not answered with 200, for the log; anybody can cause one. Default nothing. */
  readonly onRefusal?: ((refusal: Refusal) => void) | undefined
}

export interface LogoutReceiver {
  /** Answers one request to the `backchannel_logout_uri`. Never rejects. */
  handle(request: Request): Promise<Response>
}

type Outcome = Refusal | null

/**
 * The back-channel logout endpoint of a relying party (Back-Channel Logout 2.5 to 2.8): takes the token off the request,
 * verifies it, guards against replay, calls `onLogout` and answers.
 *
 * @throws {TypeError} when an option is wrong.
 */
export function createLogoutReceiver(options: LogoutReceiverOptions): LogoutReceiver {
  const { issuer, clientId, onLogout, onRefusal } = options
  const { onError = (error) => console.error(error) } = options
  if (typeof onLogout !== 'function') throw new TypeError('onLogout is missing')
  const verifier = createLogoutTokenVerifier(options)
  const replays = options.replayStore ?? memoryReplayStore(options.now && { now: options.now })
  /** Logouts that are under way, by replay key: the same token meanwhile shares what comes of the first. */
  const underWay = new Map<string, Promise<Outcome>>()

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
    const shared = underWay.get(key)
    if (shared !== undefined) return shared
    const outcome = logOut(claims, key, usableForS).finally(() => underWay.delete(key))
    underWay.set(key, outcome)
    return outcome
  }

  async function logOut(claims: LogoutTokenClaims, key: string, ttlS: number): Promise<Outcome> {
    // A store that is away does not keep anybody signed in: the guard is optional, and a logout twice does no harm.
    const used = await attempt(() => replays.has(key))
    if (used === true) return invalid('jti was used before')
    const { iss, sub = null, sid = null, txn = null, jti } = claims
    try {
      await onLogout({ issuer: iss, subject: sub, sessionId: sid, eventId: txn, jti, claims })
    } catch (cause) {
      report(cause)
      // What the app threw may hold what is nobody else's business.
      return { status: 400, error: 'logout_failed', description: 'the session could not be ended', cause }
    }
    await attempt(() => replays.add(key, ttlS))
    return null
  }

  /** @returns undefined when it failed, which was reported. */
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

/** Back-Channel Logout 2.8: exactly 200 or 400, never cached. */
function answer(status: number, refusal?: Refusal): Response {
  const headers = new Headers({ 'cache-control': 'no-store' })
  if (status === 405) headers.set('allow', 'POST')
  if (refusal === undefined) return new Response(null, { status, headers })
  headers.set('content-type', 'application/json')
  const { error, description: error_description } = refusal
  return new Response(JSON.stringify({ error, error_description }), { status, headers })
}

/** Of one length whatever the issuer puts into a `jti`, and never the same for two issuers or clients. */
async function replayKey(...parts: readonly string[]): Promise<string> {
  const digest = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(JSON.stringify(parts)))
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, '0')).join('')
}
