import { formatTable, median, range } from './figures.ts'
import { createLoad, ISS, type Latency } from './load.ts'
import { openSubject, peakMemoryOf } from './processes.ts'
import { openRelyingParties } from './relying-parties.ts'
import { fullTurn, openBare, type Settings, type Turn } from './turns.ts'

// Compares Curfew end to end (accepted, planned, delivered, acknowledged in the ledger) with the bare loop that signs and posts.
// They take turns on the same machine, with the same receiver.

/** The port of the measured Curfew. */
export const PORT = 18_480

export interface PipelineReport {
  readonly arrangement: string
  readonly bare: readonly Turn[]
  readonly curfew: readonly Turn[]
  readonly ratios: readonly number[]
  readonly latencyMs: Latency & { readonly atRate: number }
  readonly peakMemoryMib: number | null
}

export async function measurePipeline(
  arrangement: string,
  env: Readonly<Record<string, string>>,
  settings: Settings,
): Promise<PipelineReport> {
  const { seconds, rounds, rps, algorithm, progress } = settings
  const relyingParties = await openRelyingParties()
  const bare = await openBare(relyingParties.bareUri, settings)
  progress(`${arrangement}: looking for the bare loop's best concurrency`)
  const best = await bare.bestConcurrency()
  progress(`${arrangement}: starting Curfew`)
  const subject = await openSubject(PORT, env)
  try {
    const load = createLoad(subject, relyingParties)
    const all = { owedTo: rps }
    await subject.client.putIssuer('main', { iss: ISS })
    for (let n = 0; n < rps; n++) {
      await subject.client.putRelyingParty('main', `rp-${n}`, {
        backchannel_logout_uri: relyingParties.uriOf('rps', `rp-${n}`),
        id_token_signed_response_alg: algorithm,
      })
    }
    const curfewTurn = () => fullTurn({ subject, load }, all, seconds)
    await curfewTurn()
    const turns: { bare: Turn; curfew: Turn }[] = []
    for (let round = 1; round <= rounds; round++) {
      const turn = { bare: await bare.turn(best), curfew: await curfewTurn() }
      turns.push(turn)
      progress(
        `${arrangement}: round ${round} of ${rounds}: bare ${turn.bare.rate.toFixed(0)}/s, Curfew ${turn.curfew.rate.toFixed(0)}/s`,
      )
    }
    const atRate = median(turns.map(({ curfew }) => curfew.rate)) / 2
    progress(`${arrangement}: latency at half that rate`)
    const latency = await load.latency(all, { eventsPerSecond: atRate / rps, seconds })
    return {
      arrangement,
      bare: turns.map((turn) => turn.bare),
      curfew: turns.map((turn) => turn.curfew),
      ratios: turns.map((turn) => turn.curfew.rate / turn.bare.rate),
      latencyMs: { ...latency, atRate },
      peakMemoryMib: peakMemoryOf(subject.process.pid ?? 0),
    }
  } finally {
    await subject.stop()
    bare.stop()
    relyingParties.stop()
  }
}

/** Formats the reports, with a column for every arrangement. */
export function pipelineTable(reports: readonly PipelineReport[]): string {
  const rates = (turns: readonly Turn[]) =>
    range(
      turns.map(({ rate }) => rate),
      0,
    )
  const cpu = (turns: readonly Turn[], group: 'nodeCpuMs' | 'postgresCpuMs') => {
    const known = turns.map((turn) => turn[group]).filter((value) => value !== null)
    return known.length === 0 ? '-' : median(known).toFixed(0)
  }
  const row = (what: string, cell: (report: PipelineReport) => string) => [what, ...reports.map(cell)]
  return formatTable([
    row('', ({ arrangement }) => arrangement),
    row('bare sign and post, deliveries/s', ({ bare }) => rates(bare)),
    row('Curfew end to end, deliveries/s', ({ curfew }) => rates(curfew)),
    row('ratio', ({ ratios }) => range(ratios, 2)),
    row('202 to first byte at the RP, p50 ms', ({ latencyMs }) => latencyMs.p50.toFixed(1)),
    row('202 to first byte at the RP, p99 ms', ({ latencyMs }) => latencyMs.p99.toFixed(1)),
    row('  at deliveries/s', ({ latencyMs }) => latencyMs.atRate.toFixed(0)),
    row('CPU ms per 1,000: bare', ({ bare }) => cpu(bare, 'nodeCpuMs')),
    row('CPU ms per 1,000: Curfew', ({ curfew }) => cpu(curfew, 'nodeCpuMs')),
    row('CPU ms per 1,000: its PostgreSQL', ({ curfew }) => cpu(curfew, 'postgresCpuMs')),
    row('peak memory of Curfew, MiB', ({ peakMemoryMib }) => peakMemoryMib?.toFixed(0) ?? '-'),
  ])
}
