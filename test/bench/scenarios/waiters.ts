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
/** Processes that they wait in, so that what is measured is not the time that one client takes to read ten thousand answers. */
const CLIENTS = 2
const FEW_SHARE = 0.01
/** Events posted together, and posts in a second: well below what is delivered, and all of them within the wait. */
const POST_EVENTS = 10
const POSTS_PER_SECOND = 60
const WAIT_S = 30
const IN_PLACE_MS = 20_000

interface Waits {
  readonly p50: number
  readonly p99: number
}

/**
 * Ten thousand requests held open by one process: how long after the relying party's 200 each is answered. All for one event,
 * beside a bare server that holds as many and answers them at a word; and each for an event of its own, while these are
 * delivered at an even pace, beside the same with a hundredth of the waiters.
 */
export async function waiters(settings: Settings): Promise<readonly Row[]> {
  const { rounds, scale, progress } = settings
  const count = Math.max(100, Math.round(WAITERS * scale))
  const few = Math.ceil(count * FEW_SHARE)
  // They come within a second, by one key.
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

  /** Sends the requests, and waits until `inPlace` says that the server has them all. */
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

  /** @param ids of the events that are posted; @param waiting of those that are waited for, each as often as it is in it. */
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
    const toldNs = new Map((await relyingParties.stamps()).map(({ txn, answeredNs }) => [txn, answeredNs]))
    await relyingParties.stamp(false)
    const waits = answered.map(({ path, atNs }) => {
      const told = toldNs.get(path.slice(path.lastIndexOf('/') + 1))
      if (told === undefined) throw new Error(`${path} was answered and nobody was told`)
      return msBetween(told, atNs)
    })
    return { ...waitsOf(waits), bytes: answered[0]?.bytes ?? 0 }
  }

  const newIds = (length: number) => Array.from({ length }, () => randomUUID())
  const turns: { one: Waits; bare: Waits; own: Waits; few: Waits }[] = []
  // One to get warm.
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
    progress(`round ${round} of ${rounds}: ${count} waiters for one event and for one each`)
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
