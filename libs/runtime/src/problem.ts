import { STATUS_CODES } from 'node:http'

/** One fault of a request, and where. */
export interface Fault {
  /** JSON pointer (RFC 6901) to the member. */
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
  readonly title?: string
  /** What happened, and what to change. Never internals. */
  readonly detail: string
  readonly errors?: readonly Fault[]
  readonly headers?: Readonly<Record<string, string>>
}

/** A refusal that a handler throws and the server answers with. */
export class ProblemError extends Error {
  readonly problem: ProblemFacts

  constructor(problem: ProblemFacts, options?: ErrorOptions) {
    super(problem.detail, options)
    this.name = 'ProblemError'
    this.problem = problem
  }
}

/** Most faults that an answer lists. */
const FAULTS_MAX = 50

/** The body for a refusal of the request at `instance`. */
export function problemBody(
  { status, title, detail, errors }: ProblemFacts,
  instance: string,
  traceId: string,
): Problem {
  return {
    type: 'about:blank',
    title: title ?? STATUS_CODES[status] ?? 'Error',
    status,
    detail,
    instance,
    ...(errors !== undefined && { errors: errors.slice(0, FAULTS_MAX) }),
    ...(status >= 500 && { trace_id: traceId }),
  }
}
