import { expect, test, vi } from 'vitest'
import { createBatcher, DEFERRED, QueueFullError } from './batcher.ts'

/** A batcher whose batches end when the test opens their gates. */
function gated({ batchSize = 100, concurrency = 1, queueMax = 1_000 } = {}) {
  const batches: number[][] = []
  const gates: { open(): void; fail(error: Error): void }[] = []
  const started: (() => void)[] = []
  const batcher = createBatcher<number, string>({
    batchSize,
    concurrency,
    queueMax,
    run(items) {
      batches.push([...items])
      const { promise, resolve, reject } = Promise.withResolvers<readonly string[]>()
      gates.push({ open: () => resolve(items.map((item) => `r${item}`)), fail: reject })
      for (const resolveStarted of started.splice(0)) resolveStarted()
      return promise
    },
  })
  const untilBatches = async (count: number): Promise<void> => {
    while (batches.length < count) {
      const { promise, resolve } = Promise.withResolvers<void>()
      started.push(resolve)
      await promise
    }
  }
  return { batcher, batches, untilBatches, gate: (index: number) => gates[index] ?? expect.unreachable() }
}

test('calls of one event loop tick share a batch, and calls during that batch form the next, in order', async () => {
  const { batcher, batches, untilBatches, gate } = gated()
  const first = [batcher.add(1), batcher.add(2)]
  await untilBatches(1)
  const second = [batcher.add(3), batcher.addAll([4, 5]), batcher.add(6)]
  expect(batcher.waiting).toBe(4)
  gate(0).open()
  expect(await Promise.all(first)).toEqual(['r1', 'r2'])
  await untilBatches(2)
  gate(1).open()
  expect(await Promise.all(second)).toEqual(['r3', ['r4', 'r5'], 'r6'])
  expect(batches).toEqual([
    [1, 2],
    [3, 4, 5, 6],
  ])
})

test('the size of a batch and the number of concurrent batches have limits', async () => {
  const { batcher, batches, untilBatches, gate } = gated({ batchSize: 2, concurrency: 2 })
  const all = batcher.addAll([1, 2, 3, 4, 5])
  await untilBatches(2)
  expect(batches).toEqual([
    [1, 2],
    [3, 4],
  ])
  expect(batcher.waiting).toBe(1)
  gate(1).open()
  await untilBatches(3)
  gate(2).open()
  gate(0).open()
  expect(await all).toEqual(['r1', 'r2', 'r3', 'r4', 'r5'])
})

test('a failed batch rejects its own items and no others', async () => {
  const { batcher, untilBatches, gate } = gated({ batchSize: 2 })
  const outcomes = Promise.allSettled([batcher.addAll([1, 2]), batcher.add(3)])
  await untilBatches(1)
  gate(0).fail(new Error('log unavailable'))
  await untilBatches(2)
  gate(1).open()
  expect(await outcomes).toMatchObject([
    { status: 'rejected', reason: { message: 'log unavailable' } },
    { status: 'fulfilled', value: 'r3' },
  ])
})

test('a batch with too few results fails, and no result goes to a wrong item', async () => {
  const batcher = createBatcher<number, number>({ batchSize: 10, queueMax: 10, run: async () => [1] })
  await expect(batcher.addAll([1, 2])).rejects.toThrow('a batch of 2 items returned 1 results')
})

test('a call beyond the queue limit is refused at once as a whole, and accepted when there is room', async () => {
  const { batcher, untilBatches, gate } = gated({ queueMax: 3 })
  const first = batcher.add(0)
  await untilBatches(1)
  const waits = batcher.addAll([1, 2])
  await expect(batcher.addAll([3, 4])).rejects.toThrow(QueueFullError)
  expect(batcher.waiting).toBe(2)
  gate(0).open()
  await first
  await untilBatches(2)
  const again = batcher.addAll([3, 4])
  gate(1).open()
  expect(await waits).toEqual(['r1', 'r2'])
  await untilBatches(3)
  gate(2).open()
  expect(await again).toEqual(['r3', 'r4'])
})

test('drain waits for running and for waiting items', async () => {
  const { batcher, untilBatches, gate } = gated({ batchSize: 1 })
  await batcher.drain()
  const added = batcher.addAll([1, 2])
  let drained = false
  const drain = batcher.drain().then(() => {
    drained = true
  })
  await untilBatches(1)
  gate(0).open()
  await untilBatches(2)
  expect(drained).toBe(false)
  gate(1).open()
  await drain
  expect(await added).toEqual(['r1', 'r2'])
})

test('an empty call starts no batch', async () => {
  const { batcher, batches } = gated()
  expect(await batcher.addAll([])).toEqual([])
  expect(batches).toEqual([])
})

test('callers take turns to lead batches, and an item that a batch has no room for leads the next', async () => {
  const batches: string[] = []
  let end = Promise.withResolvers<void>()
  // Each batch completes only its first item.
  const batcher = createBatcher<string, string>({
    batchSize: 3,
    queueMax: 100,
    queueMaxOfCaller: 5,
    callerOf: ([caller = '']) => caller,
    async run(items) {
      batches.push(items.join(' '))
      await end.promise
      return items.map((item, at) => (at === 0 ? item : DEFERRED))
    },
  })
  const done: string[] = []
  const add = (item: string) => batcher.add(item).then((result) => done.push(result))
  const all = ['b1', 'b2', 'b3', 'b4'].map(add)
  await vi.waitFor(() => expect(batches).toHaveLength(1))
  all.push(...['b5', 'b6', 'b7', 'a1', 'c1', 'a2'].map(add))
  end.resolve()
  await Promise.all(all)
  expect(done).toEqual(['b1', 'a1', 'c1', 'b2', 'a2', 'b3', 'b4', 'b5', 'b6', 'b7'])
  expect(batches.slice(0, 3)).toEqual(['b1 b2 b3', 'a1 c1 b2', 'c1 b2 a2'])

  end = Promise.withResolvers()
  const more = ['b1', 'b2', 'b3', 'b4', 'b5'].map(add)
  await expect(batcher.add('b6')).rejects.toMatchObject({ code: 'ERR_QUEUE_FULL', perCaller: true })
  more.push(add('a1'))
  end.resolve()
  await Promise.all(more)
})
