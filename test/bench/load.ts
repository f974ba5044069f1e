import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { LogoutEventInput } from '@curfew/contract'
import { quantile } from './figures.ts'
import type { Subject } from './processes.ts'
import type { RelyingParties } from './relying-parties.ts'

// The load of an IdP on Curfew, and the latency at its relying parties.

export const ISS = 'https://idp.example'
/** Deliveries kept under way: enough to keep Curfew busy, too few to pile up. */
const UNDER_WAY = 3_000
const POST_EVENTS = 100
/** A delivery is missing if none arrived for this time, in milliseconds. */
const MISSING_AFTER_MS = 30_000

/** Events of one kind. */
export interface Stream {
  readonly event?: Pick<LogoutEventInput, 'clients' | 'lane'> & Partial<Pick<LogoutEventInput, 'iss'>>
  /** The number of relying parties that an event owes a delivery. */
  readonly owedTo: number
}

export interface Latency {
  readonly p50: number
  readonly p99: number
  /** Deliveries that never arrived. The latency of each is infinite. */
  readonly untold: number
}

/** All load on one Curfew. Deliveries under way are computed as posted minus answered, so no load may come from elsewhere. */
export interface Load {
  /** Deliveries owed by the events accepted so far. */
  readonly owed: number
  /** Keeps `UNDER_WAY` deliveries under way until `ended` aborts. Resolves when all are answered. */
  keepFull(stream: Stream, ended: AbortSignal): Promise<void>
  /**
   * Posts evenly over time until `ended` aborts.
   *
   * @param perPost events in one post. Default: 1.
   * @returns when the IdP saw the acceptance of every event, in nanoseconds, by event id.
   */
  steady(
    stream: Stream,
    options: { readonly eventsPerSecond: number; readonly perPost?: number; readonly ended: AbortSignal },
  ): Promise<ReadonlyMap<string, bigint>>
  /**
   * Measures the time from the 202 at the IdP to the first byte at the RPs, with single posts evenly over time.
   *
   * @param of the relying parties to measure: their group, and how many of them an event owes a delivery. Default: all.
   */
  latency(
    stream: Stream,
    options: {
      readonly eventsPerSecond: number
      readonly seconds: number
      readonly of?: { readonly group: string; readonly owedTo: number }
    },
  ): Promise<Latency>
  /** Posts `events` events in one array. */
  burst(stream: Stream, events: number): Promise<void>
  /**
   * Posts one event. @returns the time from its 202 to the first byte at the last RP, in milliseconds; infinite if an RP gets
   * none.
   */
  untilAllReached(stream: Stream): Promise<number>
  /** Waits until the ledger has acknowledged all deliveries. @returns false if it has not within `withinMs`. */
  settled(withinMs: number): Promise<boolean>
}

/** Creates the load. @param relyingParties the relying parties that keep stamps and count answers. */
export function createLoad(subject: Subject, relyingParties: RelyingParties): Load {
  let owed = 0

  const newEvent = ({ event }: Stream): LogoutEventInput => ({
    iss: ISS,
    sub: randomUUID(),
    reason: 'user',
    ...event,
  })

  /** Posts events. @throws {Error} if one is not accepted: the benchmark would measure less load than it states. */
  async function post(stream: Stream, events: number): Promise<readonly string[]> {
    const { client } = subject
    const answers =
      events === 1
        ? [await client.postLogoutEvent(newEvent(stream))]
        : await client.postLogoutEvents(Array.from({ length: events }, () => newEvent(stream)))
    owed += events * stream.owedTo
    return answers.map((answer) => {
      if (answer.status !== 'accepted') throw new Error(`not accepted: ${answer.problem.title}`)
      return answer.id
    })
  }

  async function steady(
    stream: Stream,
    {
      eventsPerSecond,
      perPost = 1,
      ended,
    }: { eventsPerSecond: number; perPost?: number; ended: AbortSignal },
  ): Promise<ReadonlyMap<string, bigint>> {
    const acceptedNs = new Map<string, bigint>()
    const posts: Promise<void>[] = []
    const everyMs = (1_000 / eventsPerSecond) * perPost
    const startedMs = performance.now()
    for (let n = 0; !ended.aborted; n++) {
      const waitMs = startedMs + n * everyMs - performance.now()
      if (waitMs > 0) await sleep(waitMs)
      const one = async () => {
        for (const id of await post(stream, perPost)) acceptedNs.set(id, process.hrtime.bigint())
      }
      posts.push(one())
    }
    await Promise.all(posts)
    return acceptedNs
  }

  /** The latency of every delivery, in milliseconds; infinite for deliveries that do not arrive. */
  async function collect(
    acceptedNs: ReadonlyMap<string, bigint>,
    expected: number,
    group?: string,
  ): Promise<readonly number[]> {
    const within = group === undefined ? '/' : `/${group}/`
    const waits = new Map<string, number>()
    let sinceMs = performance.now()
    while (waits.size < expected && performance.now() - sinceMs < MISSING_AFTER_MS) {
      for (const { txn, path, atNs } of await relyingParties.stamps()) {
        const accepted = acceptedNs.get(txn)
        const key = `${txn} ${path}`
        if (accepted === undefined || waits.has(key) || !path.startsWith(within)) continue
        // An RP may get the token before the IdP has read its 202.
        waits.set(key, Math.max(0, Number(BigInt(atNs) - accepted) / 1e6))
        sinceMs = performance.now()
      }
      await sleep(50)
    }
    await relyingParties.stamp(false)
    const missing = Array.from({ length: expected - waits.size }, () => Number.POSITIVE_INFINITY)
    return [...waits.values(), ...missing]
  }

  return {
    get owed() {
      return owed
    },
    steady,
    async keepFull(stream, ended) {
      while (!ended.aborted) {
        if (owed - (await relyingParties.count()) > UNDER_WAY) await sleep(5)
        else await post(stream, POST_EVENTS)
      }
      let [answered, sinceMs] = [await relyingParties.count(), performance.now()]
      while (answered < owed) {
        await sleep(20)
        const now = await relyingParties.count()
        if (now > answered) [answered, sinceMs] = [now, performance.now()]
        else if (performance.now() - sinceMs > MISSING_AFTER_MS) {
          throw new Error(`${owed - now} of ${owed} deliveries did not arrive`)
        }
      }
    },
    async latency(stream, { eventsPerSecond, seconds, of }) {
      await relyingParties.stamp(true)
      const acceptedNs = await steady(stream, {
        eventsPerSecond,
        ended: AbortSignal.timeout(seconds * 1_000),
      })
      const expected = acceptedNs.size * (of ?? stream).owedTo
      const waits = await collect(acceptedNs, expected, of?.group)
      return {
        p50: quantile(waits, 0.5),
        p99: quantile(waits, 0.99),
        untold: waits.filter((wait) => wait === Number.POSITIVE_INFINITY).length,
      }
    },
    async burst(stream, events) {
      await post(stream, events)
    },
    async untilAllReached(stream) {
      await relyingParties.stamp(true)
      const ids = await post(stream, 1)
      const acceptedNs = new Map(ids.map((id) => [id, process.hrtime.bigint()]))
      return (await collect(acceptedNs, stream.owedTo)).reduce((a, b) => Math.max(a, b), 0)
    },
    async settled(withinMs) {
      const deadlineMs = performance.now() + withinMs
      while ((await subject.acknowledged()) < owed) {
        if (performance.now() > deadlineMs) return false
        await sleep(100)
      }
      return true
    },
  }
}
