import { CurfewError } from '@curfew/domain'
import { createFairQueue } from './fair-queue.ts'

/** Too many items wait, of one caller or of all. Refuse the request, and have it sent again later. */
export class QueueFullError extends CurfewError {
  override readonly code = 'ERR_QUEUE_FULL'
  /** Whether one caller has reached its limit while others may still add items. */
  readonly perCaller: boolean

  constructor(message: string, { perCaller = false }: { readonly perCaller?: boolean } = {}) {
    super(message)
    this.perCaller = perCaller
  }
}

/** The result of an item that belongs in a later batch. Only with `callerOf`. The first item of a batch never has it. */
export const DEFERRED = Symbol('later')

export interface BatcherOptions<Item, Result> {
  /** Does the work of a batch. Returns one result for each item, in order. */
  run(items: readonly Item[]): Promise<readonly (Result | typeof DEFERRED)[]>
  /** Most items in a batch. */
  readonly batchSize: number
  /** Most batches at once. Default 1. */
  readonly concurrency?: number
  /** Most items that may wait. */
  readonly queueMax: number
  /**
   * The caller of an item. Callers take turns to lead batches, and each has one item in a batch before any has two. Default: all
   * items have the same caller.
   */
  callerOf?(item: Item): string
  /** Most items of one caller that may wait. Default `queueMax`. */
  readonly queueMaxOfCaller?: number
}

export interface Batcher<Item, Result> {
  /** @throws {QueueFullError} at once when too many items wait; otherwise the error of `run` for the batch. */
  add(item: Item): Promise<Result>
  /** Adds several items, in order. Queues all of them or none. */
  addAll(items: readonly Item[]): Promise<readonly Result[]>
  /** Resolves when no item waits or runs. */
  drain(): Promise<void>
  /** The number of items that wait for a batch. */
  readonly waiting: number
}

interface Entry<Item, Result> {
  readonly caller: string
  readonly item: Item
  readonly resolve: (result: Result) => void
  readonly reject: (error: unknown) => void
}

/**
 * Combines calls that arrive together: the calls that arrive while a batch runs form the next one. There is no timer, so a lone
 * call is not delayed.
 */
export function createBatcher<Item, Result>(options: BatcherOptions<Item, Result>): Batcher<Item, Result> {
  const { run, batchSize, concurrency = 1, queueMax } = options
  const { callerOf = () => '', queueMaxOfCaller = queueMax } = options
  const queue = createFairQueue<Entry<Item, Result>>()
  let running = 0
  let scheduled = false
  const drainers: (() => void)[] = []

  /** Starts batches one event loop tick later, so that calls of the same tick share a batch. */
  function schedule(): void {
    if (scheduled || running >= concurrency || queue.size === 0) return
    scheduled = true
    setImmediate(() => {
      scheduled = false
      while (running < concurrency && queue.size > 0) void runBatch()
    })
  }

  async function runBatch(): Promise<void> {
    const batch = queue.take(batchSize)
    running += 1
    try {
      const results = await run(batch.map(({ item }) => item))
      if (results.length !== batch.length) {
        throw new Error(`a batch of ${batch.length} items returned ${results.length} results`)
      }
      if (options.callerOf !== undefined) requeueLater(batch, results)
      for (const [index, { resolve }] of batch.entries()) {
        const result = results[index] as Result | typeof DEFERRED
        if (result !== DEFERRED) resolve(result)
      }
    } catch (error) {
      for (const { reject } of batch) reject(error)
    }
    running -= 1
    schedule()
    if (running === 0 && queue.size === 0) {
      for (const resolve of drainers.splice(0)) resolve()
    }
  }

  function requeueLater(batch: readonly Entry<Item, Result>[], results: readonly unknown[]): void {
    const later = batch.filter((_, at) => results[at] === DEFERRED)
    const served = batch.filter((_, at) => results[at] !== DEFERRED)
    queue.putBack(
      later.map((entry) => [entry.caller, entry]),
      new Set(served.map(({ caller }) => caller)),
    )
  }

  function push(item: Item): Promise<Result> {
    const { promise, resolve, reject } = Promise.withResolvers<Result>()
    const caller = callerOf(item)
    queue.add(caller, { caller, item, resolve, reject })
    return promise
  }

  function roomFor(items: readonly Item[]): void {
    if (queue.size > 0 && queue.size + items.length > queueMax) {
      throw new QueueFullError(`${queue.size} items already wait, and at most ${queueMax} may`)
    }
    if (queueMaxOfCaller >= queueMax) return
    for (const [caller, { length }] of Map.groupBy(items, callerOf)) {
      const waiting = queue.sizeOf(caller)
      if (waiting === 0 || waiting + length <= queueMaxOfCaller) continue
      const message = `${waiting} items of one caller already wait, and at most ${queueMaxOfCaller} may`
      throw new QueueFullError(message, { perCaller: true })
    }
  }

  return {
    get waiting() {
      return queue.size
    },
    async add(item) {
      roomFor([item])
      const result = push(item)
      schedule()
      return result
    },
    async addAll(items) {
      roomFor(items)
      const results = items.map(push)
      schedule()
      return Promise.all(results)
    },
    async drain() {
      if (running === 0 && queue.size === 0) return
      const { promise, resolve } = Promise.withResolvers<void>()
      drainers.push(resolve)
      await promise
    },
  }
}
