import type { ClientId, Issuer, Sid, Subject } from '../ids.ts'

/** When a session began, and by which clock. */
export interface SessionBeginning {
  readonly startedAt: Date
  /** Whether the IdP stated `startedAt`, by its clock. If not, it is `acceptedAt`. */
  readonly startedStated: boolean
  /** When we accepted the first post of it, by our clock. */
  readonly acceptedAt: Date
}

/** A token that ends with its session, and its kind (RFC 7009 section 2.1); null if the IdP stated none. */
export interface SessionToken {
  readonly token: string
  readonly hint: 'refresh_token' | 'access_token' | null
}

/** A session of one client at one issuer, as the IdP posted it. */
export interface Session extends SessionBeginning {
  readonly iss: Issuer
  readonly sub: Subject
  readonly sid: Sid
  readonly clientId: ClientId
  /** The device of the session; null if the IdP stated none. */
  readonly device: string | null
  /** The subject's email address. Absent if the IdP stated none. */
  readonly email?: string
  /** When it ends by itself; null if it lasts until it is ended or logged out, for example an offline session. */
  readonly expiresAt: Date | null
  /** Its tokens, a compact JWE under the master key. Absent if the IdP posted none. */
  readonly sealedTokens?: string
}

/** A session, merged from one or more posts of it. */
export interface SessionStart extends Session {
  /** True if `expiresAt` replaces an earlier end, because one of the merged posts had none. Absent: the later end counts. */
  readonly replacesEnd?: true
  /** The latest stated start; absent if it equals the first. */
  readonly restarted?: SessionBeginning
}

/** The end of a session, as the IdP posted it. It owes no delivery. */
export interface SessionEnd {
  readonly iss: Issuer
  readonly sid: Sid
  /** Null: the session ended at every client. */
  readonly clientId: ClientId | null
  /** When we accepted the post of it, by our clock. Absent: when it is applied. */
  readonly acceptedAt?: Date
}

/**
 * How an issuer's indexed sessions narrow its logouts.
 * - `off`: not at all.
 * - `partial`: clients with a known session get a delivery by sid. The other clients get a delivery as well, because they may
 *   hold an unposted session.
 * - `complete`: only clients with a known session get a delivery.
 */
export type SessionIndexUse = 'off' | 'partial' | 'complete'

/** A start or an end of a session that an IdP posted. */
export type SessionChange =
  | { readonly kind: 'started'; readonly session: Session }
  | { readonly kind: 'ended'; readonly end: SessionEnd }

/** The net effect of a series of changes. */
export interface SessionChanges {
  /** The ends, to be applied first. */
  readonly ends: readonly SessionEnd[]
  /** The sessions that were posted after their last end. Every session of a client occurs once. */
  readonly starts: readonly SessionStart[]
}

/** The event log's key of a session's changes, so that its starts and ends stay in order. */
export function sessionLogKey({ iss, sid }: Pick<SessionEnd, 'iss' | 'sid'>): string {
  return JSON.stringify([iss, sid])
}

/**
 * Merges two posts of one session. The earliest start and the latest end count. A post without an end takes the end away, and the
 * next post with an end gives it one. A post whose end had passed when it was accepted changes nothing.
 */
export function mergeStarts(earlier: SessionStart, again: SessionStart): SessionStart {
  if (wasOver(again)) return earlier
  if (wasOver(earlier)) return again
  const { restarted: _, replacesEnd: __, expiresAt: ___, ...session } = again
  const starts = [earlier, again].flatMap((start) => [start, ...(start.restarted ? [start.restarted] : [])])
  const times = starts.map(({ startedAt }) => startedAt.getTime())
  const [first, last] = [beginningAt(starts, Math.min(...times)), beginningAt(starts, Math.max(...times))]
  return {
    ...session,
    device: again.device ?? earlier.device,
    ...(again.email === undefined && earlier.email !== undefined && { email: earlier.email }),
    ...(again.sealedTokens === undefined &&
      earlier.sealedTokens !== undefined && { sealedTokens: earlier.sealedTokens }),
    ...first,
    acceptedAt: earliestAcceptance(starts),
    ...(last.startedAt > first.startedAt && { restarted: last }),
    ...mergedEnd(earlier, again),
  }
}

/** Whether a session had ended by itself when its post was accepted. */
function wasOver({ expiresAt, acceptedAt }: SessionStart): boolean {
  return expiresAt !== null && expiresAt <= acceptedAt
}

function mergedEnd(
  earlier: SessionStart,
  again: SessionStart,
): Pick<SessionStart, 'expiresAt' | 'replacesEnd'> {
  const { expiresAt } = again
  if (expiresAt === null || again.replacesEnd) return { expiresAt, ...(expiresAt !== null && REPLACES) }
  if (earlier.expiresAt === null) return { expiresAt, ...REPLACES }
  const later = new Date(Math.max(earlier.expiresAt.getTime(), expiresAt.getTime()))
  return { expiresAt: later, ...(earlier.replacesEnd && REPLACES) }
}

const REPLACES = { replacesEnd: true } as const

/** Merges the starts at one time. */
function beginningAt(starts: readonly SessionBeginning[], ms: number): SessionBeginning {
  const simultaneous = starts.filter(({ startedAt }) => startedAt.getTime() === ms)
  const startedStated = simultaneous.some((start) => start.startedStated)
  return { startedAt: new Date(ms), startedStated, acceptedAt: earliestAcceptance(simultaneous) }
}

function earliestAcceptance(starts: readonly SessionBeginning[]): Date {
  return new Date(Math.min(...starts.map(({ acceptedAt }) => acceptedAt.getTime())))
}

/** Reduces ordered changes to ends followed by starts, with the same effect. */
export function netOf(changes: readonly SessionChange[]): SessionChanges {
  const ends = new Map<string, SessionEnd>()
  // Grouped by session of the IdP, because one end may apply to all its clients.
  const starts = new Map<string, Map<string, SessionStart>>()
  for (const change of changes) {
    if (change.kind === 'started') {
      const { session } = change
      const key = sessionLogKey(session)
      const ofSession = starts.get(key) ?? new Map<string, SessionStart>()
      const session_sub = JSON.stringify([session.clientId, session.sub])
      const earlier = ofSession.get(session_sub)
      ofSession.set(session_sub, earlier === undefined ? session : mergeStarts(earlier, session))
      starts.set(key, ofSession)
    } else {
      const { end } = change
      const ofSession = starts.get(sessionLogKey(end))
      for (const [session_sub, { clientId }] of ofSession ?? []) {
        if (end.clientId === null || end.clientId === clientId) ofSession?.delete(session_sub)
      }
      // The first end is the one that ended a session which the index has.
      const key = JSON.stringify([end.iss, end.sid, end.clientId])
      if (!ends.has(key)) ends.set(key, end)
    }
  }
  return { ends: [...ends.values()], starts: [...starts.values()].flatMap((each) => [...each.values()]) }
}
