import {
  type EventId,
  type EventKey,
  eventKeyOf,
  type GivenEventId,
  type GivenIdKey,
  givenIdKeyOf,
} from '@curfew/domain'

const AT_ANY_ISSUER = 'any '
/** A given id without an issuer: an event of any issuer that used the id. */
export type AtAnyIssuer = `${typeof AT_ANY_ISSUER}${string}`
/** An event to wait for. */
export type Awaited = EventId | AtAnyIssuer

export const atAnyIssuer = (givenId: GivenEventId): AtAnyIssuer => `${AT_ANY_ISSUER}${givenId}`

/** The given id if the event is awaited at any issuer, else null. */
export function givenIdOf(awaited: Awaited): GivenEventId | null {
  return awaited.startsWith(AT_ANY_ISSUER) ? (awaited.slice(AT_ANY_ISSUER.length) as GivenEventId) : null
}

/** The greatest number of events in one question to the ledger. */
const ASKED_MAX = 1_000

/** The awaited events, and the queue of events to ask the ledger for. */
export class WaitingList {
  readonly #waiting = new Map<Awaited, Set<() => void>>()
  readonly #byKey = new Map<EventKey | GivenIdKey, Set<Awaited>>()
  /** Events to ask for first: they are new, or a settlement was announced. */
  readonly #named = new Set<Awaited>()
  /** Events to ask for after these, without an announcement. */
  readonly #unnamed = new Set<Awaited>()
  #woken = Promise.withResolvers<void>()

  /** The number of waits. */
  get count(): number {
    return [...this.#waiting.values()].reduce((sum, { size }) => sum + size, 0)
  }

  enter(id: Awaited, end: () => void): void {
    const ofEvent = this.#waiting.get(id) ?? new Set()
    this.#waiting.set(id, ofEvent.add(end))
    const key = keyOf(id)
    this.#byKey.set(key, (this.#byKey.get(key) ?? new Set()).add(id))
    this.#named.add(id)
    this.wake()
  }

  leave(id: Awaited, end: () => void): void {
    const ofEvent = this.#waiting.get(id)
    ofEvent?.delete(end)
    if (ofEvent?.size === 0) this.#forget(id)
  }

  /** Ends all waits for an event. */
  release(id: Awaited): void {
    const ofEvent = this.#waiting.get(id)
    this.#forget(id)
    for (const end of ofEvent ?? []) end()
  }

  releaseAll(): void {
    for (const id of [...this.#waiting.keys()]) this.release(id)
  }

  /** Queues the awaited events with these keys, which were announced as settled. */
  name(keys: Iterable<EventKey>): void {
    for (const key of keys) {
      for (const id of this.#byKey.get(key) ?? []) this.#named.add(id)
      for (const id of this.#byKey.get(givenIdKeyOf(key)) ?? []) this.#named.add(id)
    }
    if (this.#named.size > 0) this.wake()
  }

  /** Queues these events, or all, without an announcement. */
  askFor(ids: Iterable<Awaited> = this.#waiting.keys()): void {
    for (const id of ids) if (this.#waiting.has(id)) this.#unnamed.add(id)
    if (this.#unnamed.size > 0) this.wake()
  }

  /** Takes the next events to ask for from the queue. An event that is announced later is queued again. */
  takeAsked(): readonly Awaited[] {
    const asked = new Set([...this.#named, ...this.#unnamed].slice(0, ASKED_MAX))
    for (const id of asked) {
      this.#named.delete(id)
      this.#unnamed.delete(id)
    }
    return [...asked]
  }

  wake(): void {
    this.#woken.resolve()
  }

  /** Resolves when an event is queued or `wake` is called. */
  async untilWoken(): Promise<void> {
    await this.#woken.promise
    this.#woken = Promise.withResolvers()
  }

  #forget(id: Awaited): void {
    this.#waiting.delete(id)
    this.#named.delete(id)
    this.#unnamed.delete(id)
    const key = keyOf(id)
    const ofKey = this.#byKey.get(key)
    ofKey?.delete(id)
    if (ofKey?.size === 0) this.#byKey.delete(key)
  }
}

/** The key by which the announcement of a settled event finds its waiters. */
function keyOf(awaited: Awaited): EventKey | GivenIdKey {
  const givenId = givenIdOf(awaited)
  return givenId === null ? eventKeyOf(awaited as EventId) : givenIdKeyOf(givenId)
}
