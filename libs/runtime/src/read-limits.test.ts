import { describe, expect, test, vi } from 'vitest'
import { ProblemError } from './problem.ts'
import { createReadLimits } from './read-limits.ts'

/** Reads that run until the test ends them, each with the name of its caller. */
function openReads(options: Parameters<typeof createReadLimits>[0]) {
  const limits = createReadLimits({ restMs: () => 0, ...options })
  const running: { caller: string; end: () => void; freeShared: () => void }[] = []
  const read = (caller: string) =>
    limits
      .run(caller, async (freeShared) => {
        const { promise, resolve } = Promise.withResolvers<void>()
        running.push({ caller, end: resolve, freeShared })
        await promise
        return 'read'
      })
      .catch((error: unknown) => (error instanceof ProblemError ? error.problem.status : error))
  const tick = () => new Promise((resolve) => setImmediate(resolve))
  return {
    read,
    /** The callers whose reads have started so far, in order. */
    async entered() {
      await tick()
      return running.map(({ caller }) => caller).join('')
    },
    async end(index: number) {
      running[index]?.end()
      await tick()
    },
    freeShared: (index: number) => running[index]?.freeShared(),
  }
}

describe('createReadLimits', () => {
  test('limits the running and the waiting reads of one caller, and refuses one more with 429', async () => {
    const reads = openReads({ perCaller: 2, waitingPerCaller: 1, atOnce: 10 })
    const answers = ['a', 'a', 'a', 'a'].map(reads.read)
    expect(await answers[3]).toBe(429)
    expect(await reads.entered()).toBe('aa')
    await reads.end(0)
    expect(await answers[0]).toBe('read')
    expect(await reads.entered()).toBe('aaa')
    void reads.read('b')
    expect(await reads.entered()).toBe('aaab')
  })

  test('gives free places to the callers in turn', async () => {
    const reads = openReads({ perCaller: 2, waitingPerCaller: 8, atOnce: 2 })
    for (const caller of ['a', 'a', 'a', 'a', 'b', 'c']) void reads.read(caller)
    expect(await reads.entered()).toBe('aa')
    for (let n = 0; n < 4; n++) await reads.end(n)
    const entered = await reads.entered()
    expect(entered[2]).toBe('b')
    expect(entered.slice(0, 5)).toContain('c')
    expect(entered).toHaveLength(6)
  })

  test('refuses reads with 503 when they wait too long or too many callers wait', async () => {
    const reads = openReads({ perCaller: 1, waitingPerCaller: 8, atOnce: 1, waiting: 1, waitMs: 20 })
    void reads.read('a')
    const second = reads.read('b')
    expect(await reads.read('c')).toBe(503)
    expect(await second).toBe(503)
    await reads.end(0)
    void reads.read('d')
    expect(await reads.entered()).toBe('ad')
  })

  test('keeps the place of a slow read empty for a while, but answers its caller at once', async () => {
    const reads = openReads({ perCaller: 1, atOnce: 1, restMs: (tookMs) => (tookMs > 0 ? 50 : 0) })
    const first = reads.read('a')
    void reads.read('a')
    expect(await reads.entered()).toBe('a')
    await reads.end(0)
    expect(await first).toBe('read')
    expect(await reads.entered()).toBe('a')
    await vi.waitFor(async () => expect(await reads.entered()).toBe('aa'))
  })

  test('lets a streamed read free its shared place and keep the place of its caller', async () => {
    const reads = openReads({ perCaller: 1, waitingPerCaller: 8, atOnce: 1 })
    void reads.read('a')
    void reads.read('a')
    void reads.read('b')
    expect(await reads.entered()).toBe('a')
    reads.freeShared(0)
    reads.freeShared(0)
    expect(await reads.entered()).toBe('ab')
    await reads.end(1)
    await reads.end(0)
    expect(await reads.entered()).toBe('aba')
  })
})
