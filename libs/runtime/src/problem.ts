import { STATUS_CODES } from 'node:http'
import { CurfewError } from '@curfew/domain'

/** One fault of a request, with its place. */
export interface Fault {
  /** JSON pointer (RFC 6901) to the member; empty for the whole value. */
  readonly pointer: string
  readonly detail: string
}

/** An error body (RFC 9457). */
export interface Problem {
  readonly type: string
  readonly title: string
  readonly status: number
  readonly detail?: string
  readonly instance?: string
  readonly errors?: readonly Fault[]
  readonly trace_id?: string
}

export interface ProblemFacts {
  readonly status: number
  /** Default: the phrase of the status. */
  readonly title?: string
  /** Says what happened and what to change. Never shows internals. */
  readonly detail: string
  readonly errors?: readonly Fault[]
  /** Members of the body beside the standard ones (RFC 9457 3.2). */
  readonly extensions?: Readonly<Record<string, unknown>>
  /** Headers of the answer, such as `retry-after`. */
  readonly headers?: Readonly<Record<string, string>>
}

/** A refusal that a handler throws. The server answers with its problem. */
export class ProblemError extends CurfewError {
  override readonly code = 'ERR_PROBLEM'
  readonly problem: ProblemFacts

  constructor(problem: ProblemFacts, options?: ErrorOptions) {
    super(problem.detail, options)
    this.problem = problem
  }
}

/** Most faults that an answer lists. */
export const FAULTS_MAX = 50
export const PROBLEM_MEDIA_TYPE = 'application/problem+json'

/** The body of a refusal of the request at `instance`. A 5xx has the trace id, by which the log shows the cause. */
export function problemBody(
  { status, title, detail, errors, extensions }: ProblemFacts,
  instance: string,
  traceId: string,
): Problem {
  return {
    ...extensions,
    type: 'about:blank',
    title: title ?? STATUS_CODES[status] ?? 'Error',
    status,
    detail,
    instance,
    ...(errors !== undefined && { errors: errors.slice(0, FAULTS_MAX) }),
    ...(status >= 500 && { trace_id: traceId }),
  }
}
