import { ProblemError } from './problem.ts'

/** A 409 for an id that several issuers use, all visible to the caller. @param issuers short names; null for one that is not registered. */
export function ambiguousEvent(id: string, issuers: readonly (string | null)[]): ProblemError {
  const names = issuers.filter((name) => name !== null).toSorted()
  return new ProblemError({
    status: 409,
    title: 'Id of several issuers',
    detail: `Several issuers have an event ${id}: ${names.join(', ')}. Say which with issuer=NAME (on the command line, --issuer NAME).`,
    extensions: { issuers: names },
  })
}
