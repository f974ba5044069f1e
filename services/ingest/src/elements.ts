import type { Problem } from '@curfew/contract'
import type { AccessFilter } from '@curfew/domain'
import { callerOf, type HttpServer, ProblemError, problemOf } from '@curfew/runtime'
import type { Fault } from './fault.ts'

// The common part of posts of logout events and of sessions. A body is one element or an array. Every element is accepted or
// rejected by itself.

/** The greatest number of elements in one array. */
export const ELEMENTS_MAX = 1_000

/** The noun for the elements of a body, such as `logout event`, in singular and plural. */
export interface ElementNoun {
  readonly one: string
  readonly many: string
}

export type PostRequest = Parameters<typeof problemOf>[1]

/** The access filter of a credential that may post: it is not bound to clients. */
export type WriteAccess = Exclude<AccessFilter, { readonly kind: 'clients' }>

/** One unchecked element of a body. */
export interface Element {
  readonly value: unknown
  /** JSON pointer to the element in the body. */
  readonly pointer: string
}

export interface Rejected {
  readonly status: 'rejected'
  readonly problem: Problem
}

type Compiler = NonNullable<HttpServer['validatorCompiler']>

/** Validates all parts but the body. The handler checks elements one by one, so that a bad element does not reject the others. */
export function checkAllButBody({ validatorCompiler: check }: HttpServer): Compiler {
  return (part) => (part.httpPart === 'body' || check === undefined ? () => true : check(part))
}

/** The elements of a body. @throws a 400 problem if an array has none or too many. */
export function elementsOf(body: unknown, { many }: ElementNoun): readonly Element[] {
  if (!Array.isArray(body)) return [{ value: body, pointer: '' }]
  if (body.length > 0 && body.length <= ELEMENTS_MAX)
    return body.map((value: unknown, index) => ({ value, pointer: `/${index}` }))
  throw new ProblemError({
    status: 400,
    title: 'Invalid array',
    detail: `An array must have 1 to ${ELEMENTS_MAX} ${many}; this one has ${body.length}.`,
    errors: [{ pointer: '', detail: `must have 1 to ${ELEMENTS_MAX} items` }],
  })
}

/** The accepted items among the results of a body. @throws {ProblemError} if all elements were rejected. */
export function acceptedOf<Item>(
  results: readonly (Item | ProblemError)[],
  body: unknown,
  { many }: ElementNoun,
): readonly [Item, ...Item[]] {
  const [first, ...others] = results.filter((result): result is Item => !(result instanceof ProblemError))
  if (first !== undefined) return [first, ...others]
  const problems = results.filter((result) => result instanceof ProblemError)
  const [problem] = problems
  throw problem !== undefined && !Array.isArray(body) ? problem : allRejected(problems, many)
}

/** The answer to a body with at least one accepted element: 202, or 207 if another element was rejected. */
export async function answerTo<Item, Answer>(
  request: PostRequest,
  results: readonly (Item | ProblemError)[],
  answer: (item: Item) => Answer | Promise<Answer>,
): Promise<
  | { readonly status: 202; readonly body: Answer | Rejected | (Answer | Rejected)[] }
  | { readonly status: 207; readonly body: (Answer | Rejected)[] }
> {
  const answers: (Answer | Rejected)[] = await Promise.all(
    results.map((result) =>
      result instanceof ProblemError
        ? { status: 'rejected' as const, problem: problemOf(result, request) as Problem }
        : answer(result),
    ),
  )
  if (results.some((result) => result instanceof ProblemError)) return { status: 207, body: answers }
  const [only] = answers
  return { status: 202, body: Array.isArray(request.body) || only === undefined ? answers : only }
}

/**
 * The access of a caller that posts.
 *
 * @throws a 403 problem if the credential is bound to clients: only an issuer may assert its events.
 */
export function writeAccess(request: PostRequest, { many }: ElementNoun): WriteAccess {
  const { access } = callerOf(request)
  if (access.kind !== 'clients') return access
  throw new ProblemError({
    status: 403,
    detail: `Only an issuer may post ${many}, and this credential is bound to clients. Use a credential of the issuer.`,
  })
}

/** A 403 problem if the credential is bound to an issuer other than `iss`, else null. */
export function foreignIssuer(access: WriteAccess, iss: string, pointer: string): ProblemError | null {
  if (access.kind === 'everything' || iss === access.iss) return null
  return new ProblemError({
    status: 403,
    title: 'Wrong issuer',
    detail: `This credential is bound to ${access.iss}. The element was not accepted.`,
    errors: [{ pointer: `${pointer}/iss`, detail: 'must be the issuer that this credential is bound to' }],
  })
}

/** A 400 problem for one invalid element. */
export function invalidElement(
  { one }: ElementNoun,
  faults: readonly Fault[],
  pointer: string,
): ProblemError {
  return new ProblemError({
    status: 400,
    title: `Invalid ${one}`,
    detail: `The ${one} was not accepted. Correct the members in errors and post it again.`,
    errors: faults.map((fault) => ({ pointer: pointer + fault.pointer, detail: fault.detail })),
  })
}

/** One problem for a body without accepted elements. It has the status of the elements if that is the same for all, else 400. */
function allRejected(problems: readonly ProblemError[], many: string): ProblemError {
  const statuses = new Set(problems.map(({ problem }) => problem.status))
  const [first] = problems
  // All elements are refused temporarily: answer the reason and the Retry-After of the first.
  if (first !== undefined && statuses.size === 1 && first.problem.status === 429) return first
  return new ProblemError({
    status: statuses.size === 1 ? (first?.problem.status ?? 400) : 400,
    title: `Invalid ${many}`,
    detail: `None of the ${many} was accepted. Correct the members in errors and post them again.`,
    errors: problems.flatMap(({ problem }) => problem.errors ?? []).slice(0, 50),
  })
}
