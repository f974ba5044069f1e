// Virtual time passes only when there is no other work, so waiting an hour takes as long as waiting a millisecond.

interface Timer {
  readonly atMs: number
  readonly order: number
  readonly run: () => void
  cancelled: boolean
}

/** The clock of a run. Its timers drive the whole run. */
export interface VirtualTime {
  /** Milliseconds since the start of the run. */
  nowMs(): number
  /** The date of the current virtual time. */
  now(): Date
  sleep(ms: number): Promise<void>
  /** Runs `work` at a time of the run. A past time means now. */
  at(ms: number, work: () => void): void
  /** Advances time until `until` holds, or for `forMs`. @returns whether `until` held. */
  run(until: () => boolean, forMs: number): Promise<boolean>
}

/** The date at which every run begins. */
export const EPOCH_MS = Date.UTC(2026, 0, 1)

const real = {
  Date: globalThis.Date,
  setTimeout: globalThis.setTimeout,
  clearTimeout: globalThis.clearTimeout,
  setImmediate: globalThis.setImmediate,
  clearImmediate: globalThis.clearImmediate,
  performanceNow: performance.now,
  random: Math.random,
}

/** One turn of the real event loop. All promises that can continue have done so afterwards. */
const turn = () => new Promise<void>((resolve) => real.setImmediate(resolve))

/**
 * Replaces the process's time and randomness while `work` runs: setTimeout, setImmediate, Date, performance.now and Math.random.
 * No other work may run in the process meanwhile.
 */
export async function inVirtualTime<Result>(
  random: () => number,
  work: (time: VirtualTime) => Promise<Result>,
): Promise<Result> {
  const queue = createQueue()
  let immediates: Timer[] = []
  let nowMs = 0
  let order = 0

  const schedule = (run: () => void, delayMs: number): Timer => {
    const ms = Number.isFinite(delayMs) && delayMs >= 1 ? Math.floor(delayMs) : 1
    const timer = { atMs: nowMs + ms, order: order++, run, cancelled: false }
    queue.push(timer)
    return timer
  }
  const cancel = (timer: unknown) => {
    if (typeof timer === 'object' && timer !== null && 'cancelled' in timer) timer.cancelled = true
  }

  /** Runs the immediates. If there are none, advances the clock to the next timer and runs it. @returns whether anything ran. */
  function step(untilMs: number): boolean {
    if (immediates.length > 0) {
      const batch = immediates
      immediates = []
      for (const { run, cancelled } of batch) if (!cancelled) run()
      return true
    }
    const next = queue.peek()
    if (next === null || next.atMs > untilMs) return false
    queue.pop()
    nowMs = Math.max(nowMs, next.atMs)
    next.run()
    return true
  }

  const time: VirtualTime = {
    nowMs: () => nowMs,
    now: () => new real.Date(EPOCH_MS + nowMs),
    sleep: (ms) => new Promise((resolve) => void schedule(resolve, ms)),
    at: (ms, run) => void schedule(run, ms - nowMs),
    async run(until, forMs) {
      const endMs = nowMs + forMs
      await turn()
      while (!until()) {
        if (!step(endMs)) {
          nowMs = endMs
          return false
        }
        await turn()
      }
      return true
    },
  }

  class VirtualDate extends real.Date {
    constructor(...given: readonly unknown[]) {
      if (given.length === 0) super(EPOCH_MS + nowMs)
      else super(...(given as [number]))
    }
    static override now(): number {
      return EPOCH_MS + nowMs
    }
  }
  const replaced = {
    Date: VirtualDate,
    setTimeout: (run: (...args: unknown[]) => void, ms = 0, ...args: unknown[]) =>
      schedule(() => run(...args), ms),
    clearTimeout: cancel,
    setImmediate(run: (...args: unknown[]) => void, ...args: unknown[]) {
      const timer = { atMs: nowMs, order: order++, run: () => run(...args), cancelled: false }
      immediates.push(timer)
      return timer
    },
    clearImmediate: cancel,
  }
  const { performanceNow, random: realRandom, ...globals } = real
  Object.assign(globalThis, replaced)
  Object.assign(performance, { now: () => nowMs })
  Math.random = random
  try {
    return await work(time)
  } finally {
    Object.assign(globalThis, globals)
    Object.assign(performance, { now: performanceNow })
    Math.random = realRandom
  }
}

/**
 * Creates a queue of timers, ordered by due time and then by creation. It is a heap because there are many timers and most are
 * cancelled.
 */
function createQueue() {
  const heap: Timer[] = []
  const before = (a: Timer | undefined, b: Timer | undefined) =>
    a !== undefined && (b === undefined || a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order))
  const swap = (i: number, j: number) => {
    const [a, b] = [heap[i], heap[j]]
    if (a === undefined || b === undefined) return
    heap[i] = b
    heap[j] = a
  }

  function pop(): Timer | null {
    const [first] = heap
    const last = heap.pop()
    if (first === undefined || last === undefined) return null
    if (heap.length === 0) return first
    heap[0] = last
    for (let at = 0; ; ) {
      const left = at * 2 + 1
      const child = before(heap[left + 1], heap[left]) ? left + 1 : left
      if (!before(heap[child], heap[at])) return first
      swap(child, at)
      at = child
    }
  }

  return {
    push(timer: Timer): void {
      let at = heap.push(timer) - 1
      while (at > 0) {
        const parent = (at - 1) >> 1
        if (!before(heap[at], heap[parent])) return
        swap(at, parent)
        at = parent
      }
    },
    peek(): Timer | null {
      while (heap[0]?.cancelled === true) pop()
      return heap[0] ?? null
    },
    pop,
  }
}
