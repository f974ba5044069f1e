import { setTimeout as sleep } from 'node:timers/promises'
import { expect } from 'vitest'
import type { KafkaNode } from '../../deploy/kafka/broker.ts'
import { createTestDatabase } from '../support/database.ts'
import { auditLog, untilInSync } from '../support/kafka-admin.ts'
import { useOwnKafka } from '../support/own-kafka.ts'
import { useProcesses } from '../support/processes.ts'
import { expectNothingLost } from './account.ts'
import { type Chaos, chaosTest } from './chaos.ts'
import { openCluster } from './cluster.ts'
import { startLoad } from './load.ts'

// Goal: no accepted logout is lost while one broker of three is away, whichever it is and however it went. Method: the
// services as processes of their own over three real brokers with three copies of each record, posted to without pause.
// One broker after the other goes away and comes back. In the end the records in the topics are counted too.

const processes = useProcesses()
const kafka = useOwnKafka(() => ({ brokers: 3 }))

/** What Kafka needs to start comes on top. */
const OUTAGE_MS_MAX = 3_000
const PATIENCE_MS = 60_000
const ROLES = ['ingest', 'ingest', 'delivery', 'delivery', 'console'] as const

/** How a broker goes away, and how it comes back. */
interface Fault {
  goAway(node: KafkaNode): Promise<void>
  comeBack(node: KafkaNode): Promise<void>
}

/** Does to one broker after the other what `fault` is, and to the next only when all copies are in sync again. */
async function takeTurns(chaos: Chaos, nodes: readonly KafkaNode[], fault: Fault): Promise<void> {
  const { random, struck } = chaos
  const { brokers, replicationFactor } = kafka()
  await using database = await createTestDatabase()
  await using cluster = await openCluster(processes, {
    ...{ brokers, replicationFactor, database, roles: ROLES },
    // No worker dies here, and three brokers may keep one from its heartbeats for a while.
    env: { CURFEW_LEASE_MS: '10000' },
  })
  const load = startLoad({ urls: cluster.ingestUrls, random, tally: cluster.tallies[0], ...cluster })
  try {
    for (const node of chaos.turns(nodes)) {
      await untilInSync(brokers)
      await load.progress(random.integer(50, 300), PATIENCE_MS)
      chaos.report.accepted = load.accepted.size
      await fault.goAway(node)
      // Two copies of each record are left, which is enough.
      await load.progress(50, PATIENCE_MS)
      await sleep(random.next() * OUTAGE_MS_MAX)
      await fault.comeBack(node)
      struck(`broker ${node.id} was away`)
    }
    await untilInSync(brokers)
    await load.progress(100, PATIENCE_MS)
  } finally {
    await load.stop()
  }
  await expectNothingLost(chaos, { load, log: await auditLog(brokers, cluster.topicPrefix), ...cluster })
  expect(cluster.members.map((member) => member.process.ended)).toEqual(ROLES.map(() => null))
}

/** All brokers in a long run, and so many of them in a short one. */
function some({ long, random }: Chaos, inShort: number): readonly KafkaNode[] {
  const { nodes } = kafka()
  return long ? nodes : random.shuffled(nodes).slice(0, inShort)
}

chaosTest('brokers-restart', 'brokers are restarted gently, one after the other, under load', (chaos) =>
  takeTurns(chaos, some(chaos, 2), {
    goAway: (node) => node.stop(),
    comeBack: (node) => node.restart(),
  }),
)

chaosTest('brokers-kill', 'brokers are killed and started again, one after the other, under load', (chaos) =>
  takeTurns(chaos, some(chaos, 1), { goAway: (node) => node.kill(), comeBack: (node) => node.restart() }),
)

chaosTest('brokers-hang', 'brokers hang and wake up, one after the other, under load', (chaos) =>
  takeTurns(chaos, some(chaos, 1), { goAway: (node) => node.suspend(), comeBack: (node) => node.resume() }),
)
