import type { Latency } from '../load.ts'
import type { Row } from '../scenarios.ts'
import { openStage } from '../stage.ts'
import type { Settings } from '../turns.ts'

/** The interactive load beside a mass logout, as a part of the highest rate. */
const INTERACTIVE_SHARE = 0.1
const SETTLE_MS = 120_000

/** Runs a mass logout in the bulk lane at full speed, while people log out of the same relying parties. */
export async function lanes(settings: Settings): Promise<readonly Row[]> {
  const { rps, rounds, seconds, progress } = settings
  await using stage = await openStage(settings)
  const { load, subject } = stage
  await stage.register('rps', rps)
  progress("looking for the bare loop's best concurrency and the highest rate")
  const concurrency = await stage.bare.bestConcurrency()
  const highest = await stage.highestRate({ owedTo: rps })
  const options = { eventsPerSecond: (highest * INTERACTIVE_SHARE) / rps, seconds }

  const turns: { alone: Latency; beside: Latency; bulkRate: number; bareRate: number }[] = []
  for (let round = 1; round <= rounds; round++) {
    const bareRate = (await stage.bare.turn(concurrency)).rate
    const alone = await load.latency({ owedTo: rps }, options)
    const ended = new AbortController()
    const bulk = load.keepFull({ event: { lane: 'bulk' }, owedTo: rps }, ended.signal)
    // An early failure is reported where it is awaited below.
    bulk.catch(() => undefined)
    const [before, startedMs] = [await subject.acknowledged(), performance.now()]
    const beside = await load.latency({ owedTo: rps }, options)
    const done = (await subject.acknowledged()) - before - options.eventsPerSecond * seconds * rps
    const bulkRate = done / ((performance.now() - startedMs) / 1_000)
    ended.abort()
    await bulk
    turns.push({ alone, beside, bulkRate, bareRate })
    progress(`round ${round} of ${rounds}: bulk at ${bulkRate.toFixed(0)}/s`)
    if (!(await load.settled(SETTLE_MS))) throw new Error(`not settled after ${SETTLE_MS} ms`)
  }
  const row = (quantile: 'p50' | 'p99'): Row => ({
    measured: `interactive beside a mass logout: 202 to first byte, ${quantile} ms`,
    values: turns.map((turn) => turn.beside[quantile]),
    beside: { what: 'without it', values: turns.map((turn) => turn.alone[quantile]) },
    ...(quantile === 'p99' && { target: 'ratio below 1.10' }),
  })
  return [
    row('p50'),
    row('p99'),
    {
      measured: 'bulk beside interactive, deliveries/s',
      values: turns.map(({ bulkRate }) => bulkRate),
      beside: { what: 'bare loop', values: turns.map(({ bareRate }) => bareRate) },
    },
  ]
}
