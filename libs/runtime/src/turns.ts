import type { ProblemError } from './problem.ts'

/** Limits concurrent work of one kind in this process, fairly among callers. More work waits in memory, for a while. */
export interface Turns {
  /**
   * Takes a place for the caller, or waits for one.
   *
   * @throws {ProblemError} the `refusal`, when the caller, or all callers together, have too much work.
   */
  enter(caller: string): Promise<Turn>
  /** Does work of one caller within one place. `work` receives a function that frees the shared place early. */
  run<Result>(caller: string, work: (freeShared: () => void) => Promise<Result>): Promise<Result>
}

export interface Turn {
  /** Frees the place among all callers and keeps the place with its own caller. Idempotent. */
  freeShared(): void
  /** Frees both places. Idempotent. */
  end(): void
}

export interface TurnsOptions {
  /** Most work of one caller that runs at once. */
  readonly perCaller: number
  /** Most work of one caller that waits. */
  readonly waitingPerCaller: number
  /** Most work that runs at once. */
  readonly atOnce: number
  /** Most work that waits. Default 1,000. */
  readonly waiting?: number
  /** Longest wait, in milliseconds. Default 5,000. */
  readonly waitMs?: number
  /** How long a shared place stays empty after work of this duration. Default: not at all. */
  readonly restMs?: (tookMs: number) => number
  /** The problem that refused work gets. `why` says whose limit was reached: the caller's, or that of all callers. */
  refusal(why: 'caller' | 'all'): ProblemError
}

interface Caller {
  running: number
  readonly waiting: Set<() => void>
}

export function createTurns(options: TurnsOptions): Turns {
  const { perCaller, waitingPerCaller, atOnce, waiting: waitingMax = 1_000, refusal } = options
  const { waitMs = 5_000, restMs = () => 0 } = options
  const callers = new Map<string, Caller>()
  let running = 0
  let waiting = 0

  /** The next caller: among the waiting callers below their limit, the one with the least running work. */
  function nextCaller(): readonly [string, Caller] | null {
    let next: readonly [string, Caller] | null = null
    for (const entry of callers) {
      const [, caller] = entry
      if (caller.waiting.size === 0 || caller.running >= perCaller) continue
      if (next === null || caller.running < next[1].running) next = entry
    }
    return next
  }

  /** Starts waiting work while there is room. */
  function admit(): void {
    while (running < atOnce) {
      const next = nextCaller()
      if (next === null) return
      const [name, caller] = next
      // Moved to the end, so that among equals the next caller is another one.
      callers.delete(name)
      callers.set(name, caller)
      for (const enter of caller.waiting) {
        enter()
        break
      }
    }
  }

  /** Waits for a place. @throws {ProblemError} when no place is free in time. */
  async function wait(caller: Caller): Promise<void> {
    const mayRun = caller.running < perCaller && running < atOnce
    if (caller.waiting.size >= waitingPerCaller && !mayRun)
      throw refusal(waitingPerCaller === 0 && caller.running < perCaller ? 'all' : 'caller')
    if (waiting >= waitingMax) throw refusal('all')
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const enter = () => {
      leave()
      caller.running++
      running++
      resolve()
    }
    const timer = setTimeout(() => {
      leave()
      reject(refusal('all'))
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

  async function enter(name: string): Promise<Turn> {
    const caller = callers.get(name) ?? { running: 0, waiting: new Set() }
    callers.set(name, caller)
    const forget = () => {
      if (caller.running === 0 && caller.waiting.size === 0) callers.delete(name)
    }
    try {
      await wait(caller)
    } catch (error) {
      forget()
      throw error
    }
    const startedMs = performance.now()
    const freeShared = once(() => {
      const free = () => {
        running--
        admit()
      }
      const rest = restMs(performance.now() - startedMs)
      // Slow work without pauses would leave no processor to logouts.
      if (rest > 0) setTimeout(free, rest)
      else free()
    })
    const end = once(() => {
      caller.running--
      freeShared()
      admit()
      forget()
    })
    return { freeShared, end }
  }

  return {
    enter,
    async run(name, work) {
      const turn = await enter(name)
      try {
        return await work(turn.freeShared)
      } finally {
        turn.end()
      }
    },
  }
}

function once(work: () => void): () => void {
  let done = false
  return () => {
    if (done) return
    done = true
    work()
  }
}
