import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import {
  endServers,
  type Standalone,
  spawnStandalone,
  startStandalone,
  useProcesses,
} from '../support/processes.ts'
import { expectNothingLost, freePort, openRandom, openTally, register, startLoad } from './load.ts'

// Goal: no accepted logout is lost, whatever is killed, whenever. Method: `curfew up` in a process of its own is posted
// to without pause, and it, its database or both are killed with SIGKILL at random moments, and started again.

const processes = useProcesses()
/** `twice`: once more while it starts again. */
const KINDS = ['curfew', 'both', 'database', 'twice', 'both', 'curfew'] as const
/** A start takes about so long. */
const START_MS = 800

test('curfew up, its database, or both, are killed again and again under load: every accepted logout arrives', {
  timeout: 120_000,
}, async () => {
  const random = openRandom('standalone-kill')
  const dataFolder = await processes.dataFolder()
  const key = `cfw_${randomBytes(32).toString('base64url')}`
  const port = await freePort()
  const env = {
    CURFEW_PORT: String(port),
    CURFEW_ADMIN_KEY: key,
    CURFEW_ALLOWED_NETWORKS: '127.0.0.0/8',
  }
  const start = () => startStandalone(processes, { dataFolder, env })
  let curfew: Standalone = await start()
  const tallies = await Promise.all([openTally('mail'), openTally('wiki')])
  const [tally] = tallies
  await register(curfew.client, tallies)
  const load = startLoad({ urls: [curfew.url], key, random, tally })
  try {
    for (const kind of random.shuffled(KINDS)) {
      await load.progress(random.integer(50, 400))
      await sleep(random.next() * 50)
      if (kind !== 'database') curfew.process.signal('SIGKILL')
      if (kind === 'both' || kind === 'database') expect(endServers(dataFolder, 'SIGKILL')).toBe(true)
      if (kind === 'database') continue
      await curfew.process.exit()
      if (kind === 'twice') {
        const starting = spawnStandalone(processes, { dataFolder, env })
        await sleep(random.next() * START_MS)
        await starting.kill()
      }
      curfew = await start()
    }
    await load.progress(100)
    await load.stop()
    await expectNothingLost('standalone-kill', { load, tallies, client: curfew.client })
    expect(curfew.process.ended).toBeNull()
  } finally {
    await load.stop()
    await Promise.all(tallies.map((each) => each.close()))
  }
})
