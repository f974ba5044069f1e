import { CurfewError } from '@curfew/domain'

/** More waits than may. The caller says so to whoever asked, and tries later. */
export class QueueFullError extends CurfewError {
  override readonly code = 'ERR_QUEUE_FULL'
}

export interface BatcherOptions<Item, Result> {
  /** Does the work for a batch; answers with one result for each item, in order. */
  run(items: readonly Item[]): Promise<readonly Result[]>
  /** Most items in a batch. */
  readonly batchSize: number
  /** Most batches at once. Default 1. */
  readonly concurrency?: number
  /** Most items that may wait. */
  readonly queueMax: number
}

export interface Batcher<Item, Result> {
  /** @throws {QueueFullError} at once when too many wait; else what `run` threw for its batch. */
  add(item: Item): Promise<Result>
  /** The same for several, of which the order is kept. All or none are queued. */
  addAll(items: readonly Item[]): Promise<readonly Result[]>
  /** Resolves when nothing waits and nothing runs. */
  drain(): Promise<void>
  /** Items that wait for a batch. */
  readonly waiting: number
}

interface Entry<Item, Result> {
  readonly item: Item
  readonly resolve: (result: Result) => void
  readonly reject: (error: unknown) => void
}

/**
 * Lets calls that arrive together be done together: what comes while a batch runs makes up the next one. No timer, so a
 * lone call is not delayed.
 */
export function createBatcher<Item, Result>(options: BatcherOptions<Item, Result>): Batcher<Item, Result> {
  const { run, batchSize, concurrency = 1, queueMax } = options
  let queue: Entry<Item, Result>[] = []
  let running = 0
  let scheduled = false
  const drainers: (() => void)[] = []

  /** One turn later, so that calls of the same turn share a batch. */
  function schedule(): void {
    if (scheduled || running >= concurrency || queue.length === 0) return
    scheduled = true
    setImmediate(() => {
      scheduled = false
      while (running < concurrency && queue.length > 0) void runBatch()
    })
  }

  async function runBatch(): Promise<void> {
    const batch = queue.slice(0, batchSize)
    queue = queue.slice(batchSize)
    running += 1
    try {
      const results = await run(batch.map(({ item }) => item))
      if (results.length !== batch.length) {
        throw new Error(`a batch of ${batch.length} was answered with ${results.length} results`)
      }
      for (const [index, { resolve }] of batch.entries()) resolve(results[index] as Result)
    } catch (error) {
      for (const { reject } of batch) reject(error)
    }
    running -= 1
    schedule()
    if (running === 0 && queue.length === 0) {
      for (const resolve of drainers.splice(0)) resolve()
    }
  }

  function push(item: Item): Promise<Result> {
    const { promise, resolve, reject } = Promise.withResolvers<Result>()
    queue.push({ item, resolve, reject })
    return promise
  }

  function roomFor(count: number): void {
    if (queue.length > 0 && queue.length + count > queueMax) {
      throw new QueueFullError(`${queue.length} items wait already, of ${queueMax} that may`)
    }
  }

  return {
    get waiting() {
      return queue.length
    },
    async add(item) {
      roomFor(1)
      const result = push(item)
      schedule()
      return result
    },
    async addAll(items) {
      roomFor(items.length)
      const results = items.map(push)
      schedule()
      return Promise.all(results)
    },
    async drain() {
      if (running === 0 && queue.length === 0) return
      const { promise, resolve } = Promise.withResolvers<void>()
      drainers.push(resolve)
      await promise
    },
  }
}
