import type { Issuer, Subject } from '../ids.ts'
import { logKey } from '../logout/event.ts'

/** A subject to erase, and its known sessions and email addresses. The case of an address does not matter. */
export interface ErasedSubject {
  readonly iss: Issuer
  readonly sub: Subject
  readonly sids: ReadonlySet<string>
  readonly emails: ReadonlySet<string>
}

/** A record of the event log that is no valid event. */
export interface InvalidRecord {
  readonly key: string
  /** The value as text. Invalid UTF-8 is replaced. */
  readonly text: string
}

/**
 * How long after a request new data of the subject is erased as well, in milliseconds. A logout accepted before the request may
 * wait in the event log through an outage, and the logout that ends the account may follow the request.
 */
export const ERASURE_WATCH_MS = 86_400_000

/**
 * How long a logout keeps its subject if the issuer posts sessions, in milliseconds. A session that began before the logout may
 * be posted after it, and still needs the logout.
 */
export const LATE_START_MS = 3_600_000

const SECOND_MS = 1_000
const MINUTE_MS = 60_000

/**
 * When to look again for remaining data of a subject. The pause is short at first, because a logout under way settles in seconds,
 * and grows with the age of the request.
 *
 * @param waits whether data is known to be left.
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
 * Whether an invalid record is about the subject. A record whose `iss` or `sub` differs is not. If these members are missing, the
 * subject's name anywhere in the record is enough.
 */
export function recordConcerns({ key, text }: InvalidRecord, subject: ErasedSubject): boolean {
  const { iss, sub } = subject
  const names = [sub, ...subject.sids]
  const emails = [...subject.emails].map((email) => email.toLowerCase())
  if (keysOf(subject).includes(key)) return true
  let parsed: unknown
  try {
    parsed = JSON.parse(text)
  } catch {
    const lower = text.toLowerCase()
    return (
      names.some((name) => text.includes(JSON.stringify(name))) ||
      emails.some((email) => lower.includes(JSON.stringify(email)))
    )
  }
  const { iss: itsIss, sub: itsSub } = Object(parsed) as { readonly iss?: unknown; readonly sub?: unknown }
  const texts = textsIn(parsed)
  if (typeof itsIss === 'string' ? itsIss !== iss : !texts.has(iss)) return false
  if (typeof itsSub === 'string') return itsSub === sub
  if (names.some((name) => texts.has(name))) return true
  const lower = new Set([...texts].map((one) => one.toLowerCase()))
  return emails.some((email) => lower.has(email))
}

/** The event log's keys of records about the subject. */
export function keysOf({ iss, sub, sids }: Omit<ErasedSubject, 'emails'>): readonly string[] {
  return [logKey({ iss, sub, sid: null }), ...[...sids].map((sid) => logKey({ iss, sub: null, sid }))]
}

/** The strings in the key and the value of a record. In a text that is no JSON: what stands between two quotation marks. */
export function stringsOf({ key, text }: InvalidRecord): readonly string[] {
  return [key, text].flatMap((one) => {
    try {
      return [...textsIn(JSON.parse(one))]
    } catch {
      return one.split('"')
    }
  })
}

/** Every string in a JSON value, except names of members. */
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
