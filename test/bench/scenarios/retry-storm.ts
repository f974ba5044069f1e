import { setTimeout as sleep } from 'node:timers/promises'
import type { RelyingParties } from '../relying-parties.ts'
import type { Row } from '../scenarios.ts'
import { openStage, type Stage } from '../stage.ts'
import type { Settings } from '../turns.ts'

/** The default schedule has an attempt after half a minute; a breaker may take its time to close. */
const SETTLE_MS = 300_000
const WINDOW_MS = 1_000

/** A way of being down, for all relying parties at once. */
interface Outage {
  readonly name: string
  begin(relyingParties: RelyingParties): Promise<void>
  end(relyingParties: RelyingParties): Promise<void>
}

const OUTAGES: readonly Outage[] = [
  {
    name: 'no one listens',
    begin: (relyingParties) => relyingParties.refuse(),
    end: (relyingParties) => relyingParties.listen(),
  },
  {
    name: '503',
    begin: (relyingParties) => relyingParties.behave('rps', 'unavailable'),
    end: (relyingParties) => relyingParties.behave('rps', 'answer'),
  },
]

/** All relying parties are down for one turn under load at half of the highest rate, then all are up, and the load ends. */
export async function retryStorm(settings: Settings): Promise<readonly Row[]> {
  const { rps, progress } = settings
  await using stage = await openStage(settings)
  await stage.register('rps', rps)
  progress("looking for the bare loop's best concurrency, and for the highest rate")
  const concurrency = await stage.bare.bestConcurrency()
  const highest = await stage.highestRate({ owedTo: rps })
  const rows: Row[] = []
  for (const outage of OUTAGES) {
    const bare = (await stage.bare.turn(concurrency)).rate
    progress(`${outage.name}: down for ${settings.seconds} s at ${(highest / 2).toFixed(0)} deliveries/s`)
    const { owed, seconds, peakRate, lost, again } = await weather(stage, outage, {
      ...settings,
      eventsPerSecond: highest / 2 / rps,
    })
    progress(`${outage.name}: ${seconds.toFixed(1)} s until ${owed} were acknowledged`)
    rows.push(
      {
        measured: `all RPs down (${outage.name}), then up: s until all acknowledged`,
        values: [seconds],
        beside: { what: `bare loop posts ${owed}`, values: [owed / bare] },
      },
      {
        measured: '  highest rate at the RPs in any second, deliveries/s',
        values: [peakRate],
        beside: { what: 'bare loop', values: [bare] },
      },
      { measured: '  deliveries lost', values: [lost], beside: null, target: '0' },
      { measured: '  told more than once', values: [again], beside: null },
    )
  }
  return rows
}

interface Aftermath {
  /** Deliveries that were not acknowledged when the relying parties came back. */
  readonly owed: number
  /** Until the ledger had all as acknowledged; endless when it never did. */
  readonly seconds: number
  readonly peakRate: number
  readonly lost: number
  /** Answered with 200 more than once. */
  readonly again: number
}

async function weather(
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
  const upMs = performance.now()
  const rate = watchRate(relyingParties)
  const settled = await load.settled(SETTLE_MS)
  const took = (performance.now() - upMs) / 1_000
  const peakRate = await rate.peak()
  const stamps = (await relyingParties.stamps()).filter(({ txn }) => accepted.has(txn))
  await relyingParties.stamp(false)
  const told = new Set(stamps.map(({ txn, path }) => `${txn} ${path}`))
  return {
    owed,
    seconds: settled ? took : Number.POSITIVE_INFINITY,
    peakRate,
    lost: accepted.size * rps - told.size,
    again: stamps.length - told.size,
  }
}

/** Looks at how many are told, until the highest rate over a window is asked for. */
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
