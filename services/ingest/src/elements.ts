import type { Problem } from '@curfew/contract'
import type { AccessFilter } from '@curfew/domain'
import { callerOf, type HttpServer, ProblemError, problemOf } from '@curfew/runtime'
import type { Fault } from './fault.ts'

// A post of logout events and a post of sessions: one element or an array of them, each accepted or rejected by itself.

/** Most elements in one array. */
export const ELEMENTS_MAX = 1_000

/** What is posted, such as `logout event`, and many of them. */
export interface Words {
  readonly one: string
  readonly many: string
}

export type PostRequest = Parameters<typeof problemOf>[1]

/** What a credential may post for, once it is known to be no client's. */
export type PosterAccess = Exclude<AccessFilter, { readonly kind: 'clients' }>

/** One element of a body, not yet checked. */
export interface Element {
  readonly value: unknown
  /** JSON pointer to it in the body. */
  readonly pointer: string
}

export interface Rejected {
  readonly status: 'rejected'
  readonly problem: Problem
}

type Compiler = NonNullable<HttpServer['validatorCompiler']>

/** Checks all but the body: the handler checks elements one by one, so that one bad element does not cost the others. */
export function checkAllButBody({ validatorCompiler: check }: HttpServer): Compiler {
  return (part) => (part.httpPart === 'body' || check === undefined ? () => true : check(part))
}

/** The elements of a body. @throws a 400 problem where an array has none or too many. */
export function elementsOf(body: unknown, { many }: Words): readonly Element[] {
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

/** What the elements of a body made. @throws {ProblemError} where all of them were rejected. */
export function acceptedOf<Item>(
  results: readonly (Item | ProblemError)[],
  body: unknown,
  { many }: Words,
): readonly [Item, ...Item[]] {
  const [first, ...others] = results.filter((each): each is Item => !(each instanceof ProblemError))
  if (first !== undefined) return [first, ...others]
  const problems = results.filter((each) => each instanceof ProblemError)
  const [problem] = problems
  throw problem !== undefined && !Array.isArray(body) ? problem : allRejected(problems, many)
}

/** The answer to a body, of which at least one element was accepted: 207 where another was rejected. */
export async function answerTo<Item, Answer>(
  request: PostRequest,
  results: readonly (Item | ProblemError)[],
  answer: (item: Item) => Answer | Promise<Answer>,
): Promise<
  | { readonly status: 202; readonly body: Answer | Rejected | (Answer | Rejected)[] }
  | { readonly status: 207; readonly body: (Answer | Rejected)[] }
> {
  const answers: (Answer | Rejected)[] = await Promise.all(
    results.map((each) =>
      each instanceof ProblemError
        ? { status: 'rejected' as const, problem: problemOf(each, request) as Problem }
        : answer(each),
    ),
  )
  if (results.some((each) => each instanceof ProblemError)) return { status: 207, body: answers }
  const [only] = answers
  return { status: 202, body: Array.isArray(request.body) || only === undefined ? answers : only }
}

/** For whom a caller may post. @throws a 403 problem where it is bound to clients: what happens at an issuer is the issuer's to say. */
export function posterAccess(request: PostRequest, { many }: Words): PosterAccess {
  const { access } = callerOf(request)
  if (access.kind !== 'clients') return access
  throw new ProblemError({
    status: 403,
    detail: `${many.charAt(0).toUpperCase()}${many.slice(1)} are an issuer’s to assert; this credential is bound to clients of one.`,
  })
}

/** A 403 where `iss` is another than a credential is bound to, else null. */
export function foreignIssuer(access: PosterAccess, iss: string, pointer: string): ProblemError | null {
  if (access.kind === 'everything' || iss === access.iss) return null
  return new ProblemError({
    status: 403,
    title: 'Not your issuer',
    detail: `This credential is bound to ${access.iss}. Nothing of this was accepted.`,
    errors: [{ pointer: `${pointer}/iss`, detail: 'is not the issuer that this credential is bound to' }],
  })
}

/** A 400 for one element that cannot be taken. */
export function invalidElement({ one }: Words, faults: readonly Fault[], pointer: string): ProblemError {
  return new ProblemError({
    status: 400,
    title: `Invalid ${one}`,
    detail: `The ${one} was not accepted. Mend what errors names and post it again.`,
    errors: faults.map((fault) => ({ pointer: pointer + fault.pointer, detail: fault.detail })),
  })
}

/** One answer for all, with the status of each where that is the same. */
function allRejected(problems: readonly ProblemError[], many: string): ProblemError {
  const statuses = new Set(problems.map(({ problem }) => problem.status))
  const [first] = problems
  // Where no element was taken for the time being, one answer says why, and when to come back.
  if (first !== undefined && statuses.size === 1 && first.problem.status === 429) return first
  return new ProblemError({
    status: statuses.size === 1 ? (first?.problem.status ?? 400) : 400,
    title: `Invalid ${many}`,
    detail: `None of the ${many} was accepted. Mend what errors names and post them again.`,
    errors: problems.flatMap(({ problem }) => problem.errors ?? []).slice(0, 50),
  })
}
