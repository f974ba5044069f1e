import type { SettledFollower } from '@curfew/ledger'
import { type Log, type Service, sleep } from '@curfew/runtime'
import { type Awaited, WaitingList } from './waiting-list.ts'

/** The requests that wait until an event is settled. */
export interface Waiters {
  /** Waits until the event is settled, for at most `ms`. For an id at any issuer, one settled event is enough. */
  wait(awaited: Awaited, ms: number): Wait
  /** The number of current waits. */
  readonly count: number
  readonly service: Service
}

/** One wait of a request. */
export interface Wait {
  /** Resolves when the event is settled, the time is up, or `end` is called. */
  readonly over: Promise<void>
  /** Ends the wait, for example because the connection was closed. Idempotent. */
  end(): void
}

export interface WaitersDeps {
  /** Returns the events that are settled. */
  settledEvents(ids: readonly Awaited[]): Promise<ReadonlySet<string>>
  /** Reports announcements of settled events, from any process, until `stopping` aborts. Never rejects. */
  follow(follower: SettledFollower, stopping: AbortSignal): Promise<void>
  readonly log: Log
  /** The interval at which the ledger is asked for all awaited events, even if nothing was announced, in milliseconds. */
  readonly pollMs: number
}

/** The pause after a failed question, in milliseconds. */
const FAILURE_PAUSE_MS = 500

/**
 * Wakes the waiters of an event after the ledger announces a settlement of that event. One question to the ledger covers all
 * awaited events with an announcement. Without waiters there are no questions.
 *
 * No waiter is missed:
 * - A worker announces a settlement after its commit.
 * - A waiter enters the list before its event is asked for. So the answer includes everything that was committed before the
 *   question.
 * - A later commit is announced while the waiter is in the list. So the event is asked for again, even during the first question.
 * - Announcements are lost without a connection. So all awaited events are asked for after each connect.
 * - Some settlements are never announced: a worker was killed between commit and announcement, or a newer delivery superseded the
 *   delivery. So all awaited events are asked for every `pollMs`.
 */
export function createWaiters({ settledEvents, follow, log, pollMs }: WaitersDeps): Waiters {
  const list = new WaitingList()
  let stopped = false

  const follower: SettledFollower = {
    onSettled: (keys) => list.name(keys),
    onConnected: () => list.askFor(),
    onError: (error) => log.warn({ event: 'ledger.follow-failed', err: error }),
  }

  async function answerUntil(stopping: AbortSignal): Promise<void> {
    stopping.addEventListener('abort', () => list.wake(), { once: true })
    while (!stopping.aborted) {
      const asked = list.takeAsked()
      if (asked.length === 0) {
        await list.untilWoken()
        continue
      }
      try {
        for (const id of await settledEvents(asked)) list.release(id as Awaited)
      } catch (error) {
        log.warn({ event: 'ledger.wait-failed', err: error })
        await sleep(FAILURE_PAUSE_MS, stopping)
        list.askFor(asked)
      }
    }
  }

  async function pollUntil(stopping: AbortSignal): Promise<void> {
    while (!stopping.aborted) {
      await sleep(pollMs, stopping)
      list.askFor()
    }
  }

  return {
    get count() {
      return list.count
    },
    wait(id, ms) {
      const { promise: over, resolve } = Promise.withResolvers<void>()
      // Release, timeout and end may happen in any order.
      const end = () => {
        clearTimeout(timer)
        list.leave(id, end)
        resolve()
      }
      const timer = setTimeout(end, ms)
      list.enter(id, end)
      if (stopped) end()
      return { over, end }
    },
    service: {
      name: 'waiters',
      async run({ stopping, ready }) {
        ready()
        const following = follow(follower, stopping)
        await Promise.all([answerUntil(stopping), pollUntil(stopping)])
        // The remaining waiters answer with the current state, so that the server can close.
        stopped = true
        list.releaseAll()
        await following
      },
    },
  }
}
