import { ProblemError } from './problem.ts'

/** A 409 problem for an event id of several issuers, all visible to the caller. @param issuers names; null if unregistered. */
export function ambiguousEvent(id: string, issuers: readonly (string | null)[]): ProblemError {
  const names = issuers.filter((name) => name !== null).toSorted()
  return new ProblemError({
    status: 409,
    title: 'Ambiguous event id',
    detail: `Several issuers have an event ${id}: ${names.join(', ')}. Name one with issuer=NAME (on the command line, --issuer NAME).`,
    extensions: { issuers: names },
  })
}
