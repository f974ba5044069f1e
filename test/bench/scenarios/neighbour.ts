import type { Latency } from '../load.ts'
import type { Row } from '../scenarios.ts'
import { openStage, type Stage } from '../stage.ts'
import type { Settings } from '../turns.ts'

const PARTIES = 10_000
const BURST_EVENTS = 8
/** Bursts in one turn, evenly over its time. */
const BURSTS = 2
const BIG = { name: 'big', iss: 'https://big.example' }
/** The steady load of the other issuer, as a part of the highest rate. */
const STEADY_SHARE = 0.1
const SETTLE_MS = 600_000

/**
 * One issuer posts 8 events at once, each owed to 10,000 relying parties, while another issuer has a steady load. Compares the
 * other issuer's latency with the same load alone, and beside the bare loop at its highest rate. The bare loop shows which part
 * of the delay is due to the machine. All comparisons are of the same round.
 */
export async function neighbour(settings: Settings): Promise<readonly Row[]> {
  const { rounds, rps, seconds, scale, progress } = settings
  const parties = Math.max(10, Math.round(PARTIES * scale))
  await using stage = await openStage(settings)
  const { load, subject } = stage
  await subject.client.putIssuer(BIG.name, { iss: BIG.iss })
  // Registered first, so that its bindings have the lower ids.
  progress(`registering ${parties} relying parties of one issuer, ${rps} of the other`)
  await stage.register('big', parties, { issuer: BIG.name })
  await stage.register('small', rps)
  const toSmall = { owedTo: rps }
  const toBig = { event: { iss: BIG.iss }, owedTo: parties }
  progress("looking for the bare loop's best concurrency and the highest rate")
  const concurrency = await stage.bare.bestConcurrency()
  const options = { eventsPerSecond: ((await stage.highestRate(toSmall)) * STEADY_SHARE) / rps, seconds }

  const turns: { alone: Latency; besideBare: Latency; beside: Latency; bigRate: number; bareRate: number }[] =
    []
  for (let round = 1; round <= rounds; round++) {
    const wait = () => load.latency(toSmall, { ...options, of: { group: 'small', owedTo: rps } })
    const alone = await wait()
    const bareTurn = stage.bare.turn(concurrency)
    const besideBare = await wait()
    const bareRate = (await bareTurn).rate
    const startedMs = performance.now()
    const bursts = repeatBursts(stage, toBig, (seconds * 1_000) / BURSTS)
    const beside = await wait()
    await bursts
    progress(
      `round ${round} of ${rounds}: p99 ${alone.p99.toFixed(1)} ms alone, ${besideBare.p99.toFixed(1)} ms beside the bare loop, ${beside.p99.toFixed(1)} ms beside the big one; waiting for it`,
    )
    if (!(await load.settled(SETTLE_MS))) throw new Error(`not settled after ${SETTLE_MS} ms`)
    const bigRate = (BURSTS * BURST_EVENTS * parties * 1_000) / (performance.now() - startedMs)
    turns.push({ alone, besideBare, beside, bigRate, bareRate })
    progress(`round ${round} of ${rounds}: the big one at ${bigRate.toFixed(0)}/s`)
  }
  const measured = (quantile: 'p50' | 'p99') =>
    `an issuer beside ${BURSTS} × ${BURST_EVENTS} events to ${parties} RPs of another: 202 to first byte, ${quantile} ms`
  const row = (quantile: 'p50' | 'p99'): Row => ({
    measured: measured(quantile),
    values: turns.map((turn) => turn.beside[quantile]),
    beside: { what: 'alone', values: turns.map((turn) => turn.alone[quantile]) },
    ...(quantile === 'p99' && { target: 'ratio below 2' }),
  })
  return [
    row('p50'),
    row('p99'),
    {
      measured: measured('p99'),
      values: turns.map((turn) => turn.beside.p99),
      beside: { what: 'the same beside the bare loop', values: turns.map((turn) => turn.besideBare.p99) },
    },
    {
      measured: 'the other issuer at the same time, deliveries/s',
      values: turns.map(({ bigRate }) => bigRate),
      beside: { what: 'bare loop', values: turns.map(({ bareRate }) => bareRate) },
    },
  ]
}

async function repeatBursts(
  { load }: Stage,
  stream: Parameters<typeof load.burst>[0],
  everyMs: number,
): Promise<void> {
  for (let burst = 0; burst < BURSTS; burst++) {
    if (burst > 0) await new Promise((resolve) => setTimeout(resolve, everyMs))
    await load.burst(stream, BURST_EVENTS)
  }
}
