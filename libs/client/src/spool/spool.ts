import { takeLock } from './lock.ts'
import { type Entry, storedBytes } from './segment.ts'
import { makeDirectory, openStore, type Segment, type Store } from './store.ts'
import { createWriter, SEGMENT_BYTES, type Writer } from './writer.ts'

export { SpoolLockedError } from './lock.ts'
export { SpoolDamagedError } from './store.ts'

/** The spool has no room for the entry. */
export class SpoolFullError extends Error {
  constructor(directory: string, bytes: number, bytesMax: number) {
    super(
      `The spool ${directory} has no room for an entry of ${bytes} bytes: its limit is ${bytesMax} bytes (bytesMax). The entry was not stored. Find out why nothing takes the entries that wait, or raise the limit, and append it again.`,
    )
    this.name = 'SpoolFullError'
  }
}

/** A durable queue in a directory. */
export interface Spool {
  /**
   * Resolves once the entry is on disk (written and fsynced). If it rejects, the entry is not confirmed. It may still be there after a
   * crash of the machine.
   *
   * @throws {SpoolFullError} above bytesMax.
   * @throws {SpoolLockedError} once another process uses the directory.
   */
  append(entry: Uint8Array): Promise<void>
  /**
   * Hands entries to `deliver` oldest first, in batches of at most `batchMax`, and deletes them once it resolves. It resolves when no
   * entry waits, or after `close`. It rejects with the error of `deliver`, and keeps the entries. Entries may be handed out twice after
   * a crash. Calls run one after another.
   */
  drain(deliver: (entries: readonly Uint8Array[]) => Promise<void>): Promise<void>
  /** The entries that wait, and their bytes on disk. */
  size(): { readonly entries: number; readonly bytes: number }
  /**
   * Resolves if the spool can take an entry of `ENTRY_BYTES` now.
   *
   * @throws {SpoolFullError} if it has no room.
   * @throws {SpoolLockedError} once another process uses the directory.
   */
  check(): Promise<void>
  /** Stores the entries of appends that are under way, waits for the batch that is under way, and gives up the directory. */
  close(): Promise<void>
}

export interface SpoolOptions {
  /** Created if it is missing. Each process needs its own. */
  readonly directory: string
  /** The limit of the bytes that wait. Default 256 MiB. */
  readonly bytesMax?: number
  /** The most entries in one batch. Default 1,000. A batch of more than one entry has at most 1 MiB. */
  readonly batchMax?: number
  /** Gets damage of the directory. Default: `console.error`. */
  readonly onError?: (error: Error) => void
}

/** Opens the queue in a directory, with the entries of earlier processes. @throws {SpoolLockedError} if a living process uses it. */
export async function openSpool(options: SpoolOptions): Promise<Spool> {
  const { directory, bytesMax = 268_435_456, batchMax = 1_000, onError = console.error } = options
  await makeDirectory(directory)
  const lock = await takeLock(directory)
  try {
    const { store, found: segments } = await openStore(directory, onError)
    const writer = createWriter({ store, lock, segments })
    const appender = createAppender({ writer, directory, bytesMax, waiting: () => waitingIn(segments) })
    const drainer = createDrainer({ store, writer, segments, batchMax, onError, check: lock.check })
    let closed: Promise<void> | null = null
    return {
      append: (entry) => appender.append(entry),
      drain: (deliver) => drainer.drain(deliver),
      size: () => waitingIn(segments),
      async check() {
        appender.check(ENTRY_BYTES)
        await lock.check()
      },
      close() {
        closed ??= (async () => {
          await Promise.all([appender.close(), drainer.close()])
          await writer.seal()
          await store.close()
          await lock.release()
        })()
        return closed
      },
    }
  } catch (error) {
    await lock.release()
    throw error
  }
}

function waitingIn(segments: readonly Segment[]): { readonly entries: number; readonly bytes: number } {
  const sum = { entries: 0, bytes: 0 }
  for (const { waiting } of segments) {
    sum.entries += waiting.entries
    sum.bytes += waiting.bytes
  }
  return sum
}

/** The size of a usual large entry, such as a logout with its token. */
const ENTRY_BYTES = 32_768

const closedError = () => new Error('The spool is closed. Open it again.')

interface Append {
  readonly payload: Uint8Array
  readonly resolve: () => void
  readonly reject: (reason: unknown) => void
}

interface Appender {
  /** @throws {Error} if an entry of so many bytes has no room, or the spool is closed. */
  check(bytes: number): void
  append(entry: Uint8Array): Promise<void>
  close(): Promise<void>
}

interface AppenderDeps {
  readonly writer: Writer
  readonly directory: string
  readonly bytesMax: number
  readonly waiting: () => { readonly bytes: number }
}

