import { type Answer, type AttemptOutcome, failureOf } from '@curfew/domain'
import type { AdminRequest, AdminSettings, Auth } from './settings.ts'
import { addressOf, bodyOf, type Values } from './template.ts'

/** A request without its credential. */
export interface Message {
  readonly method: string
  readonly uri: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: string | null
}

/** Whether a message is about one session or about all sessions of a user. */
export type Kind = 'session' | 'subject'

/** The requests for a logout of a session, or of the subject. A channel without requests for a session sends those for the subject. */
export function requestsFor(
  sid: string | null,
  { session, subject }: Pick<AdminSettings, Kind>,
): {
  readonly kind: Kind
  readonly requests: readonly AdminRequest[]
} {
  return sid !== null && session.length > 0
    ? { kind: 'session', requests: session }
    : { kind: 'subject', requests: subject }
}

/** The texts of a request that may have placeholders. */
export function textsOf({ uri, body = {} }: AdminRequest): readonly string[] {
  return [uri, ...Object.values(body).filter((value) => typeof value === 'string')]
}

export function messageOf({ method, uri, body }: AdminRequest, values: Values): Message {
  return {
    method,
    uri: addressOf(uri, values),
    headers: {
      accept: 'application/json',
      'user-agent': 'curfew',
      ...(body !== undefined && { 'content-type': 'application/json' }),
    },
    body: body === undefined ? null : bodyOf(body, values),
  }
}

export function withCredential(message: Message, { header, prefix }: Auth, credential: string): Message {
  return { ...message, headers: { ...message.headers, [header.toLowerCase()]: `${prefix}${credential}` } }
}

const REFUSALS = [400, 501]

/** The outcome of an answer that is not a success; null if it is one. */
export function outcomeOf(answer: Answer, success: readonly number[], now: Date): AttemptOutcome | null {
  if (answer.kind === 'response' && success.includes(answer.status)) return null
  return failureOf(answer, now, REFUSALS)
}

/** Whether an answer means that the API does not know the session or the user. */
export function isUnknown(status: number): boolean {
  return status === 404 || status === 410
}
