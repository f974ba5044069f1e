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

// Goal: no accepted logout is lost while one broker of three is unavailable, whichever it is and for whatever reason. Method: the
// services run as processes over three real brokers with three copies of each record, under constant load. One broker after the
// other goes away and comes back. At the end the records in the topics are counted too.

const processes = useProcesses()
const kafka = useOwnKafka(() => ({ brokers: 3 }))

/** The time that Kafka needs to start is added. */
const OUTAGE_MS_MAX = 3_000
const PATIENCE_MS = 60_000
const ROLES = ['ingest', 'ingest', 'delivery', 'delivery', 'console'] as const

/** The start and the end of a broker's outage. */
interface Fault {
  begin(node: KafkaNode): Promise<void>
  end(node: KafkaNode): Promise<void>
}

/** Applies `fault` to one broker after the other. Waits until all copies are in sync before the next. */
async function faultEach(chaos: Chaos, nodes: readonly KafkaNode[], fault: Fault): Promise<void> {
  const { random, struck } = chaos
  const { brokers, replicationFactor } = kafka()
  await using database = await createTestDatabase()
  await using cluster = await openCluster(processes, {
    ...{ brokers, replicationFactor, database, roles: ROLES },
    // No worker dies here, but three brokers on one machine may delay a worker's heartbeats.
    env: { CURFEW_LEASE_MS: '10000' },
  })
  const load = startLoad({ urls: cluster.ingestUrls, random, tally: cluster.tallies[0], ...cluster })
  try {
    for (const node of chaos.rounds(nodes)) {
      await untilInSync(brokers)
      await load.progress(random.integer(50, 300), PATIENCE_MS)
      chaos.report.accepted = load.accepted.size
      await fault.begin(node)
      // Two copies of each record remain, which is enough.
      await load.progress(50, PATIENCE_MS)
      await sleep(random.next() * OUTAGE_MS_MAX)
      await fault.end(node)
      struck(`broker ${node.id} was unavailable`)
    }
    await untilInSync(brokers)
    await load.progress(100, PATIENCE_MS)
  } finally {
    await load.stop()
  }
  await expectNothingLost(chaos, { load, log: await auditLog(brokers, cluster.topicPrefix), ...cluster })
  expect(cluster.members.map((member) => member.process.ended)).toEqual(ROLES.map(() => null))
}

/** All brokers in a long run, and `inShort` of them in a short one. */
function some({ long, random }: Chaos, inShort: number): readonly KafkaNode[] {
  const { nodes } = kafka()
  return long ? nodes : random.shuffled(nodes).slice(0, inShort)
}

chaosTest('brokers-restart', 'brokers are restarted gently, one after the other, under load', (chaos) =>
  faultEach(chaos, some(chaos, 2), {
    begin: (node) => node.stop(),
    end: (node) => node.restart(),
  }),
)

chaosTest('brokers-kill', 'brokers are killed and started again, one after the other, under load', (chaos) =>
  faultEach(chaos, some(chaos, 1), { begin: (node) => node.kill(), end: (node) => node.restart() }),
)

chaosTest('brokers-hang', 'brokers hang and wake up, one after the other, under load', (chaos) =>
  faultEach(chaos, some(chaos, 1), { begin: (node) => node.suspend(), end: (node) => node.resume() }),
)
