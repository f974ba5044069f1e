import { type Answer, CurfewError, NETWORK, saidOf } from '@curfew/domain'

// What a probe says of an endpoint, whatever its channel.

/** How the specification puts it. `informs`: no duty, but worth knowing. */
export type ProbeLevel = 'must' | 'should' | 'may' | 'informs'

/** `unknown`: it could not be seen, which `what` explains. */
export type ProbeResult = 'passed' | 'failed' | 'unknown'

/** One check of a report, in words for the owner of the relying party. */
export interface ProbeCheck {
  readonly id: string
  readonly title: string
  readonly level: ProbeLevel
  readonly section: string
  readonly result: ProbeResult
  /** What was seen. */
  readonly what: string
  /** What would mend it; null where nothing is broken. */
  readonly fix: string | null
  /** HTTP status of the answer that it was judged by, where it was one. */
  readonly status: number | null
  readonly durationMs: number | null
}

/** What the probe implies for a setting of ours. */
export interface ProbeSuggestion {
  /** As the registration names it, such as `curfew.subject_claims`. */
  readonly setting: string
  readonly value: string | number | boolean
  readonly why: string
}

export interface ProbeReport {
  readonly checks: readonly ProbeCheck[]
  readonly suggestions: readonly ProbeSuggestion[]
}

/** What an answer was, as the rest of a sentence that begins with "It". */
export function inWords(answer: Answer): string {
  if (answer.kind === 'not_allowed') return `is at an address that nothing may be sent to (${answer.detail})`
  if (answer.kind === 'failure') {
    const what = NETWORK[answer.failure]?.what ?? answer.failure
    const seen = what.startsWith('it ') ? what.slice('it '.length) : `gave no answer: ${what}`
    return `${seen} (${answer.detail})`
  }
  const { error, errorDescription } = saidOf(answer)
  const said = [error, errorDescription].filter((word) => word !== null).join(': ')
  return `answered ${answer.status}${said === '' ? '' : ` (${said.slice(0, SAID_MAX)})`}`
}

/** Most of an answer that is shown in a report, in characters: an error page need not be. */
const SAID_MAX = 200

/**
 * Stands for the answer where a token could not be signed: the key is away, or a signer keeps it that signs no such token. It says
 * nothing of the endpoint.
 *
 * @throws any other error.
 */
export function signerFailure(error: unknown): Answer {
  if (!(error instanceof CurfewError)) throw error
  return { kind: 'failure', failure: 'signer', detail: error.message }
}
