import type { ClientId, Issuer, Sid, Subject } from '../ids.ts'

/** When a session began, and by which clock. */
export interface Beginning {
  readonly startedAt: Date
  /** Whether the IdP stated `startedAt`, by its clock. If not, it is `acceptedAt`. */
  readonly startedStated: boolean
  /** When we accepted the first post of it, by our clock. */
  readonly acceptedAt: Date
}

/** A session that one client has at one issuer, as its IdP posted it. */
export interface Session extends Beginning {
  readonly iss: Issuer
  readonly sub: Subject
  readonly sid: Sid
  readonly clientId: ClientId
  /** Which device it is on; null where the IdP has not said. */
  readonly device: string | null
  /** The subject's email address. Absent where the IdP has not said. */
  readonly email?: string
  /** When it ends by itself. */
  readonly expiresAt: Date
}

/** The same, perhaps said several times. */
export interface SessionStart extends Session {
  /** The latest that it was said to begin; absent where that is when it began. */
  readonly restarted?: Beginning
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

/** What an IdP said of a session. */
export type SessionChange =
  | { readonly kind: 'started'; readonly session: Session }
  | { readonly kind: 'ended'; readonly end: SessionEnd }

/** What a series of changes comes to. */
export interface SessionChanges {
  /** To be applied first. */
  readonly ends: readonly SessionEnd[]
  /** What began, or was posted again, after the last of its ends; each session of a client once. */
  readonly starts: readonly SessionStart[]
}

/** The event log's key of what is said about a session: its start and its end stay in order. */
export function sessionLogKey({ iss, sid }: Pick<SessionEnd, 'iss' | 'sid'>): string {
  return JSON.stringify([iss, sid])
}

/** A session that was posted again: it began when it was first said to, and ends when it was last said to. */
export function mergeStarts(earlier: SessionStart, again: SessionStart): SessionStart {
  const { restarted: _, ...session } = again
  const said = [earlier, again].flatMap((start) => [start, ...(start.restarted ? [start.restarted] : [])])
  const times = said.map(({ startedAt }) => startedAt.getTime())
  const [first, last] = [beginningAt(said, Math.min(...times)), beginningAt(said, Math.max(...times))]
  return {
    ...session,
    device: again.device ?? earlier.device,
    ...(again.email === undefined && earlier.email !== undefined && { email: earlier.email }),
    ...first,
    acceptedAt: earliestAcceptance(said),
    ...(last.startedAt > first.startedAt && { restarted: last }),
    expiresAt: new Date(Math.max(earlier.expiresAt.getTime(), again.expiresAt.getTime())),
  }
}

/** The beginning at a time, of several that were said. */
function beginningAt(said: readonly Beginning[], ms: number): Beginning {
  const then = said.filter(({ startedAt }) => startedAt.getTime() === ms)
  const startedStated = then.some((each) => each.startedStated)
  return { startedAt: new Date(ms), startedStated, acceptedAt: earliestAcceptance(then) }
}

function earliestAcceptance(said: readonly Beginning[]): Date {
  return new Date(Math.min(...said.map(({ acceptedAt }) => acceptedAt.getTime())))
}

/** Changes in their order, as ends and then starts, which come to the same. */
export function netOf(changes: readonly SessionChange[]): SessionChanges {
  const ends = new Map<string, SessionEnd>()
  // By session of the IdP, for it may end for all its clients at once.
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
      ends.set(JSON.stringify([end.iss, end.sid, end.clientId]), end)
    }
  }
  return { ends: [...ends.values()], starts: [...starts.values()].flatMap((each) => [...each.values()]) }
}
