import type { Spool } from '../spool/spool.ts'
import { retryAfterMs, waitMs } from './verdict.ts'

export const closedError = () => new Error('The outbox is closed. Create it again.')

/** Posts the events of one spool in the background. */
export interface Lane {
  readonly spool: Spool
  /** Whether the last try has failed. */
  readonly isFailing: boolean
  /** Posts what waits. After a failure it does so when the wait is over. */
  wake(): void
  /** Ends the wait after a failure, unless the answer had a `Retry-After`. */
  retryNow(): void
  /** Resolves once nothing waits. Rejects if the lane is closed first. */
  idle(): Promise<void>
  close(): Promise<void>
}

export interface LaneDeps {
  readonly spool: Spool
  readonly deliver: (entries: readonly Uint8Array[]) => Promise<void>
  /** Gets each failed try, and the time until the next. */
  readonly onFailure: (error: unknown, nextMs: number) => void
  readonly random: () => number
}

interface Waiter {
  readonly resolve: () => void
  readonly reject: (reason: Error) => void
}

export function startLane({ spool, deliver, onFailure, random }: LaneDeps): Lane {
  let failures = 0
  let isClosed = false
  let wakeUp: (() => void) | null = null
  /** The wait after a failure. Only a wait without `Retry-After` may be cut short. */
  let wait: { readonly end: () => void; readonly isOrdered: boolean } | null = null
  const waiters: Waiter[] = []

  const settleIdle = () => {
    if (spool.size().entries > 0) return
    for (const { resolve } of waiters.splice(0)) resolve()
  }
  async function pause(error: unknown): Promise<void> {
    failures++
    const ms = waitMs(failures, random(), error)
    onFailure(error, ms)
    let timer: NodeJS.Timeout | undefined
    await new Promise<void>((end) => {
      timer = setTimeout(end, ms)
      wait = { end, isOrdered: retryAfterMs(error) > 0 }
    })
    clearTimeout(timer)
    wait = null
  }

  async function run(): Promise<void> {
    while (!isClosed) {
      const woken = new Promise<void>((resolve) => {
        wakeUp = resolve
      })
      if (spool.size().entries === 0) await woken
      if (isClosed) return
      try {
        await spool.drain(async (entries) => {
          await deliver(entries)
          failures = 0
        })
        settleIdle()
      } catch (error) {
        if (!isClosed) await pause(error)
      }
    }
  }
  const running = run()

  return {
    spool,
    get isFailing() {
      return failures > 0
    },
    wake: () => wakeUp?.(),
    retryNow() {
      if (wait?.isOrdered === false) wait.end()
    },
    idle: () =>
      new Promise((resolve, reject) => {
        waiters.push({ resolve, reject })
        settleIdle()
      }),
    async close() {
      isClosed = true
      wait?.end()
      wakeUp?.()
      await spool.close()
      await running
      for (const { reject } of waiters.splice(0)) reject(closedError())
    },
  }
}
