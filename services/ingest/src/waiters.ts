import type { SettledFollower } from '@curfew/ledger'
import { type Log, type Service, sleep } from '@curfew/runtime'
import { type Awaited, WaitingList } from './waiting-list.ts'

/** Those who wait for an event to be settled. */
export interface Waiters {
  /** Waits until the event is settled, but no longer than `ms`. At any issuer: until one of the events is. */
  wait(awaited: Awaited, ms: number): Wait
  /** How many wait now. */
  readonly count: number
  readonly service: Service
}

/** Somebody who waits. */
export interface Wait {
  /** Resolves when it is settled, when time is up, or when it was ended. */
  readonly over: Promise<void>
  /** Ends it, for nobody is there any more. Idempotent. */
  end(): void
}

export interface WaitersDeps {
  /** Which of these are settled. */
  settledEvents(ids: readonly Awaited[]): Promise<ReadonlySet<string>>
  /** Tells of what is settled, in whichever process, until `stopping` aborts. Never rejects. */
  follow(follower: SettledFollower, stopping: AbortSignal): Promise<void>
  readonly log: Log
  /** How often everything that is waited for is asked for without having been told of, in milliseconds. */
  readonly pollMs: number
}

/** Pause after a question that was not answered, in milliseconds. */
const AWAY_PAUSE_MS = 500

/**
 * Wakes those who wait when the ledger says that something of their event was settled. It is asked once for all of them
 * together, about those alone that it named; and not at all while nobody waits.
 *
 * Nobody is missed. A worker says what it settled after that is committed. An event is asked for after its waiter was
 * written down, so that whatever was committed before the question is in its answer. What is committed after it is said later
 * still, when the waiter is known by name; so it is asked for again, also where the first question is still under way.
 * What is said while nobody listens is lost, so all are asked for once it is listened (again); and what is said by nobody
 * (a worker was killed between the two, or covered a delivery by a newer one) is found by asking for all every `pollMs`.
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
        await sleep(AWAY_PAUSE_MS, stopping)
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
      // It may be released, too late and ended, in any order.
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
        // Whoever still waits gets the answer as it stands, so that the server can close.
        stopped = true
        list.releaseAll()
        await following
      },
    },
  }
}
