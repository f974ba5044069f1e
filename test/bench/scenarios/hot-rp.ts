import type { Latency } from '../load.ts'
import type { Row } from '../scenarios.ts'
import { openStage } from '../stage.ts'
import type { Settings } from '../turns.ts'

const HOT_SHARE = 0.9
const SETTLE_MS = 60_000

/** Sends nine of ten events to one relying party. Compares the latency of the others with and without this load. */
export async function hotRp(settings: Settings): Promise<readonly Row[]> {
  const { rounds, seconds, progress } = settings
  const parties = Math.max(settings.rps, 2)
  await using stage = await openStage(settings)
  const { load } = stage
  const hot = await stage.register('hot', 1)
  const others = await stage.register('others', parties - 1)
  const toHot = { event: { clients: [...hot] }, owedTo: 1 }
  const toOthers = { event: { clients: [...others] }, owedTo: others.length }
  progress('looking for the highest rate')
  const highest = await stage.highestRate({ owedTo: parties })
  const events = highest / 2 / (HOT_SHARE + (1 - HOT_SHARE) * others.length)
  const options = { eventsPerSecond: events * (1 - HOT_SHARE), seconds }

  const turns: { alone: Latency; beside: Latency }[] = []
  for (let round = 1; round <= rounds; round++) {
    const alone = await load.latency(toOthers, options)
    const ended = new AbortController()
    // Posts an array every 50 ms, because single posts would keep this process too busy.
    const heat = load.steady(toHot, {
      eventsPerSecond: events * HOT_SHARE,
      perPost: Math.ceil((events * HOT_SHARE) / 20),
      ended: ended.signal,
    })
    const beside = await load.latency(toOthers, {
      ...options,
      of: { group: 'others', owedTo: others.length },
    })
    ended.abort()
    await heat
    turns.push({ alone, beside })
    progress(`round ${round} of ${rounds} at ${events.toFixed(0)} events/s`)
    if (!(await load.settled(SETTLE_MS))) throw new Error(`not settled after ${SETTLE_MS} ms`)
  }
  const row = (quantile: 'p50' | 'p99'): Row => ({
    measured: `other RPs while one gets ${HOT_SHARE * 100} % of the events: 202 to first byte, ${quantile} ms`,
    values: turns.map((turn) => turn.beside[quantile]),
    beside: { what: 'without it', values: turns.map((turn) => turn.alone[quantile]) },
  })
  return [row('p50'), row('p99')]
}
