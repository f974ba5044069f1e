import type { ProblemError } from './problem.ts'

/** Lets little work of one kind run at once in this process, fairly by caller. The rest waits in memory, a while. */
export interface Turns {
  /**
   * Takes a place for the caller, or waits for one.
   *
   * @throws {ProblemError} what `refusal` says where the caller, or all callers together, have too many.
   */
  enter(caller: string): Promise<Turn>
  /** Does the work of one caller in a turn. `work` gets a function that frees its place among all callers early. */
  run<Result>(caller: string, work: (freeShared: () => void) => Promise<Result>): Promise<Result>
}

export interface Turn {
  /** Frees the place among all callers, and keeps the one of its own caller. Idempotent. */
  freeShared(): void
  /** Frees both. Idempotent. */
  end(): void
}

export interface TurnsOptions {
  /** Most work of one caller that runs at once. */
  readonly ofCaller: number
  /** Most work of one caller that waits. */
  readonly waitingOfCaller: number
  /** Most work that runs at once. */
  readonly atOnce: number
  /** Most work that waits. Default 1,000. */
  readonly waiting?: number
  /** Longest wait, in milliseconds. Default 5,000. */
  readonly waitMs?: number
  /** How long a place among all rests after work that took so long. Default: not at all. */
  readonly restMs?: (tookMs: number) => number
  /** What refused work is answered: where its caller has too much, or all callers together have. */
  refusal(why: 'caller' | 'all'): ProblemError
}

interface Caller {
  running: number
  readonly waiting: Set<() => void>
}

export function createTurns(options: TurnsOptions): Turns {
  const { ofCaller, waitingOfCaller, atOnce, waiting: waitingMax = 1_000, refusal } = options
  const { waitMs = 5_000, restMs = () => 0 } = options
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

  /** Lets work run as long as there is room. */
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
    const mayRun = caller.running < ofCaller && running < atOnce
    if (caller.waiting.size >= waitingOfCaller && !mayRun)
      throw refusal(waitingOfCaller === 0 && caller.running < ofCaller ? 'all' : 'caller')
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
      // Slow work, one after the other, would leave logouts no processor.
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
