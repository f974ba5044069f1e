import type { Latency } from '../load.ts'
import type { Row } from '../scenarios.ts'
import { openStage } from '../stage.ts'
import type { Settings } from '../turns.ts'

const HANGING_SHARE = 0.1
const TIMEOUT_MS = 2_000
/** Short, so that the deliveries to the unresponsive relying parties complete between two turns. */
const RETRIES_MS = Array.from({ length: 32 }, () => 2_000)
const SETTLE_MS = 180_000

/**
 * A tenth of the relying parties take the connection and never answer. Measures the latency of the others at half of the highest
 * rate, in turns whose events name only the healthy ones and turns whose events name all.
 */
export async function isolation(settings: Settings): Promise<readonly Row[]> {
  const { rounds, seconds, progress } = settings
  const parties = Math.max(settings.rps, 1 / HANGING_SHARE)
  await using stage = await openStage(settings)
  const { load, relyingParties } = stage
  const hanging = await stage.register('hanging', Math.round(parties * HANGING_SHARE), {
    curfew: { timeout_ms: TIMEOUT_MS, retry_schedule_ms: RETRIES_MS },
  })
  const healthy = await stage.register('healthy', parties - hanging.length)
  const alone = { event: { clients: [...healthy] }, owedTo: healthy.length }
  const together = { event: { clients: [...healthy, ...hanging] }, owedTo: parties }
  progress('looking for the highest rate')
  const eventsPerSecond = (await stage.highestRate(together)) / 2 / parties
  const options = { eventsPerSecond, seconds, of: { group: 'healthy', owedTo: healthy.length } }

  const turns: { alone: Latency; together: Latency }[] = []
  for (let round = 1; round <= rounds; round++) {
    const before = await load.latency(alone, options)
    await relyingParties.behave('hanging', 'hang')
    turns.push({ alone: before, together: await load.latency(together, options) })
    await relyingParties.behave('hanging', 'answer')
    progress(`round ${round} of ${rounds} at ${(eventsPerSecond * parties).toFixed(0)} deliveries/s`)
    if (round < rounds && !(await load.settled(SETTLE_MS))) {
      progress(`the unresponsive RPs did not get all deliveries within ${SETTLE_MS} ms: no more rounds`)
      break
    }
  }
  const row = (quantile: 'p50' | 'p99'): Row => ({
    measured: `healthy RPs while ${hanging.length} of ${parties} do not answer: 202 to first byte, ${quantile} ms`,
    values: turns.map((turn) => turn.together[quantile]),
    beside: { what: 'all answer', values: turns.map((turn) => turn.alone[quantile]) },
    ...(quantile === 'p99' && { target: 'ratio below 1.10' }),
  })
  return [row('p50'), row('p99')]
}
