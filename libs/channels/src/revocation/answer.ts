import {
  type Answer,
  type AttemptOutcome,
  errorTextOf,
  isNotNow,
  unanswered,
  unavailable,
} from '@curfew/domain'

/** The outcome of an answer that does not confirm the revocation (RFC 7009 section 2.2); null if it does. */
export function failureOf(answer: Answer, now: Date): AttemptOutcome | null {
  if (answer.kind !== 'response') return unanswered(answer)
  const { status } = answer
  // An authorization server answers 200 to an unknown token, too: the token is of no use any more.
  if (status === 200) return null
  if (isNotNow(status)) return unavailable(answer, now)
  return { kind: 'misconfigured', status, ...errorTextOf(answer) }
}

/** The error code of a server that does not revoke tokens of this kind (RFC 7009 section 2.2.1). */
export const UNSUPPORTED = 'unsupported_token_type'

export function isUnsupported(outcome: AttemptOutcome): boolean {
  return outcome.kind === 'misconfigured' && outcome.status === 400 && outcome.error === UNSUPPORTED
}
