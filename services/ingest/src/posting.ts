import type { Problem } from '@curfew/contract'
import {
  type EventLog,
  EventLogUnavailableError,
  type LogRecord,
  type Reach,
  RecordTooLargeError,
  WrongEventLogError,
} from '@curfew/domain'
import {
  type Batcher,
  type Credential,
  callerOf,
  createBatcher,
  ProblemError,
  problemOf,
  QueueFullError,
  traceparentOf,
} from '@curfew/runtime'
import type { Fault } from './fault.ts'

// What every post has in common: one element or an array of them, each examined by itself, and appended to the event log
// before anything is answered.

/** Most elements in one array. */
export const ELEMENTS_MAX = 1_000
const QUEUE_MAX = 20_000
const RETRY_AFTER_S = 2
/** Where an operator must change a setting first. */
const OPERATOR_S = 60

/** One element of a post: what it made, or why it made nothing. */
export type Element<Item> = { readonly item: Item } | { readonly problem: ProblemError }

/** What a credential may post for, once it is known to be no client's. */
type PosterReach = Exclude<Reach, { readonly kind: 'clients' }>

export interface PostingOptions<Item, Answer> {
  readonly eventLog: Pick<EventLog, 'append'>
  /** What is posted, such as `logout event`, and many of them. */
  readonly one: string
  readonly many: string
  /** Begins a request. @returns what examines its elements, in their order; `prefix` points to the element. */
  examiner(
    reach: PosterReach,
    caller: Credential,
    request: PostRequest,
  ): (value: unknown, prefix: string) => Element<Item>
  /** The queue that an item waits in for its append, where there are several: a full one fills no other. */
  queueOf?(item: Item): string
  encode(item: Item, traceparent: string): LogRecord
  /** Told when items are durable. */
  onAppended?(items: readonly Item[]): void
  /** The answer for an item that is durable. */
  answer(item: Item): Answer | Promise<Answer>
}

export interface Rejected {
  readonly status: 'rejected'
  readonly problem: Problem
}

type Answered<Answer> =
  | { readonly status: 202; readonly body: Answer | (Answer | Rejected)[] }
  | { readonly status: 207; readonly body: (Answer | Rejected)[] }

export type PostRequest = Parameters<typeof problemOf>[1]

export interface Posting<Item, Answer> {
  /** Takes the body of a request whole or, of an array, element by element. @throws {ProblemError} where nothing was accepted. */
  post(request: PostRequest): Promise<Answered<Answer>>
  /** What a body that is one element would make. @throws {ProblemError} where it would make nothing. */
  examine(request: PostRequest): Item
  /** Makes items durable. @throws a 503 problem where that cannot be. */
  append(items: readonly Item[], traceparent: string): Promise<void>
}

/** One way of posting, over a batcher of its own: what comes at once is appended together. */
export function createPosting<Item, Answer>(options: PostingOptions<Item, Answer>): Posting<Item, Answer> {
  const { eventLog, one, many, examiner, queueOf = () => '', encode, onAppended, answer } = options
  const queues = new Map<string, Batcher<Entry<Item>, Appended>>()
  function queue(name: string) {
    const known = queues.get(name)
    if (known !== undefined) return known
    const made = createBatcher<Entry<Item>, Appended>({
      batchSize: ELEMENTS_MAX,
      queueMax: QUEUE_MAX,
      run: (entries) =>
        appendAll(
          eventLog,
          entries.map(({ item, traceparent }) => encode(item, traceparent)),
        ),
    })
    queues.set(name, made)
    return made
  }

  async function append(items: readonly Item[], traceparent: string): Promise<void> {
    try {
      const entries = items.map((item) => ({ item, traceparent }))
      const byQueue = Map.groupBy(entries, ({ item }) => queueOf(item))
      const appended = await Promise.all([...byQueue].map(([name, some]) => queue(name).addAll(some)))
      const refused = appended.flat().find((each) => each !== null)
      if (refused !== undefined) throw refused
    } catch (error) {
      if (!(error instanceof EventLogUnavailableError || error instanceof QueueFullError)) throw error
      throw notAppended(error, one)
    }
    onAppended?.(items)
  }

  const examinerOf = (request: PostRequest) =>
    examiner(posterReach(request, many), callerOf(request), request)

  function examine(request: PostRequest): Item {
    const element = examinerOf(request)(request.body, '')
    if ('problem' in element) throw element.problem
    return element.item
  }

  async function post(request: PostRequest): Promise<Answered<Answer>> {
    const { body } = request
    const traceparent = traceparentOf(request)
    if (!Array.isArray(body)) {
      const item = examine(request)
      await append([item], traceparent)
      return { status: 202, body: await answer(item) }
    }
    if (body.length === 0 || body.length > ELEMENTS_MAX) {
      throw new ProblemError({
        status: 400,
        title: 'Invalid array',
        detail: `An array must have 1 to ${ELEMENTS_MAX} ${many}; this one has ${body.length}.`,
        errors: [{ pointer: '', detail: `must have 1 to ${ELEMENTS_MAX} items` }],
      })
    }
    const examineEach = examinerOf(request)
    const elements = body.map((value: unknown, index) => examineEach(value, `/${index}`))
    const problems = elements.flatMap((element) => ('problem' in element ? [element.problem] : []))
    if (problems.length === elements.length) throw allRejected(problems, many)
    await append(
      elements.flatMap((element) => ('item' in element ? [element.item] : [])),
      traceparent,
    )
    return {
      status: problems.length > 0 ? 207 : 202,
      body: await Promise.all(
        elements.map((element) =>
          'item' in element
            ? answer(element.item)
            : { status: 'rejected' as const, problem: problemOf(element.problem, request) as Problem },
        ),
      ),
    }
  }

  return { post, examine, append }
}

