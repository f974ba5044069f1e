import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import type { LogoutEventInput, Problem } from '@curfew/contract'
import { ApiError, type Client, type ClientOptions, createClient } from '../client.ts'
import { openSpool } from '../spool/spool.ts'
import { checkedAnswers, createDelivery, encodeItem, type IdentifiedEvent } from './delivery.ts'
import { closedError, type Lane, startLane } from './lane.ts'
import { createRejectedFile } from './rejected.ts'
import { isAboutEvent } from './verdict.ts'

export { ApiError } from '../client.ts'
export { SpoolDamagedError, SpoolFullError, SpoolLockedError } from '../spool/spool.ts'

export interface OutboxOptions extends ClientOptions {
  /** The directory of the events that wait. It must survive the process, and each process needs its own. */
  readonly directory: string
  /** The limit of the bytes that wait, for each lane. Default 256 MiB. */
  readonly bytesMax?: number
  /** The longest time for one request with its answer, in milliseconds. Default 10,000. */
  readonly timeoutMs?: number
  /** Gets each failed try, and damage of the directory. Default: `console.error`. */
  readonly onError?: (error: Error) => void
  /**
   * Gets each event that Curfew refuses for good. The event is in the file `rejected` of the directory by then. Default: a message to
   * `onError`.
   */
  readonly onRejected?: (event: LogoutEventInput, problem: Problem) => void
}

/** Posts logout events until Curfew has accepted them, across failures and restarts. It is for logout events only, not for sessions. */
export interface Outbox {
  /**
   * Gives the event an id and an `occurred_at` if it has none, and resolves once it is durable: in the directory, or accepted by
   * Curfew. It does not wait for Curfew.
   *
   * @throws {SpoolFullError} if too many events wait. Answer the user that the logout has failed, and alert.
   */
  post(event: LogoutEventInput): Promise<{ readonly id: string }>
  /**
   * Resolves once no event waits. Tries at once, unless Curfew asked for more time.
   *
   * @throws {OutboxNotDrainedError} after `timeoutMs`.
   */
  drain(timeoutMs?: number): Promise<void>
  /** The events that wait, and their bytes on disk. */
  size(): { readonly entries: number; readonly bytes: number }
  /** Stops posting. It waits for the request that is under way. The next process posts the events that wait. */
  close(): Promise<void>
}

/** Events still wait after the time for `drain`. */
export class OutboxNotDrainedError extends Error {
  constructor(directory: string, { entries, timeoutMs }: { entries: number; timeoutMs: number }) {
    super(
      `Logout events still wait in ${directory} after ${timeoutMs} ms: ${entries}. They are posted in the background, or by the next process that opens the directory.`,
    )
    this.name = 'OutboxNotDrainedError'
  }
}

/** A try that failed. `cause` is the reason. */
export class OutboxRetryError extends Error {
  constructor(cause: unknown, facts: { entries: number; directory: string; nextMs: number }) {
    const { entries, directory, nextMs } = facts
    super(
      `Curfew did not take the logout events in ${directory}: ${reasonOf(cause)}. ${entries} of them wait. The next try is in ${Math.ceil(nextMs)} ms.`,
      { cause },
    )
    this.name = 'OutboxRetryError'
  }
}

