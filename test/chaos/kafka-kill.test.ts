import { setTimeout as sleep } from 'node:timers/promises'
import { expect } from 'vitest'
import { createTestDatabase } from '../support/database.ts'
import { uniquePrefix } from '../support/kafka.ts'
import { auditLog, createLanes } from '../support/kafka-admin.ts'
import { useOwnKafka } from '../support/own-kafka.ts'
import { useProcesses } from '../support/processes.ts'
import { expectNothingLost } from './account.ts'
import { chaosTest } from './chaos.ts'
import { LEASE_MS, type Member, openCluster, openLedger, type Role, SESSION_MS } from './cluster.ts'
import { startLoad } from './load.ts'
import type { Random } from './random.ts'

// Goal: no accepted logout is lost, whichever service, database or broker fails, at any time. Method: the services run as
// processes over real Kafka and PostgreSQL under constant load. One thing after the other is killed, stopped or cut off.

const processes = useProcesses()
// Its own broker, because the case kills it.
const kafka = useOwnKafka(() => ({ brokers: 1 }))

/** The time that Kafka needs to start is added. After 5 s, posts are answered with 503. */
const OUTAGE_MS_MAX = 3_000
/** About the time that a worker needs to start and join its group. */
const REBALANCE_MS = 2_000

/** At least one of the members, at random. */
function some(random: Random, members: readonly Member[]): readonly Member[] {
  return random.shuffled(members).slice(0, random.integer(1, members.length))
}

async function killAndStart(members: readonly Member[]): Promise<void> {
  await Promise.all(members.map((member) => member.kill()))
  for (const member of members) member.start()
  await Promise.all(members.map((member) => member.ready()))
}

/** Suspends processes as a starved or migrated machine does. When they wake, other processes have taken over their work. */
async function sleepThroughSession(
  members: readonly Member[],
  othersGoOn: () => Promise<void>,
): Promise<void> {
  for (const { process } of members) process.signal('SIGSTOP')
  await Promise.all([sleep(SESSION_MS + LEASE_MS), othersGoOn()])
  for (const { process } of members) process.signal('SIGCONT')
  await Promise.all(members.map((member) => member.ready()))
}

chaosTest(
  'services-kill',
  'over Kafka, ingest, delivery, console, the database and the broker are killed at random, and some sleep too long',
  async (chaos) => {
    const { random, struck } = chaos
    const roles = ['ingest', 'ingest', 'delivery', 'delivery', 'console'] as const
    await using ledger = await openLedger(processes)
    await using cluster = await openCluster(processes, { brokers: kafka().brokers, database: ledger, roles })
    const all = (role: Role) => cluster.members.filter((member) => member.role === role)
    const load = startLoad({ urls: cluster.ingestUrls, random, tally: cluster.tallies[0], ...cluster })

    const kill = (members: readonly Member[]) => async () => {
      const killed = some(random, members)
      await killAndStart(killed)
      struck(`killed ${killed.map(({ name }) => name).join(' and ')}`, killed.length)
    }
    const faults = [
      kill([...all('ingest'), ...all('console')]),
      kill(all('delivery')),
      async () => {
        ledger.kill()
        struck('killed PostgreSQL')
      },
      async () => {
        await kafka().kill()
        await sleep(random.next() * OUTAGE_MS_MAX)
        await kafka().restart()
        struck('killed Kafka')
      },
      async () => {
        const asleep = [random.pick(all('ingest')), random.pick(all('delivery'))]
        const delivered = cluster.tallies[0].times.size
        // The delay depends on when Kafka reassigns the partitions, and Kafka itself may have been killed shortly before.
        await sleepThroughSession(asleep, () =>
          expect.poll(() => cluster.tallies[0].times.size, { timeout: 40_000 }).toBeGreaterThan(delivered),
        )
        struck(`suspended ${asleep.map(({ name }) => name).join(' and ')} for a while`, asleep.length)
      },
    ]
    try {
      for (const inject of chaos.rounds(faults)) {
        await load.progress(random.integer(50, 300), 40_000)
        await sleep(random.next() * 50)
        chaos.report.accepted = load.accepted.size
        await inject()
      }
      await load.progress(100, 40_000)
    } finally {
      await load.stop()
    }
    await expectNothingLost(chaos, { load, ...cluster })
    expect(cluster.members.map((member) => member.process.ended)).toEqual(roles.map(() => null))
  },
)