interface Entry<Item> {
  readonly item: Item
  readonly traceparent: string
}

/** Null: it is durable. */
type Appended = RecordTooLargeError | null

/** Appends records of several posts together. One that is too large costs the others nothing. */
async function appendAll(
  eventLog: Pick<EventLog, 'append'>,
  records: readonly LogRecord[],
): Promise<readonly Appended[]> {
  try {
    await eventLog.append(records)
    return records.map(() => null)
  } catch (error) {
    if (!(error instanceof RecordTooLargeError)) throw error
    if (records.length === 1) return [error]
    return (await Promise.all(records.map((record) => appendAll(eventLog, [record])))).flat()
  }
}

/** The answer where the event log did not take what was posted. */
function notAppended(cause: EventLogUnavailableError | QueueFullError, one: string): ProblemError {
  const facts = (detail: string, retryAfterS: number) =>
    new ProblemError(
      {
        status: 503,
        title: 'Event log not available',
        detail,
        headers: { 'retry-after': String(retryAfterS) },
      },
      { cause },
    )
  if (cause instanceof WrongEventLogError)
    return facts(
      `This service uses another event log than the rest of Curfew, and no worker would read it. The ${one} was not accepted. The operator finds more in /readyz and curfew doctor.`,
      OPERATOR_S,
    )
  if (cause instanceof RecordTooLargeError)
    return facts(
      `${cause.message}. The ${one} was not accepted. Send it again when the operator has done so.`,
      OPERATOR_S,
    )
  return facts(
    `The ${one} could not be made durable and was not accepted. Send it again as it was.`,
    RETRY_AFTER_S,
  )
}

/** For whom a caller may post. @throws a 403 problem where it is bound to clients: what happens at an issuer is the issuer's to say. */
export function posterReach(request: PostRequest, many: string): PosterReach {
  const { reach } = callerOf(request)
  if (reach.kind !== 'clients') return reach
  throw new ProblemError({
    status: 403,
    detail: `${many.charAt(0).toUpperCase()}${many.slice(1)} are an issuer’s to assert; this credential is bound to clients of one.`,
  })
}

/** A 403 where `iss` is another than a credential is bound to, else null. */
export function foreignIssuer(reach: PosterReach, iss: string, prefix: string): ProblemError | null {
  if (reach.kind === 'everything' || iss === reach.iss) return null
  return new ProblemError({
    status: 403,
    title: 'Not your issuer',
    detail: `This credential is bound to ${reach.iss}. Nothing of this was accepted.`,
    errors: [{ pointer: `${prefix}/iss`, detail: 'is not the issuer that this credential is bound to' }],
  })
}

/** A 400 for one element that cannot be taken. */
export function invalidElement(one: string, faults: readonly Fault[], prefix: string): ProblemError {
  return new ProblemError({
    status: 400,
    title: `Invalid ${one}`,
    detail: `The ${one} was not accepted. Mend what errors names and post it again.`,
    errors: faults.map(({ pointer, detail }) => ({ pointer: prefix + pointer, detail })),
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