/** Opens the outbox in a directory, and posts the events that earlier processes left there. @throws {SpoolLockedError} if a living process uses the directory. */
export async function createOutbox(options: OutboxOptions): Promise<Outbox> {
  const { directory, bytesMax, timeoutMs = 10_000, onError = console.error } = options
  const { onRejected = (event, problem) => onError(rejectedError(directory, event, problem)) } = options
  const client = createClient({ ...options, timeoutMs })
  let isClosed = false
  const checkOpen = () => {
    if (isClosed) throw closedError()
  }
  const keepRejected = createRejectedFile(directory, () => new Date())
  const open = async (name: string) => {
    const path = join(directory, name)
    const spool = await openSpool({ directory: path, onError, ...(bytesMax !== undefined && { bytesMax }) })
    const onFailure = (cause: unknown, nextMs: number) =>
      onError(new OutboxRetryError(cause, { entries: spool.size().entries, directory: path, nextMs }))
    const deliver = createDelivery({
      client,
      keepRejected,
      onRejected: guarded(onRejected, onError),
      checkOpen,
    })
    return startLane({ spool, deliver, onFailure, random: Math.random })
  }
  // A lane of its own, so that a mass logout that Curfew slows down delays no logout of one person.
  const interactive = await open('interactive')
  const bulk = await open('bulk').catch(async (error: unknown) => {
    await interactive.close()
    throw error
  })
  const lanes = [interactive, bulk]
  const size = () => {
    const [one, other] = [interactive.spool.size(), bulk.spool.size()]
    return { entries: one.entries + other.entries, bytes: one.bytes + other.bytes }
  }

  return {
    async post(posted) {
      checkOpen()
      const event = { ...posted, id: posted.id ?? newEventId(new Date()) }
      await store(event, { client, lane: isBulk(event) ? bulk : interactive })
      return { id: event.id }
    },
    async drain(within) {
      checkOpen()
      for (const lane of lanes) lane.retryNow()
      const drained = Promise.all(lanes.map((lane) => lane.idle()))
      if (within === undefined) await drained
      else if (!(await isWithin(drained, within)))
        throw new OutboxNotDrainedError(directory, { entries: size().entries, timeoutMs: within })
    },
    size,
    async close() {
      isClosed = true
      await Promise.all(lanes.map((lane) => lane.close()))
    },
  }
}

/** An issuer logout is one event and may be urgent. Curfew never defers it. */
const isBulk = ({ lane, scope }: LogoutEventInput) => lane === 'bulk' && scope !== 'issuer'

/** Stores an event in the spool of its lane. If the disk does not take it, posts it at once. */
async function store(
  event: IdentifiedEvent,
  { client, lane }: { client: Client; lane: Lane },
): Promise<void> {
  const isTimed = event.occurred_at === undefined
  // A logout that arrives late must not end sessions that began after it.
  const timed = isTimed ? { ...event, occurred_at: new Date().toISOString() } : event
  try {
    await lane.spool.append(encodeItem({ event: timed, isTimed }))
    lane.wake()
  } catch (cause) {
    // While Curfew is unavailable, this would only make the user wait.
    if (lane.isFailing) throw cause
    await postNow(event, client).catch((error: unknown) => {
      throw error instanceof ApiError && isAboutEvent(error) ? error : cause
    })
  }
}

async function postNow(event: IdentifiedEvent, client: Client): Promise<void> {
  const [answer] = checkedAnswers(await client.postLogoutEvents([event]), 1)
  if (answer?.status === 'rejected') throw new ApiError(answer.problem, null)
}

/** Calls the function of the user. Its errors must not stop the outbox. */
function guarded<Values extends readonly unknown[]>(
  call: (...values: Values) => void,
  onError: (error: Error) => void,
): (...values: Values) => void {
  return (...values) => {
    try {
      call(...values)
    } catch (error) {
      onError(error instanceof Error ? error : new Error('onRejected failed.', { cause: error }))
    }
  }
}

async function isWithin(done: Promise<unknown>, ms: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<false>((resolve) => {
    timer = setTimeout(resolve, ms, false)
  })
  try {
    return await Promise.race([done.then(() => true as const), late])
  } finally {
    clearTimeout(timer)
  }
}

function rejectedError(directory: string, { id }: LogoutEventInput, problem: Problem): Error {
  const reason = new ApiError(problem, null).message
  return new Error(
    `Curfew refuses the logout event ${id}: ${reason}. No relying party is notified. The event is in ${join(directory, 'rejected')}: correct it and post it again.`,
  )
}

function reasonOf(cause: unknown): string {
  if (cause instanceof ApiError) return `Curfew answered ${cause.status}: ${cause.message}`
  if (!(cause instanceof Error)) return String(cause)
  // fetch gives the reason of the network as a cause.
  return cause.cause instanceof Error ? `${cause.message}: ${cause.cause.message}` : cause.message
}

/** A time-ordered UUID (version 7, RFC 9562 section 5.7). */
function newEventId(now: Date): string {
  const bytes = randomBytes(16)
  bytes.writeUIntBE(now.getTime(), 0, 6)
  bytes.writeUInt8((bytes.readUInt8(6) & 0x0f) | 0x70, 6)
  bytes.writeUInt8((bytes.readUInt8(8) & 0x3f) | 0x80, 8)
  return bytes.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-')
}