chaosTest(
  'postgres-away',
  'PostgreSQL is unavailable while events are posted over Kafka: all are kept, and delivered without a restart',
  async (chaos) => {
    const { random, struck } = chaos
    const roles = ['ingest', 'delivery', 'console'] as const
    await using database = await createTestDatabase()
    await using cluster = await openCluster(processes, { brokers: kafka().brokers, database, roles })
    const delivery = cluster.members.find(({ role }) => role === 'delivery')
    const load = startLoad({
      urls: cluster.ingestUrls,
      random,
      tally: cluster.tallies[0],
      // Posting never waits for deliveries that PostgreSQL blocks.
      underWayMax: Number.POSITIVE_INFINITY,
      pauseMs: chaos.long ? 200 : 50,
      ...cluster,
    })
    // Longer than a lease, so that the worker must register under a new name.
    const outageMs = chaos.long ? 60_000 : LEASE_MS * 5
    const ways = [
      { name: 'refused', vanish: () => cluster.gate.shut() },
      { name: 'swallowed', vanish: async () => cluster.gate.swallow() },
    ]
    try {
      for (const { name, vanish } of chaos.rounds([random.pick(ways)])) {
        await load.progress(random.integer(50, 300))
        await sleep(random.next() * 50)
        await vanish()
        await Promise.all([load.progress(200), sleep(outageMs)])
        expect((await fetch(`${delivery?.url}/readyz`)).status).toBe(503)
        await cluster.gate.open()
        chaos.report.accepted = load.accepted.size
        struck(`all connections to PostgreSQL were ${name} for ${outageMs / 1_000} s`)
      }
      await load.progress(100)
    } finally {
      await load.stop()
    }
    await expectNothingLost(chaos, { load, ...cluster })
    expect(load.answers.get('503')).toBeUndefined()
    expect(cluster.members.map((member) => member.process.ended)).toEqual([null, null, null])
  },
)

chaosTest(
  'workers-churn',
  'more delivery workers than partitions start and stop before their group has settled',
  async (chaos) => {
    const { random, struck } = chaos
    const { brokers } = kafka()
    const roles = ['ingest', 'delivery', 'delivery', 'delivery', 'console'] as const
    const topicPrefix = uniquePrefix()
    await createLanes(brokers, topicPrefix, 2)
    await using database = await createTestDatabase()
    await using cluster = await openCluster(processes, { brokers, database, roles, topicPrefix })
    const workers = cluster.members.filter(({ role }) => role === 'delivery')
    const load = startLoad({ urls: cluster.ingestUrls, random, tally: cluster.tallies[0], ...cluster })
    const waitBriefly = () => sleep(random.next() * REBALANCE_MS)

    const leave = async (member: Member) => {
      await member.stop()
      member.start()
      struck(`${member.name} was stopped`)
    }
    const die = async (member: Member) => {
      await member.kill()
      member.start()
      struck(`killed ${member.name}`)
    }
    /** Kills a member during the rebalance after another member's leave, and a joining member during the next. */
    const dieInRebalance = async () => {
      const [one, other] = random.shuffled(workers) as [Member, Member]
      await one.stop()
      await waitBriefly()
      await other.kill()
      one.start()
      await waitBriefly()
      await one.kill()
      one.start()
      other.start()
      struck(`killed ${other.name} and ${one.name} in rebalances`, 3)
    }
    try {
      for (const inject of chaos.rounds([leave, die, dieInRebalance])) {
        await load.progress(random.integer(50, 300), 90_000)
        chaos.report.accepted = load.accepted.size
        await inject(random.pick(workers))
        await waitBriefly()
      }
      await Promise.all(workers.map((worker) => worker.ready()))
      await load.progress(100, 90_000)
    } finally {
      await load.stop()
    }
    await expectNothingLost(chaos, { load, log: await auditLog(brokers, topicPrefix), ...cluster })
    expect(cluster.members.map((member) => member.process.ended)).toEqual(roles.map(() => null))
  },
)
