import { type InspectedTls, NETWORK, saidOf } from '@curfew/domain'
import type { BackchannelSettings } from '../settings.ts'
import type { ProbeAnswer, ProbeSubject } from './probe.ts'
import type { ProbeRequestId } from './requests.ts'

/** What was seen, and what is registered today. */
export interface ProbeFacts {
  readonly uri: string
  readonly now: Date
  /** By request. What is missing was not sent. */
  readonly answers: ReadonlyMap<ProbeRequestId, ProbeAnswer>
  /** Null where there was none to be seen. */
  readonly tls: InspectedTls | null
  readonly settings: Pick<BackchannelSettings, 'subject_claims' | 'session_required'>
  readonly timeoutMs: number
}

/** Statuses that say nothing of a token: not now, or a gateway that got no answer. */
const NOT_NOW = new Set([408, 425, 429, 502, 503, 504])

/** Whether a status says nothing of what was sent. */
export function saysNotNow(status: number): boolean {
  return NOT_NOW.has(status)
}

/** What an answer came to: `taken` is any 2xx, `silent` says nothing of the token. */
export type Fate = 'taken' | 'refused' | 'silent'

export function fateOf(answer: ProbeAnswer): Fate {
  if (answer.kind !== 'response' || saysNotNow(answer.status)) return 'silent'
  return answer.status >= 200 && answer.status < 300 ? 'taken' : 'refused'
}

/**
 * Whether more is to be learned after the answer to the first good token. Where nothing answers, or something that is no
 * endpoint for back-channel logout, every other request would come to the same.
 */
export function probeGoesOn(first: ProbeAnswer): boolean {
  if (first.kind !== 'response' || saysNotNow(first.status)) return false
  return acknowledges(first.status) || first.status === 400 || first.status === 422 || first.status >= 500
}

/** The good token that is taken, for the checks that change one thing about it; `both` where none is. */
export function takenSubject(answers: ProbeFacts['answers']): ProbeSubject {
  const taken = (id: ProbeRequestId) => takes(answers.get(id))
  if (taken('good_token')) return 'both'
  if (taken('sid_only')) return 'sid'
  return taken('sub_only') ? 'sub' : 'both'
}

/** What a good token is answered with (Back-Channel Logout 2.8). Any other 2xx is none of its answers. */
function acknowledges(status: number): boolean {
  return status === 200 || status === 204
}

export function takes(answer: ProbeAnswer | undefined): boolean {
  return answer?.kind === 'response' && acknowledges(answer.status)
}

/** What an answer was, as the rest of a sentence that begins with "It". */
export function inWords(answer: ProbeAnswer): string {
  if (answer.kind === 'not_allowed') return `is at an address that nothing may be sent to (${answer.detail})`
  if (answer.kind === 'failure') {
    const what = NETWORK[answer.failure]?.what.replace(/^it /, '') ?? answer.failure
    return `${what} (${answer.detail})`
  }
  const { error, errorDescription } = saidOf(answer)
  const said = [error, errorDescription].filter((word) => word !== null).join(': ')
  return `answered ${answer.status}${said === '' ? '' : ` (${said.slice(0, SAID_MAX)})`}`
}

/** Most of an answer that is shown in a report, in characters: an error page need not be. */
const SAID_MAX = 200
