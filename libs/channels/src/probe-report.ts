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
