import { setTimeout as sleep } from 'node:timers/promises'
import type { SigningAlgorithm } from '@curfew/domain'
import type { BareAnswer, BareQuestion } from './bare.ts'
import type { Load, Stream } from './load.ts'
import { type Asker, cpuOf, openAsker, type Subject } from './processes.ts'

// A turn at full speed, of the bare loop or of Curfew. The benchmark compares their rates.

/** The settings of a benchmark run. */
export interface Settings {
  /** Length of one turn, in seconds. */
  readonly seconds: number
  /** Pairs of turns. */
  readonly rounds: number
  /** Relying parties, unless a scenario says otherwise. */
  readonly rps: number
  readonly algorithm: SigningAlgorithm
  /** Scales down large numbers, to try a scenario. */
  readonly scale: number
  /** Reports progress to the user. */
  readonly progress: (text: string) => void
}

export interface Turn {
  /** Deliveries per second. */
  readonly rate: number
  /** Processor time per 1,000 deliveries, in milliseconds. */
  readonly nodeCpuMs: number | null
  readonly postgresCpuMs: number | null
}

/** The loop that only signs and posts. */
export interface Bare {
  turn(concurrency: number, limit?: { readonly seconds: number } | { readonly posts: number }): Promise<Turn>
  /** The fastest concurrency, measured once and remembered. */
  bestConcurrency(): Promise<number>
  stop(): void
}

const CONCURRENCIES = [16, 64, 160]

/** Starts the bare loop. @param uri the URI that it posts to. */
export async function openBare(uri: string, { seconds, algorithm }: Settings): Promise<Bare> {
  const bare: Asker = await openAsker('./bare.ts')
  let best: number | null = null
  const turn: Bare['turn'] = async (concurrency, limit = { seconds }) => {
    const question: BareQuestion = { uri, algorithm, concurrency, ...limit }
    const { rate, cpuMs } = await bare.ask<BareAnswer>(question)
    return { rate, nodeCpuMs: cpuMs * 1_000, postgresCpuMs: null }
  }
  return {
    turn,
    async bestConcurrency() {
      if (best !== null) return best
      const tried: { concurrency: number; rate: number }[] = []
      for (const concurrency of CONCURRENCIES) {
        await turn(concurrency, { seconds: 1 })
        tried.push({ concurrency, rate: (await turn(concurrency, { seconds: 2 })).rate })
      }
      best = tried.reduce((a, b) => (b.rate > a.rate ? b : a)).concurrency
      return best
    },
    stop: bare.stop,
  }
}

/** Measures Curfew at full load. */
export async function fullTurn(
  { subject, load }: { subject: Subject; load: Load },
  stream: Stream,
  seconds: number,
): Promise<Turn> {
  const ended = new AbortController()
  const filling = load.keepFull(stream, ended.signal)
  // An early failure is reported where it is awaited below.
  filling.catch(() => undefined)
  await sleep(1_000)
  const pid = subject.process.pid ?? 0
  const [cpuBefore, before, startedMs] = [cpuOf(pid), await subject.acknowledged(), performance.now()]
  await sleep(seconds * 1_000)
  const [cpuAfter, after, endedMs] = [cpuOf(pid), await subject.acknowledged(), performance.now()]
  ended.abort()
  await filling
  const done = after - before
  const perThousand = (group: 'node' | 'postgres') =>
    cpuBefore === null || cpuAfter === null ? null : ((cpuAfter[group] - cpuBefore[group]) / done) * 1_000
  return {
    rate: done / ((endedMs - startedMs) / 1_000),
    nodeCpuMs: perThousand('node'),
    postgresCpuMs: perThousand('postgres'),
  }
}