/** Joins concurrent appends into groups. Each group shares one write and one fsync. */
function createAppender({ writer, directory, bytesMax, waiting }: AppenderDeps): Appender {
  const queue: Append[] = []
  let reserved = 0
  let writing: Promise<void> | null = null
  let closed = false

  async function writeQueue(): Promise<void> {
    // The appends of the same round of the event loop join.
    await new Promise(setImmediate)
    while (queue.length > 0) {
      const group = takeGroup(queue)
      const bytes = group.reduce((sum, { payload }) => sum + storedBytes(payload), 0)
      try {
        await writer.write(group.map(({ payload }) => payload))
        for (const { resolve } of group) resolve()
      } catch (error) {
        for (const { reject } of group) reject(error)
      } finally {
        reserved -= bytes
      }
    }
    writing = null
  }

  function check(bytes: number): void {
    if (closed) throw closedError()
    if (waiting().bytes + reserved + bytes > bytesMax) throw new SpoolFullError(directory, bytes, bytesMax)
  }

  return {
    check,
    async append(entry) {
      const bytes = storedBytes(entry)
      check(bytes)
      reserved += bytes
      return new Promise((resolve, reject) => {
        // The caller may use its buffer for something else.
        queue.push({ payload: new Uint8Array(entry), resolve, reject })
        writing ??= writeQueue()
      })
    },
    async close() {
      closed = true
      await writing
    },
  }
}

/** Takes appends from the queue, at least one, at most as many as one segment has room for. */
function takeGroup(queue: Append[]): Append[] {
  let bytes = 0
  const end = queue.findIndex(({ payload }, index) => {
    bytes += storedBytes(payload)
    return index > 0 && bytes > SEGMENT_BYTES
  })
  return queue.splice(0, end === -1 ? queue.length : end)
}

interface DrainerDeps {
  readonly store: Store
  readonly writer: Writer
  readonly segments: Segment[]
  readonly batchMax: number
  readonly onError: (error: Error) => void
  /** @throws if another process uses the directory. */
  readonly check: () => Promise<void>
}

type Deliver = Parameters<Spool['drain']>[0]

interface Drainer extends Pick<Spool, 'drain'> {
  close(): Promise<void>
}

/** Reads one segment at a time, so that memory does not grow with the backlog. */
function createDrainer(deps: DrainerDeps): Drainer {
  const { store, writer, segments, batchMax, onError, check } = deps
  /** The entries of the first segment that were read and not delivered. */
  let ready: readonly Entry[] = []
  /** The last drain, which the next one follows. */
  let last: Promise<unknown> = Promise.resolve()
  let closed = false

  async function handOut(head: Segment, deliver: Deliver): Promise<void> {
    await check()
    const batch = takeBatch(ready, batchMax)
    await deliver(batch.map(({ payload }) => payload))
    ready = ready.slice(batch.length)
    advance(head, batch)
    // A note that fails repeats entries after a crash, and loses none.
    await store.note(head).catch(onError)
  }
  async function read(head: Segment): Promise<void> {
    const { end } = head
    ready = (await store.read(head, head.delivered)).entries
    // The rest is unreadable.
    if (ready.length === 0) head.delivered = end
  }
  async function discard(head: Segment): Promise<void> {
    // Nothing is awaited between the check of the caller and the seal, so no write goes to the segment.
    const sealed = writer.isActive(head) ? writer.seal() : undefined
    segments.shift()
    await sealed
    await store.discard(head)
  }

  async function drainAll(deliver: Deliver): Promise<void> {
    while (!closed) {
      const [head] = segments
      if (head === undefined) return
      if (ready.length > 0) await handOut(head, deliver)
      else if (head.delivered < head.end) await read(head)
      else if (writer.isActive(head) && writer.writing !== null) await writer.writing
      else await discard(head)
    }
  }

  return {
    drain(deliver) {
      if (closed) return Promise.reject(closedError())
      const drained = last.then(() => drainAll(deliver))
      last = drained.catch(() => undefined)
      return drained
    },
    async close() {
      closed = true
      await last
    },
  }
}

function advance(segment: Segment, batch: readonly Entry[]): void {
  segment.delivered = batch.at(-1)?.end ?? segment.delivered
  segment.waiting.entries -= batch.length
  segment.waiting.bytes -= batch.reduce((sum, { payload }) => sum + storedBytes(payload), 0)
}

/** Copies the first entries: at least one, and at most 1 MiB. */
function takeBatch(ready: readonly Entry[], batchMax: number): readonly Entry[] {
  let bytes = 0
  const end = ready.findIndex(({ payload }, index) => {
    bytes += payload.byteLength
    return index > 0 && bytes > SEGMENT_BYTES
  })
  return ready.slice(0, Math.min(end === -1 ? ready.length : end, batchMax))
}
