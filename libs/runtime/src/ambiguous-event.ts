import { ProblemError } from './problem.ts'

/** A 409 for an id that several of the issuers which the caller may see gave to an event. @param issuers their short names. */
export function ambiguousEvent(id: string, issuers: readonly (string | null)[]): ProblemError {
  return new ProblemError({
    status: 409,
    title: 'Id of several issuers',
    detail: `Several issuers have an event ${id}. Say which with issuer=NAME.`,
    extensions: { issuers: issuers.filter((name) => name !== null).toSorted() },
  })
}
