import { type Log, type Service, sleep } from '@curfew/runtime'

/** Those who wait for an event to be settled. */
export interface Waiters {
  /** Resolves when the event is settled, or after `ms`. */
  settled(eventId: string, ms: number): Promise<void>
  readonly service: Service
}

export interface WaitersDeps {
  /** Which of these events are settled: one question for everybody who waits. */
  settledEvents(ids: readonly string[]): Promise<ReadonlySet<string>>
  readonly log: Log
  /** Pause between two questions, in milliseconds. */
  readonly pollMs: number
}

/** Asks the ledger once for all who wait, however many they are; and not at all while nobody does. */
export function createWaiters({ settledEvents, log, pollMs }: WaitersDeps): Waiters {
  const waiting = new Map<string, Set<() => void>>()
  let stopped = false
  let wake: (() => void) | null = null

  function release(id: string): void {
    const ofEvent = waiting.get(id)
    waiting.delete(id)
    for (const resolve of ofEvent ?? []) resolve()
  }

  return {
    async settled(id, ms) {
      if (stopped) return
      const { promise, resolve } = Promise.withResolvers<void>()
      const ofEvent = waiting.get(id) ?? new Set()
      waiting.set(id, ofEvent.add(resolve))
      wake?.()
      const timer = setTimeout(resolve, ms)
      await promise
      clearTimeout(timer)
      ofEvent.delete(resolve)
      if (ofEvent.size === 0 && waiting.get(id) === ofEvent) waiting.delete(id)
    },
    service: {
      name: 'waiters',
      async run({ stopping, ready }) {
        ready()
        while (!stopping.aborted) {
          if (waiting.size === 0) {
            const woken = new AbortController()
            wake = () => woken.abort()
            await sleep(60_000, AbortSignal.any([stopping, woken.signal]))
            continue
          }
          try {
            for (const id of await settledEvents([...waiting.keys()])) release(id)
          } catch (error) {
            log.warn({ event: 'ledger.wait-failed', err: error })
          }
          await sleep(pollMs, stopping)
        }
        // Whoever still waits gets the answer as it stands, so that the server can close.
        stopped = true
        for (const id of [...waiting.keys()]) release(id)
      },
    },
  }
}
