import { type Answer, type AttemptOutcome, failureOf } from '@curfew/domain'

/** The outcome of an answer that does not confirm the revocation (RFC 7009 section 2.2); null if it does. */
export function outcomeOf(answer: Answer, now: Date): AttemptOutcome | null {
  // An authorization server answers 200 to an unknown token, too: the token is of no use any more.
  if (answer.kind === 'response' && answer.status === 200) return null
  return failureOf(answer, now, [])
}

/** The error code of a server that does not revoke tokens of this kind (RFC 7009 section 2.2.1). */
export const UNSUPPORTED = 'unsupported_token_type'

export function isUnsupported(outcome: AttemptOutcome): boolean {
  return outcome.kind === 'misconfigured' && outcome.status === 400 && outcome.error === UNSUPPORTED
}
