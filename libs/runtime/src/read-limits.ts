import { ProblemError } from './problem.ts'

/** Keeps reads from taking all of a process: so many at once, by caller and together. The others wait in memory, a while. */
export interface ReadLimits {
  /**
   * Does the work of one read when there is room for it.
   *
   * @param caller whose limit it counts against: a credential, or an address.
   * @param read gets a function that frees its place among all callers, and keeps the one of its own caller.
   * @throws {ProblemError} 429 where the caller has too many reads, 503 where all callers together do.
   */
  run<Result>(caller: string, read: (freeShared: () => void) => Promise<Result>): Promise<Result>
}

export interface ReadLimitsOptions {
  /** Most reads of one caller that run at once. Default 4. */
  readonly ofCaller?: number
  /** Most reads of one caller that wait. A page of the console asks for a dozen things together. Default 16. */
  readonly waitingOfCaller?: number
  /**
   * Most reads that run at once. Far fewer than the pool that they read from has connections, for they share processors with
   * logouts. Default 6.
   */
  readonly atOnce?: number
  /** Most reads that wait. Default 1,000. */
  readonly waiting?: number
  /** Longest wait, in milliseconds. Default 5,000. */
  readonly waitMs?: number
  /** How long a place among all rests after a read that took so long. Default: nine times as long after a slow one, at most a second. */
  readonly restMs?: (tookMs: number) => number
}

interface Caller {
  running: number
  readonly waiting: Set<() => void>
}

const RETRY_AFTER_S = 2
/** A read that takes no longer is none that anybody waits behind. */
const QUICK_MS = 10
/** So that slow reads at their limit take less than one processor, and logouts have the others. */
const REST_TIMES = 9
const REST_MS_MAX = 1_000

const restAfter = (tookMs: number) => Math.min(REST_MS_MAX, Math.max(0, tookMs - QUICK_MS) * REST_TIMES)

export function createReadLimits(options: ReadLimitsOptions = {}): ReadLimits {
  const { ofCaller = 4, waitingOfCaller = 16, atOnce = 6, waiting: waitingMax = 1_000 } = options
  const { waitMs = 5_000, restMs = restAfter } = options
  const callers = new Map<string, Caller>()
  let running = 0
  let waiting = 0

  /** The caller whose turn it is: of those that wait and may, the one that runs the fewest. */
  function nextCaller(): readonly [string, Caller] | null {
    let next: readonly [string, Caller] | null = null
    for (const entry of callers) {
      const [, caller] = entry
      if (caller.waiting.size === 0 || caller.running >= ofCaller) continue
      if (next === null || caller.running < next[1].running) next = entry
    }
    return next
  }

  /** Lets reads run as long as there is room. */
  function admit(): void {
    while (running < atOnce) {
      const next = nextCaller()
      if (next === null) return
      const [name, caller] = next
      // Put back at the end: of equals, another is the next.
      callers.delete(name)
      callers.set(name, caller)
      for (const enter of caller.waiting) {
        enter()
        break
      }
    }
  }

  /** Waits for a place. @throws {ProblemError} when none is free in time. */
  async function wait(caller: Caller): Promise<void> {
    if (caller.waiting.size >= waitingOfCaller)
      throw tooMany(429, 'This credential or address reads too much')
    if (waiting >= waitingMax) throw tooMany(503, 'Too much is read')
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const enter = () => {
      leave()
      caller.running++
      running++
      resolve()
    }
    const timer = setTimeout(() => {
      leave()
      reject(tooMany(503, 'Too much is read'))
    }, waitMs)
    const leave = () => {
      clearTimeout(timer)
      waiting--
      caller.waiting.delete(enter)
    }
    caller.waiting.add(enter)
    waiting++
    admit()
    await promise
  }

  return {
    async run(name, read) {
      const caller = callers.get(name) ?? { running: 0, waiting: new Set() }
      callers.set(name, caller)
      let holdsShared = false
      let startedMs = 0
      const freeShared = () => {
        if (!holdsShared) return
        holdsShared = false
        const free = () => {
          running--
          admit()
        }
        const rest = restMs(performance.now() - startedMs)
        // Slow reads one after the other would leave logouts no processor.
        if (rest > 0) setTimeout(free, rest)
        else free()
      }
      try {
        await wait(caller)
        holdsShared = true
        startedMs = performance.now()
        try {
          return await read(freeShared)
        } finally {
          caller.running--
          freeShared()
          admit()
        }
      } finally {
        if (caller.running === 0 && caller.waiting.size === 0) callers.delete(name)
      }
    },
  }
}

function tooMany(status: 429 | 503, what: string): ProblemError {
  return new ProblemError({
    status,
    title: 'Too many reads at once',
    detail: `${what} at once. Ask again in a moment, with fewer requests at a time.`,
    headers: { 'retry-after': String(RETRY_AFTER_S) },
  })
}
