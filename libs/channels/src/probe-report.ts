import { type Answer, CurfewError, errorTextOf, NETWORK } from '@curfew/domain'
import type { SessionAnswer } from './probe-session.ts'

// The report of a probe, for every channel.

/** The requirement level of the specification. `informs`: not a requirement, but useful to know. */
export type ProbeLevel = 'must' | 'should' | 'may' | 'informs'

/** The result of a check. `unknown`: the probe could not find out, for the reason in `what`. */
export type ProbeResult = 'passed' | 'failed' | 'unknown'

/** One check of a report, in words for the owner of the relying party. */
export interface ProbeCheck {
  readonly id: string
  readonly title: string
  readonly level: ProbeLevel
  readonly section: string
  readonly result: ProbeResult
  /** The observed behaviour. */
  readonly what: string
  /** How to correct it; null if nothing is wrong. */
  readonly fix: string | null
  /** HTTP status of the answer; null if the check has no single answer, or there was none. */
  readonly status: number | null
  readonly durationMs: number | null
}

/** A value for a setting of the client that follows from the probe. */
export interface ProbeSuggestion {
  /** The name of the setting in the registration, such as `curfew.subject_claims`. */
  readonly setting: string
  readonly value: string | number | boolean | readonly string[]
  readonly why: string
}

export interface ProbeReport {
  readonly checks: readonly ProbeCheck[]
  readonly suggestions: readonly ProbeSuggestion[]
  /** Absent unless a token for a real session was sent. */
  readonly session?: SessionAnswer
}

/** An answer in words, as the rest of a sentence that begins with "It". */
export function inWords(answer: Answer): string {
  if (answer.kind === 'not_allowed') return `is at an address that is not allowed (${answer.detail})`
  if (answer.kind === 'failure') {
    const what = NETWORK[answer.failure]?.what ?? answer.failure
    const words = what.startsWith('it ') ? what.slice('it '.length) : `gave no answer: ${what}`
    return `${words} (${answer.detail})`
  }
  const { error, errorDescription } = errorTextOf(answer)
  const said = [error, errorDescription].filter((word) => word !== null).join(': ')
  return `answered ${answer.status}${said === '' ? '' : ` (${said.slice(0, SAID_MAX)})`}`
}

/** Statuses that are not about the message of a probe: the endpoint is busy, or a gateway got no answer. */
const NOT_NOW = new Set([408, 425, 429, 502, 503, 504])

/** Whether a status is not about the message of a probe. */
export function isBusy(status: number): boolean {
  return NOT_NOW.has(status)
}

/** Greatest length of an answer's text in a report, in characters. An error page may be longer. */
const SAID_MAX = 200

/**
 * A substitute for the answer if a token could not be signed: the key is unavailable, or its remote signer refuses such a token.
 * It says nothing about the endpoint.
 *
 * @throws any other error.
 */
export function signerFailure(error: unknown): Answer {
  if (!(error instanceof CurfewError)) throw error
  return { kind: 'failure', failure: 'signer', detail: error.message }
}
