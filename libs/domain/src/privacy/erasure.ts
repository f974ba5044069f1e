import type { Issuer, Subject } from '../ids.ts'
import { logKey } from '../logout/event.ts'

/** A subject to forget, with the sessions and email addresses that are known to be theirs. */
export interface Erased {
  readonly iss: Issuer
  readonly sub: Subject
  readonly sids: ReadonlySet<string>
  readonly emails: ReadonlySet<string>
}

/** A record of the event log that could not be understood. */
export interface UnreadRecord {
  readonly key: string
  /** Its value as text; what is no UTF-8 is replaced. */
  readonly text: string
}

/**
 * For how long after a request what comes is erased as well, in milliseconds: a logout that was accepted before may lie in the
 * event log through an outage of a night, and the one that ends the account may follow.
 */
export const ERASURE_WATCH_MS = 86_400_000

/**
 * How long a logout keeps its subject where the issuer's sessions are known, in milliseconds: a session that began before it may
 * be posted after it, and is then owed that logout still.
 */
export const LATE_START_MS = 3_600_000

const SECOND_MS = 1_000
const MINUTE_MS = 60_000

/**
 * When to look again for what is left of a subject. Soon at first, for a logout that is under way ends in seconds; then ever
 * more rarely, the longer it takes.
 *
 * @param waits whether anything is known to be left.
 */
export function nextErasureLook({
  requestedAt,
  now,
  waits,
}: {
  requestedAt: Date
  now: Date
  waits: boolean
}): Date {
  const age = now.getTime() - requestedAt.getTime()
  const [least, most] = waits ? [2 * SECOND_MS, 10 * MINUTE_MS] : [MINUTE_MS, 60 * MINUTE_MS]
  return new Date(now.getTime() + Math.min(Math.max(age / 10, least), most))
}

/**
 * Whether a record that could not be understood is about the subject. What says plainly that it is about another is not;
 * where nothing is plain, being named anywhere is enough.
 */
export function recordConcerns({ key, text }: UnreadRecord, who: Erased): boolean {
  const { iss, sub } = who
  const names = [sub, ...who.sids, ...who.emails]
  if (keysOf(who).includes(key)) return true
  let parsed: unknown
  try {
    parsed = JSON.parse(text)
  } catch {
    return names.some((name) => text.includes(JSON.stringify(name)))
  }
  const { iss: itsIss, sub: itsSub } = Object(parsed) as { readonly iss?: unknown; readonly sub?: unknown }
  const said = textsIn(parsed)
  if (typeof itsIss === 'string' ? itsIss !== iss : !said.has(iss)) return false
  if (typeof itsSub === 'string') return itsSub === sub
  return names.some((name) => said.has(name))
}

/** The log's keys of records about the subject. */
export function keysOf({ iss, sub, sids }: Omit<Erased, 'emails'>): readonly string[] {
  return [logKey({ iss, sub, sid: null }), ...[...sids].map((sid) => logKey({ iss, sub: null, sid }))]
}

/** Every string in a value of JSON. */
function textsIn(value: unknown): ReadonlySet<string> {
  const texts = new Set<string>()
  const left: unknown[] = [value]
  while (left.length > 0) {
    const next = left.pop()
    if (typeof next === 'string') texts.add(next)
    else if (typeof next === 'object' && next !== null) left.push(...Object.values(next))
  }
  return texts
}
