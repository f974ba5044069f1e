import type { AuditDelivery, AuditOutcome, AuditReason } from './audit.ts'

/** The result of an audit for its operator. */
export interface AuditWords {
  /** One or two sentences. */
  readonly what: string
  /** The remedy; null if nothing is wrong. */
  readonly fix: string | null
}

/** Facts that the words of an audit mention. */
export interface AuditWordsOf {
  readonly outcome: AuditOutcome
  readonly delivery: AuditDelivery | null
  /** From acceptance to the first answer that says logged out, in milliseconds; null if there was none. */
  readonly propagationMs: number | null
  /** Why the audit has no verdict, as a sentence without its full stop and without secrets; null if the reason says it all. */
  readonly hindrance: string | null
  readonly timeoutS: number
}

/** Describes the result of an audit. */
export function describeAudit({
  outcome,
  delivery,
  propagationMs,
  hindrance,
  timeoutS,
}: AuditWordsOf): AuditWords {
  if (outcome.reason === null)
    return { what: `The session was over ${propagationMs ?? 0} ms after the logout was accepted.`, fix: null }
  const { what, fix } = WORDS[outcome.reason]
  const seen = [what, ...(hindrance === null ? [] : [`${hindrance}.`])].join(' ')
  if (outcome.result !== 'failed') return { what: seen, fix }
  return {
    what: `${seen.replace('{timeout}', `${timeoutS} s`)} ${deliveryWords(delivery)}`,
    fix,
  }
}

function deliveryWords(delivery: AuditDelivery | null): string {
  if (delivery === null) return 'No delivery was owed to the relying party, or none was planned in time.'
  const { state, level } = delivery
  if (state === 'acknowledged')
    return `The relying party had acknowledged the logout${level === null ? '' : ` (level ${level})`}.`
  return state === 'pending'
    ? 'The logout was not delivered yet.'
    : `The delivery of the logout is ${state.replace('_', '-')}.`
}

const WORDS: Readonly<Record<AuditReason, { readonly what: string; readonly fix: string }>> = {
  session_survived: {
    what: 'The session was still alive {timeout} after the logout was accepted, or came back.',
    fix: 'Let the handler of the logout find the session by its sid, or all sessions by the sub, and end it in the session store itself, on every instance. An answer of 200 must mean that it did.',
  },
  revived_by_refresh: {
    what: 'The session was over, and a refresh of its tokens brought it back.',
    fix: 'Let the refresh store its result only if the session still exists, in one atomic step of the session store. Let the logout revoke the refresh token too.',
  },
  not_delivered: {
    what: 'The session was still alive {timeout} after the logout was accepted.',
    fix: 'Find the delivery of the event, and follow its advice: curfew events show, curfew dlq list.',
  },
  login_failed: {
    what: 'The audit could not make a session.',
    fix: 'Correct the login of the set-up, or the test user. The audit posted no logout.',
  },
  not_logged_in: {
    what: 'The login succeeded, but the check answered as logged out before the logout.',
    fix: 'Let the hook return the cookies or headers of the session, and let the check be a URL that needs them. The audit posted no logout.',
  },
  check_unclear: {
    what: 'The check gave no answer, or one that the set-up does not name.',
    fix: 'Name the statuses of the check in logged_in and logged_out, and see that the URL answers.',
  },
  ended_otherwise: {
    what: 'The session was over, but no logout had been sent to the relying party: something else ended it, or the check stopped knowing it.',
    fix: 'See that the relying party has an endpoint and that a delivery worker runs. Let the session of the test user live longer than the audit.',
  },
  not_accepted: {
    what: 'The event log did not accept the logout.',
    fix: 'See curfew doctor. The next audit repeats it.',
  },
  secrets_unreadable: {
    what: 'The secrets of the set-up cannot be opened with the master key.',
    fix: 'Put the set-up again with its secrets, or start the bookkeeper with the CURFEW_MASTER_KEY that sealed them.',
  },
  run_failed: {
    what: 'The audit met an error in Curfew.',
    fix: 'Search the log of the bookkeeper for audit.run-failed with the id of the audit.',
  },
  interrupted: {
    what: 'The bookkeeper that ran the audit stopped or lost PostgreSQL, or the set-up was removed.',
    fix: 'Nothing to do: a scheduled audit runs again. Start another one by hand if you need it now.',
  },
}
