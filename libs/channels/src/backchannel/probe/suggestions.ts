import { cleanText } from '@curfew/domain'
import type { ProbeSuggestion } from '../../probe-report.ts'
import { errorCodeOf, isRefusal, isRegistrable } from '../already-ended.ts'
import type { TokenType } from '../settings.ts'
import { LOGOUT_TOKEN_TYPE } from '../token.ts'
import { accepts, goodRequest, type ProbeFacts, TYPE_REQUESTS, UNVERIFIED } from './facts.ts'
import type { ProbeRequestId } from './requests.ts'

const TIMEOUT_MS_MAX = 30_000

/**
 * The settings that the answers of a probe suggest, if the endpoint accepts a good token. Tokens of a probe name no session, so it
 * cannot observe which sessions a token ends. The texts say so if it matters.
 */
export function probeSuggestions(facts: ProbeFacts): readonly ProbeSuggestion[] {
  return [typeSuggestion(facts), ...subjectSuggestions(facts), timeoutSuggestion(facts)].filter(
    (suggestion) => suggestion !== null,
  )
}

/** A `typ` in words. */
export function typInWords(type: TokenType): string {
  return type === 'none' ? 'no typ' : `typ ${type}`
}

function typeSuggestion({ answers, tokenType, settings }: ProbeFacts): ProbeSuggestion | null {
  const setting = 'curfew.token_type'
  if (tokenType !== settings.token_type) {
    const why = `It refuses tokens with ${typInWords(settings.token_type)}, and accepts them with ${typInWords(tokenType)}. The other checks of this report used ${typInWords(tokenType)}.`
    return { setting, value: tokenType, why }
  }
  if (tokenType === LOGOUT_TOKEN_TYPE) return null
  if (!accepts(answers.get(TYPE_REQUESTS[LOGOUT_TOKEN_TYPE]), settings)) return null
  const why = `It accepts typ ${LOGOUT_TOKEN_TYPE} too, which distinguishes a logout token from every other token.`
  return { setting, value: LOGOUT_TOKEN_TYPE, why }
}

function subjectSuggestions(facts: ProbeFacts): readonly ProbeSuggestion[] {
  const { answers, settings } = facts
  const { subject_claims: subjectClaims, session_required: sessionRequired } = settings
  const accepted = (id: ProbeRequestId) => accepts(answers.get(id), settings)
  const refused = (id: ProbeRequestId) => {
    const answer = answers.get(id)
    return answer?.kind === 'response' && answer.status >= 400 && !accepts(answer, settings)
  }
  const both = goodRequest('both', facts)
  const suggestions: ProbeSuggestion[] = []
  const suggest = (setting: string, value: ProbeSuggestion['value'], why: string) =>
    suggestions.push({ setting, value, why })

  if (accepted('sid_only') && accepted('sub_only') && accepted(both) && subjectClaims === 'both') {
    suggest(
      'curfew.subject_claims',
      'sid',
      'It accepts sid alone, sub alone, and both. A token with both should end one session, but some libraries (express-openid-connect) end every session of the subject. A probe without a session cannot see which. A token with sid alone is unambiguous: it ends one session. Keep both if you know that the relying party ends only this session.',
    )
  }
  if (accepted('sub_only') && refused('sid_only') && subjectClaims !== 'sub' && !accepted(both)) {
    suggest(
      'curfew.subject_claims',
      'sub',
      'It accepts a token with sub alone, and refuses every token with sid. Every logout then ends all sessions of the subject.',
    )
  }
  if (accepted('sub_only') && refused('sid_only') && accepted(both) && subjectClaims === 'sid') {
    suggest('curfew.subject_claims', 'both', 'It refuses a token with sid alone, and accepts one with both.')
  }
  if (accepted('sid_only') && refused(both) && subjectClaims !== 'sid') {
    suggest('curfew.subject_claims', 'sid', 'It accepts a token with sid alone, and refuses one with both.')
  }
  if (accepted('sid_only') && refused('sub_only') && !sessionRequired) {
    suggest(
      'backchannel_logout_session_required',
      true,
      'It refuses a token with sub alone. With this setting, a logout without a sid becomes a dead letter at once, and the relying party does not have to refuse it again and again.',
    )
  }
  return suggestions
}

function timeoutSuggestion({ answers, timeoutMs }: ProbeFacts): ProbeSuggestion | null {
  const slowest = Math.max(
    ...[...answers.values()].map(({ kind, durationMs }) => (kind === 'response' ? durationMs : 0)),
  )
  if (slowest <= timeoutMs / 2 || timeoutMs >= TIMEOUT_MS_MAX) return null
  const value = Math.min(TIMEOUT_MS_MAX, Math.ceil((slowest * 3) / 1_000) * 1_000)
  const why = `It took up to ${slowest} ms to answer. Curfew waits for ${timeoutMs} ms.`
  return { setting: 'curfew.timeout_ms', value, why }
}

/**
 * The `error` by which the endpoint refuses a good token because its subject has no session, as a suggestion. Null if it answers
 * this `error` to a token that it cannot verify, too: the setting would hide refused tokens.
 */
export function alreadyEndedSuggestion({ answers, settings }: ProbeFacts): ProbeSuggestion | null {
  const codeOf = (id: ProbeRequestId) => {
    const answer = answers.get(id)
    return answer?.kind === 'response' && answer.status === 400 ? errorCodeOf(answer) : null
  }
  const error = codeOf('good_token')
  if (error === null || !isRegistrable(error) || isRefusal(error)) return null
  if (UNVERIFIED.some((id) => codeOf(id) === error)) return null
  const others = (['sid_only', 'sub_only'] as const).flatMap((id) => {
    const other = codeOf(id)
    return other === null || other === error ? [] : [`${cleanText(other)} to ${id}`]
  })
  const also =
    others.length === 0
      ? ''
      : ` It also answers ${others.join(' and ')}: find out whether this means the same before you add it.`
  return {
    setting: 'curfew.already_ended_errors',
    value: [...settings.already_ended_errors, error],
    why: `It answers 400 with this error to a good token for a session that does not exist, and to no token that it cannot verify. With this setting, such an answer acknowledges a logout.${also} A relying party that never finds a session answers the same to every logout, so probe it with a real session before you register the setting.`,
  }
}
