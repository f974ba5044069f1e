import { createLoad, ISS } from '../load.ts'
import { PORT } from '../pipeline.ts'
import { openAsker, openSubject, type Subject } from '../processes.ts'
import { openRelyingParties, type RelyingParties } from '../relying-parties.ts'
import type { Row } from '../scenarios.ts'
import { fullTurn, type Settings, type Turn } from '../turns.ts'

const SAMPLED = '0.1'

/**
 * Compares the processor time of Curfew without traces, and with a tenth of the traces exported to a collector in another process.
 * Both run over a database of their own, and take turns. Two processes with the same settings differ by up to a tenth, so both are
 * started twice, in both orders.
 */
export async function tracing(settings: Settings): Promise<readonly Row[]> {
  const half = { ...settings, rounds: Math.ceil(settings.rounds / 2) }
  const turns = [
    ...(await measurePair(half, ['traced', 'untraced'])),
    ...(await measurePair(half, ['untraced', 'traced'])),
  ]
  return [
    {
      measured: `processor ms per 1,000 deliveries, ${SAMPLED} of the traces exported`,
      values: turns.map((turn) => costOf(turn.traced)),
      beside: { what: 'without traces', values: turns.map((turn) => costOf(turn.untraced)) },
      target: 'at most 1.05',
    },
  ]
}

type Side = 'traced' | 'untraced'

/** Measures both in turns. @param order the one that starts first comes first. */
async function measurePair(
  settings: Settings,
  order: readonly [Side, Side],
): Promise<readonly Readonly<Record<Side, Turn>>[]> {
  const { rounds, rps, seconds, progress } = settings
  await using opening = new AsyncDisposableStack()
  const collector = await openAsker<number>('./collector.ts')
  opening.defer(() => collector.stop())
  const env = {
    traced: {
      OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${collector.hello}`,
      OTEL_TRACES_SAMPLER: 'parentbased_traceidratio',
      OTEL_TRACES_SAMPLER_ARG: SAMPLED,
    },
    untraced: { OTEL_SDK_DISABLED: 'true' },
  }
  const turnsOf = new Map<Side, () => Promise<Turn>>()
  for (const [place, side] of order.entries()) {
    const subject = await openSubject(PORT + 2 * place, env[side])
    opening.defer(() => subject.stop())
    // Each has its own: a load counts all answers as answers to its events.
    const relyingParties = await openRelyingParties()
    opening.defer(() => relyingParties.stop())
    await register(subject, relyingParties, settings)
    const load = createLoad(subject, relyingParties)
    turnsOf.set(side, () => fullTurn({ subject, load }, { owedTo: rps }, seconds))
  }
  const turn = async (side: Side) => {
    const run = turnsOf.get(side)
    if (run === undefined) throw new Error(`no process is ${side}`)
    return run()
  }
  for (const side of order) await turn(side)
  const turns: Readonly<Record<Side, Turn>>[] = []
  for (let round = 1; round <= rounds; round++) {
    // The machine may change during a round, so that its turns change their order.
    const tracedFirst = (order[0] === 'traced') === (round % 2 === 0)
    const both = tracedFirst
      ? { traced: await turn('traced'), untraced: await turn('untraced') }
      : { untraced: await turn('untraced'), traced: await turn('traced') }
    turns.push(both)
    progress(
      `${order[0]} first, round ${round} of ${rounds}: with ${costOf(both.traced).toFixed(1)} ms, without ${costOf(both.untraced).toFixed(1)} ms`,
    )
  }
  progress(`the collector received ${await collector.ask<number>(null)} bytes`)
  return turns
}

function costOf({ nodeCpuMs, postgresCpuMs }: Turn): number {
  return (nodeCpuMs ?? Number.NaN) + (postgresCpuMs ?? Number.NaN)
}

async function register(
  { client }: Subject,
  relyingParties: RelyingParties,
  { rps, algorithm }: Settings,
): Promise<void> {
  await client.putIssuer('main', { iss: ISS })
  for (let n = 0; n < rps; n++) {
    await client.putRelyingParty('main', `rp-${n}`, {
      backchannel_logout_uri: relyingParties.uriOf('rps', `rp-${n}`),
      id_token_signed_response_alg: algorithm,
    })
  }
}
