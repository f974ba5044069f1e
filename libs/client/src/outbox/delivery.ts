import type { AcceptedOrRejected, LogoutEventInput, Problem } from '@curfew/contract'
import { ApiError, type Client } from '../client.ts'
import type { KeepRejected } from './rejected.ts'
import { isAboutEvent, isAboutTime } from './verdict.ts'

/** A logout event with its id. */
export type IdentifiedEvent = LogoutEventInput & { readonly id: string }

/** An entry of the spool. */
export interface Item {
  readonly event: IdentifiedEvent
  /** Whether the outbox has set `occurred_at`. */
  readonly isTimed: boolean
}

export const encodeItem = (item: Item): Uint8Array => Buffer.from(JSON.stringify(item))

export interface DeliveryDeps {
  readonly client: Pick<Client, 'postLogoutEvents'>
  readonly keepRejected: KeepRejected
  /** Gets each event that Curfew refuses, after it was kept. */
  readonly onRejected: (event: LogoutEventInput, problem: Problem) => void
  /** @throws once the outbox closes: the rest of the batch waits for the next process. */
  readonly checkOpen: () => void
}

/**
 * Creates a function that posts a batch of entries. It resolves once each event of the batch is accepted or kept as rejected. If it
 * rejects, the same batch may be posted again: it then skips the events that are done.
 */
export function createDelivery(deps: DeliveryDeps): (entries: readonly Uint8Array[]) => Promise<void> {
  const { client, keepRejected, onRejected, checkOpen } = deps
  /** The entries of the current batch that are done, as text: equal texts are the same post. */
  const done = new Set<string>()

  async function reject(event: LogoutEventInput, problem: Problem): Promise<void> {
    await keepRejected(event, problem)
    onRejected(event, problem)
  }
  async function refused(item: Pending, problem: Problem): Promise<void> {
    if (item.isTimed && isAboutTime(problem)) {
      // Without the time the order of acceptance counts. A logout that is late is better than none.
      const { occurred_at: _, ...event } = item.event
      await post([{ ...item, event, isTimed: false }])
      return
    }
    await reject(item.event, problem)
    done.add(item.text)
  }
  async function post(items: readonly Pending[]): Promise<void> {
    if (items.length === 0) return
    checkOpen()
    let answers: readonly AcceptedOrRejected[]
    try {
      answers = checkedAnswers(await client.postLogoutEvents(items.map(({ event }) => event)), items.length)
    } catch (error) {
      if (!(error instanceof ApiError && isAboutEvent(error))) throw error
      const [first] = items
      if (items.length === 1 && first !== undefined) return refused(first, error.problem)
      // A refusal of a whole array does not say which event is wrong. Curfew has accepted none.
      for (const part of partsOf(items, error.status)) await post(part)
      return
    }
    let later: ApiError | null = null
    for (const [index, item] of items.entries()) {
      const answer = answers[index]
      if (answer?.status === 'accepted') {
        done.add(item.text)
      } else if (answer?.status === 'rejected') {
        const error = new ApiError(answer.problem, null)
        if (isAboutEvent(error)) await refused(item, answer.problem)
        else later = error
      }
    }
    if (later !== null) throw later
  }

  return async (entries) => {
    const items: Pending[] = []
    for (const entry of entries) {
      const text = Buffer.from(entry).toString()
      if (done.has(text)) continue
      items.push({ ...(JSON.parse(text) as Item), text })
    }
    await post(items)
    done.clear()
  }
}

interface Pending extends Item {
  readonly text: string
}

/** @throws {Error} if something else than Curfew has answered, such as a proxy with a page of its own. */
export function checkedAnswers(answers: unknown, count: number): readonly AcceptedOrRejected[] {
  const isAnswer = (answer: unknown) => ['accepted', 'rejected'].includes(Object(answer).status as string)
  if (Array.isArray(answers) && answers.length === count && answers.every(isAnswer)) return answers
  throw new Error('The answer to the post is not from Curfew. Check the URL.')
}

/** Halves an array that is too large. Takes others apart, so that one wrong event costs one more round and not ten. */
function partsOf(items: readonly Pending[], status: number): readonly (readonly Pending[])[] {
  if (status !== 413) return items.map((item) => [item])
  const middle = Math.ceil(items.length / 2)
  return [items.slice(0, middle), items.slice(middle)]
}
