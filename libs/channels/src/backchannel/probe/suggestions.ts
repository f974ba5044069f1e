import type { ProbeSuggestion } from '../../probe-report.ts'
import type { ProbeFacts } from './facts.ts'
import type { ProbeRequestId } from './requests.ts'

const TIMEOUT_MS_MAX = 30_000

/**
 * What was seen implies for our settings. What a token ends can be seen with a session only, and a probe names none: that is
 * said where it matters.
 */
export function probeSuggestions({ answers, settings, timeoutMs }: ProbeFacts): readonly ProbeSuggestion[] {
  const { subject_claims: subjectClaims, session_required: sessionRequired } = settings
  const status = (id: ProbeRequestId) => {
    const answer = answers.get(id)
    return answer?.kind === 'response' ? answer.status : null
  }
  const taken = (id: ProbeRequestId) => status(id) === 200 || status(id) === 204
  const refused = (id: ProbeRequestId) => !taken(id) && (status(id) ?? 0) >= 400
  const suggestions: ProbeSuggestion[] = []
  const suggest = (setting: string, value: ProbeSuggestion['value'], why: string) =>
    suggestions.push({ setting, value, why })

  if (taken('sid_only') && taken('sub_only') && taken('good_token') && subjectClaims === 'both') {
    suggest(
      'curfew.subject_claims',
      'sid',
      'It takes sid alone, sub alone, and both. Whether both then end the one session, as is meant, or every session of the subject, as some libraries do (express-openid-connect), cannot be seen without a session. With sid alone it cannot be mistaken: a logout of one session ends that one. Keep both if you know that it ends only that.',
    )
  }
  if (taken('sub_only') && refused('sid_only') && subjectClaims !== 'sub' && !taken('good_token')) {
    suggest(
      'curfew.subject_claims',
      'sub',
      'It takes a token with sub alone, and none with sid. Every logout then ends all sessions of the subject.',
    )
  }
  if (taken('sub_only') && refused('sid_only') && taken('good_token') && subjectClaims === 'sid') {
    suggest('curfew.subject_claims', 'both', 'It refuses a token with sid alone, and takes one with both.')
  }
  if (taken('sid_only') && refused('good_token') && subjectClaims !== 'sid') {
    suggest('curfew.subject_claims', 'sid', 'It takes a token with sid alone, and refuses one with both.')
  }
  if (taken('sid_only') && refused('sub_only') && !sessionRequired) {
    suggest(
      'backchannel_logout_session_required',
      true,
      'It refuses a token with sub alone. Registered so, a logout that names no session is recorded as one that it cannot be told, rather than refused by it again and again.',
    )
  }
  const slowest = Math.max(
    ...[...answers.values()].map(({ kind, durationMs }) => (kind === 'response' ? durationMs : 0)),
  )
  if (slowest > timeoutMs / 2 && timeoutMs < TIMEOUT_MS_MAX) {
    suggest(
      'curfew.timeout_ms',
      Math.min(TIMEOUT_MS_MAX, Math.ceil((slowest * 3) / 1_000) * 1_000),
      `It took up to ${slowest} ms to answer, of the ${timeoutMs} ms that Curfew waits.`,
    )
  }
  return suggestions
}
