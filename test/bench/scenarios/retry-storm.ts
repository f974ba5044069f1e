import { setTimeout as sleep } from 'node:timers/promises'
import type { RelyingParties } from '../relying-parties.ts'
import type { Row } from '../scenarios.ts'
import { openStage, type Stage } from '../stage.ts'
import type { Settings } from '../turns.ts'

/** The default schedule has an attempt after 30 s, and a breaker may close late. */
const SETTLE_MS = 300_000
const WINDOW_MS = 1_000

/** A kind of outage of all relying parties at once. */
interface Outage {
  readonly name: string
  begin(relyingParties: RelyingParties): Promise<void>
  end(relyingParties: RelyingParties): Promise<void>
}

const OUTAGES: readonly Outage[] = [
  {
    name: 'connection refused',
    begin: (relyingParties) => relyingParties.refuse(),
    end: (relyingParties) => relyingParties.listen(),
  },
  {
    name: '503',
    begin: (relyingParties) => relyingParties.behave('rps', 'unavailable'),
    end: (relyingParties) => relyingParties.behave('rps', 'answer'),
  },
]

/**
 * Makes all relying parties unavailable for one turn, under load at half of the highest rate. Then all recover, and the load
 * ends.
 */
export async function retryStorm(settings: Settings): Promise<readonly Row[]> {
  const { rps, progress } = settings
  await using stage = await openStage(settings)
  await stage.register('rps', rps)
  progress("looking for the bare loop's best concurrency and the highest rate")
  const concurrency = await stage.bare.bestConcurrency()
  const highest = await stage.highestRate({ owedTo: rps })
  const rows: Row[] = []
  for (const outage of OUTAGES) {
    const bare = (await stage.bare.turn(concurrency)).rate
    progress(
      `${outage.name}: unavailable for ${settings.seconds} s at ${(highest / 2).toFixed(0)} deliveries/s`,
    )
    const { owed, seconds, peakRate, lost, repeated } = await runOutage(stage, outage, {
      ...settings,
      eventsPerSecond: highest / 2 / rps,
    })
    progress(`${outage.name}: ${seconds.toFixed(1)} s until ${owed} were acknowledged`)
    rows.push(
      {
        measured: `all RPs unavailable (${outage.name}), then recovered: s until all acknowledged`,
        values: [seconds],
        beside: { what: `bare loop posts ${owed}`, values: [owed / bare] },
      },
      {
        measured: '  highest rate at the RPs in any second, deliveries/s',
        values: [peakRate],
        beside: { what: 'bare loop', values: [bare] },
      },
      { measured: '  deliveries lost', values: [lost], beside: null, target: '0' },
      { measured: '  delivered more than once', values: [repeated], beside: null },
    )
  }
  return rows
}

interface Aftermath {
  /** Deliveries not yet acknowledged when the relying parties recovered. */
  readonly owed: number
  /** The time until the ledger had acknowledged all of them; infinite if it never did. */
  readonly seconds: number
  readonly peakRate: number
  readonly lost: number
  /** Deliveries answered with 200 more than once. */
  readonly repeated: number
}

async function runOutage(
  { load, relyingParties, subject }: Stage,
  outage: Outage,
  { rps, seconds, eventsPerSecond }: { rps: number; seconds: number; eventsPerSecond: number },
): Promise<Aftermath> {
  await relyingParties.stamp(true)
  const ended = new AbortController()
  const loading = load.steady({ owedTo: rps }, { eventsPerSecond, ended: ended.signal })
  await sleep(1_000)
  await outage.begin(relyingParties)
  await sleep(seconds * 1_000)
  ended.abort()
  const accepted = await loading
  const owed = load.owed - (await subject.acknowledged())
  await outage.end(relyingParties)
  const recoveredMs = performance.now()
  const rate = watchRate(relyingParties)
  const settled = await load.settled(SETTLE_MS)
  const took = (performance.now() - recoveredMs) / 1_000
  const peakRate = await rate.peak()
  const stamps = (await relyingParties.stamps()).filter(({ txn }) => accepted.has(txn))
  await relyingParties.stamp(false)
  const delivered = new Set(stamps.map(({ txn, path }) => `${txn} ${path}`))
  return {
    owed,
    seconds: settled ? took : Number.POSITIVE_INFINITY,
    peakRate,
    lost: accepted.size * rps - delivered.size,
    repeated: stamps.length - delivered.size,
  }
}

/** Samples the number of deliveries until the highest rate over a window is requested. */
function watchRate(relyingParties: RelyingParties): { peak(): Promise<number> } {
  const ended = new AbortController()
  const samples: { atMs: number; count: number }[] = []
  const watching = (async () => {
    while (!ended.signal.aborted) {
      samples.push({ count: await relyingParties.count(), atMs: performance.now() })
      await sleep(100)
    }
  })()
  return {
    async peak() {
      ended.abort()
      await watching
      const rates = samples.map(({ atMs, count }) => {
        const from = samples.findLast((sample) => sample.atMs <= atMs - WINDOW_MS) ?? samples[0]
        return from === undefined ? 0 : ((count - from.count) / Math.max(WINDOW_MS, atMs - from.atMs)) * 1_000
      })
      return Math.max(...rates)
    },
  }
}
