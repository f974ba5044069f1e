import { ProblemError } from '@curfew/runtime'

/** What a request says about the state that it is for (RFC 9110 13.1). */
export interface Preconditions {
  readonly 'if-match'?: string | undefined
  readonly 'if-none-match'?: string | undefined
}

/** The entity tag of a registration: strong, for it is another after every change. */
export function etagOf({ revision }: { readonly revision: number }): string {
  return `"${revision}"`
}

/** Whether a change may be made to what is there (null: nothing). */
export function mayChange(headers: Preconditions, before: { readonly revision: number } | null): boolean {
  const { 'if-match': match, 'if-none-match': noneMatch } = headers
  const tag = before === null ? null : etagOf(before)
  // Strong comparison: a weak tag vouches for nothing (RFC 9110 13.1.1).
  if (match !== undefined && (tag === null || !(match.trim() === '*' || tagsOf(match).includes(tag))))
    return false
  return noneMatch === undefined || !names(noneMatch, tag)
}

/** What a 304 says (RFC 9110 15.4.5): routes are typed by what a 200 does. */
export const NO_BODY = undefined as never

/** Whether the asker has it already: then the answer is a 304. */
export function isKnown(headers: Preconditions, current: { readonly revision: number }): boolean {
  const { 'if-none-match': noneMatch } = headers
  return noneMatch !== undefined && names(noneMatch, etagOf(current))
}

/** The 412 for a change that may not be made. */
export function preconditionFailed(headers: Preconditions, before: object | null): ProblemError {
  const detail =
    headers['if-match'] === undefined
      ? 'It is there already. Leave If-None-Match out to change it.'
      : before === null
        ? 'It is not there, or no more. Leave If-Match out to create it.'
        : 'It has been changed since. Read it again, make your change to that, and send its ETag as If-Match.'
  return new ProblemError({ status: 412, detail })
}

function names(list: string, tag: string | null): boolean {
  if (tag === null) return false
  return list.trim() === '*' || tagsOf(list.replaceAll('W/', '')).includes(tag)
}

function tagsOf(list: string): readonly string[] {
  return list.split(',').map((tag) => tag.trim())
}
