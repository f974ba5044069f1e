import { createLoad, ISS } from '../load.ts'
import { PORT } from '../pipeline.ts'
import { openAsker, openSubject, type Subject } from '../processes.ts'
import { openRelyingParties, type RelyingParties } from '../relying-parties.ts'
import type { Row } from '../scenarios.ts'
import { fullTurn, type Settings, type Turn } from '../turns.ts'

const SAMPLED = '0.1'

/**
 * Compares the processor time of Curfew without traces, and with a tenth of the traces exported to a collector in another process.
 * Both run over a database of their own, and take turns.
 */
export async function tracing(settings: Settings): Promise<readonly Row[]> {
  const { rounds, rps, seconds, progress } = settings
  await using opening = new AsyncDisposableStack()
  const collector = await openAsker<number>('./collector.ts')
  opening.defer(() => collector.stop())
  const traced = await openSubject(PORT, {
    OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${collector.hello}`,
    OTEL_TRACES_SAMPLER: 'parentbased_traceidratio',
    OTEL_TRACES_SAMPLER_ARG: SAMPLED,
  })
  opening.defer(() => traced.stop())
  const untraced = await openSubject(PORT + 2, { OTEL_SDK_DISABLED: 'true' })
  opening.defer(() => untraced.stop())
  const turnOf = async (subject: Subject) => {
    // Each has its own: a load counts all answers as answers to its events.
    const relyingParties = await openRelyingParties()
    opening.defer(() => relyingParties.stop())
    await register(subject, relyingParties, settings)
    const load = createLoad(subject, relyingParties)
    return () => fullTurn({ subject, load }, { owedTo: rps }, seconds)
  }
  const [on, off] = [await turnOf(traced), await turnOf(untraced)]
  await on()
  await off()
  const turns: { on: Turn; off: Turn }[] = []
  for (let round = 1; round <= rounds; round++) {
    // The machine may change during a round, so that its turns change their order.
    const turn = round % 2 === 0 ? { on: await on(), off: await off() } : { off: await off(), on: await on() }
    turns.push(turn)
    progress(
      `round ${round} of ${rounds}: with ${costOf(turn.on).toFixed(1)} ms, without ${costOf(turn.off).toFixed(1)} ms`,
    )
  }
  progress(`the collector received ${await collector.ask<number>(null)} bytes`)
  return [
    {
      measured: `processor ms per 1,000 deliveries, ${SAMPLED} of the traces exported`,
      values: turns.map((turn) => costOf(turn.on)),
      beside: { what: 'without traces', values: turns.map((turn) => costOf(turn.off)) },
      target: 'at most 1.05',
    },
  ]
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
