import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect } from 'vitest'
import { startStandalone, useProcesses } from '../support/processes.ts'
import { expectNothingLost } from './account.ts'
import { chaosTest } from './chaos.ts'
import { openDisk } from './disk.ts'
import { openTally, register, startLoad } from './load.ts'

// Goal: with a full disk, logouts are refused with 503 and none is lost. Once there is room again, Curfew recovers by itself.
// Method: `curfew up` with its data on a disk that is filled and freed again under load.

const processes = useProcesses()
const FULL_MS_MAX = 3_000

chaosTest('full-disk', 'the disk of the embedded database is full for a while', async (chaos, context) => {
  const { random } = chaos
  const opened = await openDisk(processes)
  if ('missing' in opened) {
    if (process.env.CI === 'true') throw new Error(opened.missing)
    chaos.say(`SKIPPED, ${opened.missing}`)
    context.skip(opened.missing)
    return
  }
  await using disk = opened
  chaos.say(`the disk is ${disk.how}`)
  const key = `cfw_${randomBytes(32).toString('base64url')}`
  const curfew = await startStandalone(processes, {
    dataFolder: disk.folder,
    env: { CURFEW_ADMIN_KEY: key, CURFEW_ALLOWED_NETWORKS: '127.0.0.0/8' },
  })
  const { pid } = curfew.process
  const tallies = await Promise.all([openTally('mail'), openTally('wiki')])
  const [tally] = tallies
  await register(curfew.client, tallies)
  // Posting never waits for deliveries that the full disk blocks.
  const underWayMax = Number.POSITIVE_INFINITY
  const load = startLoad({ urls: [curfew.url], key, random, tally, underWayMax, pauseMs: 50 })
  try {
    for (const _fault of chaos.rounds(['full'])) {
      await load.progress(random.integer(50, 300))
      const before = load.answers.get('503') ?? 0
      await disk.fill(pid)
      await expect.poll(() => load.answers.get('503'), { timeout: 30_000 }).toBeGreaterThan(before)
      await sleep(random.next() * FULL_MS_MAX)
      await disk.free(pid)
      chaos.report.accepted = load.accepted.size
      chaos.struck('the disk was full for a while')
    }
    await load.progress(100, 40_000)
    await load.stop()
    await expectNothingLost(chaos, { load, tallies, client: curfew.client })
    expect(curfew.process.ended).toBeNull()
  } finally {
    await load.stop()
    await Promise.all(tallies.map((each) => each.close()))
    await curfew.process.kill()
  }
})
