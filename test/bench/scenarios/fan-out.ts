import type { Row } from '../scenarios.ts'
import { openStage } from '../stage.ts'
import type { Settings } from '../turns.ts'

const PARTIES = 10_000

/**
 * Posts one event that is owed to 10,000 relying parties. Measures the time from the 202 to the first byte at the last of them.
 */
export async function fanOut(settings: Settings): Promise<readonly Row[]> {
  const { rounds, scale, progress } = settings
  const parties = Math.max(10, Math.round(PARTIES * scale))
  await using stage = await openStage(settings)
  progress(`registering ${parties} relying parties`)
  await stage.register('rps', parties)
  progress("looking for the bare loop's best concurrency")
  const concurrency = await stage.bare.bestConcurrency()
  await stage.load.untilAllReached({ owedTo: parties })
  const [values, bare]: [number[], number[]] = [[], []]
  for (let round = 1; round <= rounds; round++) {
    bare.push(parties / (await stage.bare.turn(concurrency, { posts: parties })).rate)
    values.push((await stage.load.untilAllReached({ owedTo: parties })) / 1_000)
    progress(
      `round ${round} of ${rounds}: bare ${bare.at(-1)?.toFixed(2)} s, Curfew ${values.at(-1)?.toFixed(2)} s`,
    )
  }
  return [
    {
      measured: `one event to ${parties} RPs: 202 to the last first byte, s`,
      values,
      beside: { what: `bare loop posts ${parties}`, values: bare },
    },
  ]
}
