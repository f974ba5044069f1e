import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { quantile } from '../figures.ts'
import type { HeldAnswer, HeldQuestion } from '../held.ts'
import { ISS } from '../load.ts'
import { openAsker, type Subject } from '../processes.ts'
import type { Row } from '../scenarios.ts'
import { openStage } from '../stage.ts'
import type { Settings } from '../turns.ts'
import type { Awaited200, WaiterQuestion } from '../waiter.ts'

const WAITERS = 10_000
/** The number of client processes. One client alone would take too long to read ten thousand answers. */
const CLIENTS = 2
const FEW_SHARE = 0.01
/** Events per post, and posts per second. The rate is far below the delivery rate, and all events fit into the wait. */
const POST_EVENTS = 10
const POSTS_PER_SECOND = 60
const WAIT_S = 30
const IN_PLACE_MS = 20_000

interface Waits {
  readonly p50: number
  readonly p99: number
}

/**
 * Holds ten thousand requests open at one process, and measures the time from the RP's 200 to the answer of the waiter. In one
 * turn all wait for one event, compared with a bare server that holds as many. In the other turn each waits for its own event, at
 * an even pace, compared with a hundredth of the waiters.
 */
export async function waiters(settings: Settings): Promise<readonly Row[]> {
  const { rounds, scale, progress } = settings
  const count = Math.max(100, Math.round(WAITERS * scale))
  const few = Math.ceil(count * FEW_SHARE)
  // All requests arrive within a second, with one key.
  await using stage = await openStage(settings, { CURFEW_REQUESTS_PER_SECOND: '1000000' })
  const { subject, relyingParties } = stage
  await stage.register('rps', 1)
  await using opening = new AsyncDisposableStack()
  const held = await openAsker<{ port: number }>('./held.ts')
  opening.defer(() => held.stop())
  const clients = await Promise.all(Array.from({ length: CLIENTS }, () => openAsker('./waiter.ts')))
  opening.defer(() => {
    for (const client of clients) client.stop()
  })

  /** Sends the requests, and waits until `inPlace` reports that the server has them all. */
  async function wait(
    paths: readonly string[],
    {
      url,
      headers,
      inPlace,
    }: { url: string; headers: Record<string, string>; inPlace: () => Promise<number> },
  ): Promise<void> {
    const sent = clients.map((client, place) => {
      const own = paths.filter((_, index) => index % clients.length === place)
      return client.ask({ ask: 'wait', url, headers, paths: own } satisfies WaiterQuestion)
    })
    await Promise.all(sent)
    for (const deadlineMs = performance.now() + IN_PLACE_MS; (await inPlace()) < paths.length; ) {
      if (performance.now() > deadlineMs) throw new Error(`${await inPlace()} of ${paths.length} wait`)
      await sleep(50)
    }
  }
  const answers = async (): Promise<readonly Awaited200[]> => {
    const question: WaiterQuestion = { ask: 'answers' }
    return (await Promise.all(clients.map((client) => client.ask<readonly Awaited200[]>(question)))).flat()
  }

  async function bare(bytes: number): Promise<Waits> {
    const ask = (question: HeldQuestion) => held.ask<HeldAnswer>(question)
    await wait(Array(count).fill('/'), {
      url: `http://127.0.0.1:${held.hello.port}`,
      headers: {},
      inPlace: async () => (await ask({ ask: 'held' })).held,
    })
    const { atNs } = await ask({ ask: 'release', bytes })
    return waitsOf((await answers()).map((answer) => msBetween(atNs, answer.atNs)))
  }

  /** Measures the waits at Curfew. @param ids the events to post. @param waiting the events to wait for, once per occurrence. */
  async function curfew(
    ids: readonly string[],
    waiting: readonly string[],
  ): Promise<Waits & { bytes: number }> {
    await relyingParties.stamp(true)
    await wait(
      waiting.map((id) => `/v1/logout-events/${id}?issuer=main&wait=${WAIT_S}`),
      {
        url: subject.url,
        headers: { authorization: `Bearer ${subject.key}` },
        inPlace: () => waitersAt(subject),
      },
    )
    for (let from = 0; from < ids.length; from += POST_EVENTS) {
      const posted = sleep(1_000 / POSTS_PER_SECOND)
      const events = ids.slice(from, from + POST_EVENTS).map((id) => ({ id, iss: ISS, sub: randomUUID() }))
      await subject.client.postLogoutEvents(events)
      await posted
    }
    const answered = await answers()
    const deliveredNs = new Map(
      (await relyingParties.stamps()).map(({ txn, answeredNs }) => [txn, answeredNs]),
    )
    await relyingParties.stamp(false)
    const waits = answered.map(({ path, atNs }) => {
      const deliveredAtNs = deliveredNs.get(path.slice(path.lastIndexOf('/') + 1))
      if (deliveredAtNs === undefined) throw new Error(`${path} was answered, but no RP got a delivery`)
      return msBetween(deliveredAtNs, atNs)
    })
    return { ...waitsOf(waits), bytes: answered[0]?.bytes ?? 0 }
  }

  const newIds = (length: number) => Array.from({ length }, () => randomUUID())
  const turns: { one: Waits; bare: Waits; own: Waits; few: Waits }[] = []
  // The first round warms up.
  for (let round = 0; round <= rounds; round++) {
    const [id = ''] = newIds(1)
    const one = await curfew([id], Array(count).fill(id))
    const limit = await bare(one.bytes)
    const [ids, others] = [newIds(count), newIds(count)]
    const turn = {
      one,
      bare: limit,
      few: await curfew(
        others,
        others.filter((_, index) => index % Math.round(count / few) === 0),
      ),
      own: await curfew(ids, ids),
    }
    if (round > 0) turns.push(turn)
    progress(`round ${round} of ${rounds}: ${count} waiters for one event, and for one event each`)
  }
  const row = (
    measured: string,
    [what, beside]: readonly ['one' | 'own', 'bare' | 'few'],
    name: string,
    p: keyof Waits,
  ): Row => ({
    measured: `${measured}: the RP's 200 to the waiter's answer, ${p} ms`,
    values: turns.map((turn) => turn[what][p]),
    beside: { what: name, values: turns.map((turn) => turn[beside][p]) },
  })
  return (['p50', 'p99'] as const).flatMap((p) => [
    row(`${count} wait for one event`, ['one', 'bare'], `bare server answers ${count} held`, p),
    row(`${count} wait, each for its own`, ['own', 'few'], `${few} wait`, p),
  ])
}

async function waitersAt({ url }: Subject): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text()
  return Number(/^curfew_waiters (\d+)/m.exec(text)?.[1] ?? 0)
}

const msBetween = (fromNs: string, toNs: string) => Number(BigInt(toNs) - BigInt(fromNs)) / 1e6
const waitsOf = (waits: readonly number[]): Waits => ({
  p50: quantile(waits, 0.5),
  p99: quantile(waits, 0.99),
})
