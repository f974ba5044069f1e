import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { LogoutEventInput } from '@curfew/contract'
import { quantile } from './figures.ts'
import type { Subject } from './processes.ts'
import type { RelyingParties } from './relying-parties.ts'

// What an IdP does to Curfew, and how long its relying parties wait for it.

export const ISS = 'https://idp.example'
/** Deliveries that are kept under way: enough that nothing runs dry, few enough that nothing piles up. */
const UNDER_WAY = 3_000
const POST_EVENTS = 100
/** When nothing has come for so long, what is missing will not come. */
const UNTOLD_AFTER_MS = 30_000

/** Events of one kind. */
export interface Stream {
  readonly event?: Pick<LogoutEventInput, 'clients' | 'lane'> & Partial<Pick<LogoutEventInput, 'iss'>>
  /** Relying parties that each event is owed to. */
  readonly owedTo: number
}

export interface Latency {
  readonly p50: number
  readonly p99: number
  /** Deliveries that never came; each counts as an endless wait. */
  readonly untold: number
}

/** All load on one Curfew: it must come from here, for what is under way is what was posted less what was answered. */
export interface Load {
  /** Deliveries owed for what was accepted so far. */
  readonly owed: number
  /** Keeps `UNDER_WAY` deliveries under way until `ended` aborts; resolves when all are answered. */
  keepFull(stream: Stream, ended: AbortSignal): Promise<void>
  /**
   * Posts evenly spread over time until `ended` aborts.
   *
   * @param perPost events in one post. Default 1.
   * @returns when each event was accepted, as the IdP sees it: in nanoseconds, by id.
   */
  steady(
    stream: Stream,
    options: { readonly eventsPerSecond: number; readonly perPost?: number; readonly ended: AbortSignal },
  ): Promise<ReadonlyMap<string, bigint>>
  /**
   * From the 202, as the IdP sees it, to the first byte at each RP; single posts, evenly spread over time.
   *
   * @param of the relying parties that are asked about: how many are owed each event, and the group they are in. Default all.
   */
  latency(
    stream: Stream,
    options: {
      readonly eventsPerSecond: number
      readonly seconds: number
      readonly of?: { readonly group: string; readonly owedTo: number }
    },
  ): Promise<Latency>
  /** Posts `events` at once, in one array. */
  burst(stream: Stream, events: number): Promise<void>
  /** Posts one event. @returns from its 202 to the first byte at the last RP, in milliseconds; endless when one is never told. */
  untilAllTold(stream: Stream): Promise<number>
  /** Waits until the ledger has everything as acknowledged. @returns false when it does not within `withinMs`. */
  settled(withinMs: number): Promise<boolean>
}

/** @param relyingParties those that keep stamps, and whose answers are counted. */
export function createLoad(subject: Subject, relyingParties: RelyingParties): Load {
  let owed = 0

  const newEvent = ({ event }: Stream): LogoutEventInput => ({
    iss: ISS,
    sub: randomUUID(),
    reason: 'user',
    ...event,
  })

  /** @throws {Error} unless all are accepted: a benchmark that loses some of its load measures another load. */
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

  /** How long each delivery took, in milliseconds; endless for those that have not come when nothing comes any more. */
  async function collect(
    acceptedNs: ReadonlyMap<string, bigint>,
    expected: number,
    group?: string,
  ): Promise<readonly number[]> {
    const within = group === undefined ? '/' : `/${group}/`
    const waits = new Map<string, number>()
    let sinceMs = performance.now()
    while (waits.size < expected && performance.now() - sinceMs < UNTOLD_AFTER_MS) {
      for (const { txn, path, atNs } of await relyingParties.stamps()) {
        const accepted = acceptedNs.get(txn)
        const key = `${txn} ${path}`
        if (accepted === undefined || waits.has(key) || !path.startsWith(within)) continue
        // An RP may be told before the IdP has read its 202.
        waits.set(key, Math.max(0, Number(BigInt(atNs) - accepted) / 1e6))
        sinceMs = performance.now()
      }
      await sleep(50)
    }
    await relyingParties.stamp(false)
    const untold = Array.from({ length: expected - waits.size }, () => Number.POSITIVE_INFINITY)
    return [...waits.values(), ...untold]
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
        else if (performance.now() - sinceMs > UNTOLD_AFTER_MS) {
          throw new Error(`${owed - now} of ${owed} deliveries do not come`)
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
    async untilAllTold(stream) {
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
