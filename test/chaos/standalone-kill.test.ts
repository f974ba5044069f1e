import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect } from 'vitest'
import { freePort } from '../../deploy/server/ports.ts'
import {
  endServers,
  type Standalone,
  spawnStandalone,
  startStandalone,
  useProcesses,
} from '../support/processes.ts'
import { expectNothingLost } from './account.ts'
import { chaosTest } from './chaos.ts'
import { openTally, register, startLoad } from './load.ts'

// Goal: no accepted logout is lost, whichever process is killed, at any time. Method: `curfew up` runs in its own process under
// constant load. It, its database or both are killed with SIGKILL at random times, and started again.

const processes = useProcesses()
/** `twice`: kills it again while it starts. */
const KINDS = ['curfew', 'both', 'database', 'twice'] as const
/** About the time that a start takes. */
const START_MS = 800

chaosTest(
  'standalone-kill',
  'curfew up, its database or both are killed repeatedly under load',
  async (chaos) => {
    const { random } = chaos
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
      for (const kind of chaos.rounds(KINDS)) {
        await load.progress(random.integer(50, 400))
        await sleep(random.next() * 50)
        expect(curfew.process.ended).toBeNull()
        chaos.report.accepted = load.accepted.size
        if (kind !== 'database') curfew.process.signal('SIGKILL')
        if (kind === 'both' || kind === 'database') expect(endServers(dataFolder, 'SIGKILL')).toBe(true)
        chaos.struck(`killed: ${kind}`, kind === 'both' || kind === 'twice' ? 2 : 1)
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
      await expectNothingLost(chaos, { load, tallies, client: curfew.client })
      expect(curfew.process.ended).toBeNull()
    } finally {
      await load.stop()
      await Promise.all(tallies.map((each) => each.close()))
    }
  },
)
