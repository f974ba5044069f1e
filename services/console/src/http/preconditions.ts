import { ProblemError } from '@curfew/runtime'

/** The precondition headers of a request (RFC 9110 section 13.1). */
export interface Preconditions {
  readonly 'if-match'?: string | undefined
  readonly 'if-none-match'?: string | undefined
}

/** The entity tag of a registration. It is strong, because every change gives a new one. */
export function etagOf({ revision }: { readonly revision: number }): string {
  return `"${revision}"`
}

/** Whether the preconditions allow a change of the present registration `before`; null if there is none. */
export function mayChange(headers: Preconditions, before: { readonly revision: number } | null): boolean {
  const { 'if-match': match, 'if-none-match': noneMatch } = headers
  const tag = before === null ? null : etagOf(before)
  // If-Match needs a strong comparison, so weak tags never match (RFC 9110 section 13.1.1).
  if (match !== undefined && (tag === null || !(match.trim() === '*' || tagsOf(match).includes(tag))))
    return false
  return noneMatch === undefined || !names(noneMatch, tag)
}

/** The missing body of a 304 (RFC 9110 section 15.4.5). Routes have the type of the body of a 200. */
export const NO_BODY = undefined as never

/** Whether the caller has the current state already, so that the answer is a 304. */
export function isKnown(headers: Preconditions, current: { readonly revision: number }): boolean {
  const { 'if-none-match': noneMatch } = headers
  return noneMatch !== undefined && names(noneMatch, etagOf(current))
}

/** The 412 problem for a change that the preconditions do not allow. */
export function preconditionFailed(headers: Preconditions, before: object | null): ProblemError {
  const detail =
    headers['if-match'] === undefined
      ? 'It exists already. Omit If-None-Match to change it.'
      : before === null
        ? 'It does not exist, or was removed. Omit If-Match to create it.'
        : 'It has changed since you read it. Read it again, apply your change to the new state, and send its ETag as If-Match.'
  return new ProblemError({ status: 412, detail })
}

function names(list: string, tag: string | null): boolean {
  if (tag === null) return false
  return list.trim() === '*' || tagsOf(list.replaceAll('W/', '')).includes(tag)
}

function tagsOf(list: string): readonly string[] {
  return list.split(',').map((tag) => tag.trim())
}
