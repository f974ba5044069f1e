import type { InspectedTls } from '@curfew/domain'
import { isBusy } from '../../probe-report.ts'
import { saysAlreadyEnded } from '../already-ended.ts'
import type { BackchannelSettings, TokenType } from '../settings.ts'
import type { ProbeAnswer, ProbeRequestId, ProbeSubject } from './requests.ts'

// The observations of a probe, and the meaning of a single answer.

/** The observations of a probe, and the registered settings. */
export interface ProbeFacts {
  readonly uri: string
  readonly now: Date
  /** The answers by request. A request without an entry was not sent. */
  readonly answers: ReadonlyMap<ProbeRequestId, ProbeAnswer>
  /**
   * The `typ` of the tokens: the registered one, or another one if the endpoint accepts good tokens only with that. `good_token`
   * always has the registered one.
   */
  readonly tokenType: TokenType
  /** The TLS connection; null if there was none. */
  readonly tls: InspectedTls | null
  readonly settings: Pick<
    BackchannelSettings,
    'algorithm' | 'subject_claims' | 'session_required' | 'token_type' | 'already_ended_errors'
  >
  readonly timeoutMs: number
}

type Settings = Pick<BackchannelSettings, 'already_ended_errors'>

/** The meaning of an answer: `accepted` is any 2xx, `silent` is not about the token. */
export type Verdict = 'accepted' | 'refused' | 'silent'

export function verdictOf(answer: ProbeAnswer): Verdict {
  if (answer.kind !== 'response' || isBusy(answer.status)) return 'silent'
  return answer.status >= 200 && answer.status < 300 ? 'accepted' : 'refused'
}

/**
 * Whether the probe continues after the answer to the first good token. Without an answer, or if the address is not an endpoint
 * for back-channel logout, the other requests would get the same answer.
 */
export function probeGoesOn(first: ProbeAnswer): boolean {
  if (first.kind !== 'response' || isBusy(first.status)) return false
  return acknowledges(first.status) || first.status === 400 || first.status === 422 || first.status >= 500
}

/** Whether a status acknowledges a good token (Back-Channel Logout section 2.8). Other 2xx statuses do not. */
function acknowledges(status: number): boolean {
  return status === 200 || status === 204
}

/** Requests that an endpoint refuses before it looks for a session, if it verifies the signature, the issuer and the audience. */
export const UNVERIFIED = [
  'signature_broken',
  'signature_of_another_key',
  'kid_unknown',
  'issuer_other',
  'audience_other',
  'no_jwt',
  'no_token',
] as const satisfies readonly ProbeRequestId[]

/** Whether the owner declared that the answer means "session already over". */
export function saysEnded(answer: ProbeAnswer | undefined, settings: Settings): boolean {
  return answer?.kind === 'response' && saysAlreadyEnded(answer, settings.already_ended_errors)
}

/** Whether a delivery with this answer would be acknowledged. */
export function accepts(answer: ProbeAnswer | undefined, settings: Settings): boolean {
  return answer?.kind === 'response' && (acknowledges(answer.status) || saysEnded(answer, settings))
}

/** The requests whose tokens are good and differ from `good_token` only in the `typ`. */
export const TYPE_REQUESTS = {
  'logout+jwt': 'typ_logout_jwt',
  JWT: 'typ_jwt',
  none: 'typ_missing',
} as const satisfies Readonly<Record<TokenType, ProbeRequestId>>

type Asked = Pick<ProbeFacts, 'answers' | 'tokenType' | 'settings'>

/** The request of a good token with some subject claims and the `typ` of the probe. */
export function goodRequest(
  subject: ProbeSubject,
  { tokenType, settings }: Omit<Asked, 'answers'>,
): ProbeRequestId {
  if (subject === 'sid') return 'sid_only'
  if (subject === 'sub') return 'sub_only'
  return tokenType === settings.token_type ? 'good_token' : TYPE_REQUESTS[tokenType]
}

/** The subject claims of an accepted good token, which the forged tokens use too; null if none was accepted. */
export function acceptedSubject(facts: Asked): ProbeSubject | null {
  const found = (['both', 'sid', 'sub'] as const).find((subject) =>
    accepts(facts.answers.get(goodRequest(subject, facts)), facts.settings),
  )
  return found ?? null
}

/**
 * Whether the endpoint accepts a text that is not a token, and a forged token. Its other acceptances then prove nothing: it may be
 * a page that answers every POST, or it may not read the token before it answers.
 */
export function acceptsAnything({ answers }: Pick<ProbeFacts, 'answers'>): boolean {
  return (['no_jwt', 'signature_broken'] as const).every((id) => {
    const answer = answers.get(id)
    return answer !== undefined && verdictOf(answer) === 'accepted'
  })
}
