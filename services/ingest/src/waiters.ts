import {
  type EventId,
  type EventKey,
  eventKeyOf,
  type GivenEventId,
  type GivenIdKey,
  givenIdKeyOf,
} from '@curfew/domain'
import type { SettledFollower } from '@curfew/ledger'
import { type Log, type Service, sleep } from '@curfew/runtime'

const AT_ANY_ISSUER = 'any '
/** A given id for which the caller named no issuer: an event of any issuer that used it. */
export type AtAnyIssuer = `${typeof AT_ANY_ISSUER}${string}`
/** An event to wait for. */
export type Awaited = EventId | AtAnyIssuer

export const atAnyIssuer = (givenId: GivenEventId): AtAnyIssuer => `${AT_ANY_ISSUER}${givenId}`

/** The given id, if the event is awaited at any issuer; else null. */
export function givenIdOf(awaited: Awaited): GivenEventId | null {
  return awaited.startsWith(AT_ANY_ISSUER) ? (awaited.slice(AT_ANY_ISSUER.length) as GivenEventId) : null
}

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

/** Most events in one question. */
const ASKED_MAX = 1_000
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
  const waiting = new Map<Awaited, Set<() => void>>()
  const byKey = new Map<EventKey | GivenIdKey, Set<Awaited>>()
  /** To be asked for: what may be settled by now, and, after these, what is looked at to be sure. */
  const named = new Set<Awaited>()
  const unnamed = new Set<Awaited>()
  let woken = Promise.withResolvers<void>()
  let stopped = false

  function enter(id: Awaited, end: () => void): void {
    const ofEvent = waiting.get(id) ?? new Set()
    waiting.set(id, ofEvent.add(end))
    const key = keyOf(id)
    byKey.set(key, (byKey.get(key) ?? new Set()).add(id))
    named.add(id)
    woken.resolve()
  }

  function leave(id: Awaited, end: () => void): void {
    const ofEvent = waiting.get(id)
    ofEvent?.delete(end)
    if (ofEvent?.size === 0) forget(id)
  }

  function forget(id: Awaited): void {
    waiting.delete(id)
    named.delete(id)
    unnamed.delete(id)
    const key = keyOf(id)
    const ofKey = byKey.get(key)
    ofKey?.delete(id)
    if (ofKey?.size === 0) byKey.delete(key)
  }

  function release(id: Awaited): void {
    const ofEvent = waiting.get(id)
    forget(id)
    for (const end of ofEvent ?? []) end()
  }

  function askForAll(): void {
    for (const id of waiting.keys()) unnamed.add(id)
    woken.resolve()
  }

  const follower: SettledFollower = {
    onSettled(keys) {
      for (const key of keys) {
        for (const id of byKey.get(key) ?? []) named.add(id)
        for (const id of byKey.get(givenIdKeyOf(key)) ?? []) named.add(id)
      }
      if (named.size > 0) woken.resolve()
    },
    onConnected: askForAll,
    onError: (error) => log.warn({ event: 'ledger.follow-failed', err: error }),
  }

  /** What to ask for next. It is asked for again only where it is named again from here on. */
  function takeAsked(): readonly Awaited[] {
    const asked = new Set([...named, ...unnamed].slice(0, ASKED_MAX))
    for (const id of asked) {
      named.delete(id)
      unnamed.delete(id)
    }
    return [...asked]
  }

  async function answerUntil(stopping: AbortSignal): Promise<void> {
    stopping.addEventListener('abort', () => woken.resolve(), { once: true })
    while (!stopping.aborted) {
      const asked = takeAsked()
      if (asked.length === 0) {
        await woken.promise
        woken = Promise.withResolvers()
        continue
      }
      try {
        for (const id of await settledEvents(asked)) release(id as Awaited)
      } catch (error) {
        log.warn({ event: 'ledger.wait-failed', err: error })
        await sleep(AWAY_PAUSE_MS, stopping)
        for (const id of asked) if (waiting.has(id)) unnamed.add(id)
      }
    }
  }

  async function pollUntil(stopping: AbortSignal): Promise<void> {
    while (!stopping.aborted) {
      await sleep(pollMs, stopping)
      if (waiting.size > 0) askForAll()
    }
  }

  return {
    get count() {
      return [...waiting.values()].reduce((sum, { size }) => sum + size, 0)
    },
    wait(id, ms) {
      const { promise: over, resolve } = Promise.withResolvers<void>()
      // It may be released, too late and ended, in any order.
      const end = () => {
        clearTimeout(timer)
        leave(id, end)
        resolve()
      }
      const timer = setTimeout(end, ms)
      enter(id, end)
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
        for (const id of [...waiting.keys()]) release(id)
        await following
      },
    },
  }
}

/** The key by which the announcement of a settled event finds its waiters. */
function keyOf(awaited: Awaited): EventKey | GivenIdKey {
  const givenId = givenIdOf(awaited)
  return givenId === null ? eventKeyOf(awaited as EventId) : givenIdKeyOf(givenId)
}
