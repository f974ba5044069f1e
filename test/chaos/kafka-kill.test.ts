import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { openKafka, type RunningKafka } from '../../deploy/kafka/broker.ts'
import { describeWithKafka, missingKafka } from '../support/kafka.ts'
import { useProcesses } from '../support/processes.ts'
import { type Cluster, LEASE_MS, type Member, openCluster } from './cluster.ts'
import { expectNothingLost, type LoadOptions, openRandom, type Random, startLoad } from './load.ts'

// Goal: no accepted logout is lost, whichever service, database or broker goes away, whenever. Method: the services as
// processes of their own over real Kafka and PostgreSQL, posted to without pause while one thing after the other is
// killed or cut off.

const processes = useProcesses()
const patiently = { timeout: 90_000 }

function loadOn({ ingestUrls, key, tallies }: Cluster, random: Random, options: Partial<LoadOptions> = {}) {
  return startLoad({ urls: ingestUrls, key, random, tally: tallies[0], ...options })
}

async function killAndStart(members: readonly Member[]): Promise<void> {
  await Promise.all(members.map((member) => member.kill()))
  for (const member of members) member.start()
  await Promise.all(members.map((member) => member.ready()))
}

/** As a machine does that is starved or migrated: when it wakes, others have taken over what it holds. */
async function sleepThroughLease({ process }: Member): Promise<void> {
  process.signal('SIGSTOP')
  await sleep(LEASE_MS * 2)
  process.signal('SIGCONT')
}

await describeWithKafka('over Kafka, every accepted logout arrives', (brokers) => {
  test(
    'though each service is killed in turn, both deliveries at once, and one sleeps too long',
    patiently,
    async () => {
      const random = openRandom('kafka-kill')
      const roles = ['ingest', 'ingest', 'delivery', 'delivery', 'console'] as const
      await using cluster = await openCluster(processes, { brokers, roles })
      const deliveries = cluster.members.filter(({ role }) => role === 'delivery')
      const blows = [
        ...cluster.members.map((member) => () => killAndStart([member])),
        () => killAndStart(deliveries),
        () => sleepThroughLease(random.pick(deliveries)),
      ]
      const load = loadOn(cluster, random)
      try {
        for (const blow of random.shuffled(blows)) {
          await load.progress(random.integer(50, 300))
          await sleep(random.next() * 50)
          await blow()
        }
        await load.progress(100)
      } finally {
        await load.stop()
      }
      await expectNothingLost('kafka-kill', { load, ...cluster })
    },
  )

  test('though PostgreSQL is away for a while, without a restart of anything', patiently, async () => {
    const random = openRandom('postgres-away')
    await using cluster = await openCluster(processes, { brokers, roles: ['ingest', 'delivery', 'console'] })
    const delivery = cluster.members.find(({ role }) => role === 'delivery')
    // Posting never waits for what PostgreSQL holds up.
    const load = loadOn(cluster, random, { underWayMax: Number.POSITIVE_INFINITY, pauseMs: 50 })
    try {
      for (const vanish of [() => cluster.gate.shut(), () => cluster.gate.swallow()]) {
        await load.progress(random.integer(50, 300))
        await sleep(random.next() * 50)
        await vanish()
        // Longer than a lease, so that the worker has to come back under a new name.
        await Promise.all([load.progress(200), sleep(LEASE_MS * 2.5)])
        expect((await fetch(`${delivery?.url}/readyz`)).status).toBe(503)
        await cluster.gate.open()
      }
      await load.progress(100)
    } finally {
      await load.stop()
    }
    await expectNothingLost('postgres-away', { load, ...cluster })
    expect(load.answers.get('503')).toBeUndefined()
    expect(cluster.members.map((member) => member.process.ended)).toEqual([null, null, null])
  })

  describe('though Kafka', () => {
    let kafka: RunningKafka
    let missing: string | null = null
    beforeAll(async () => {
      // Its own broker, because it is killed. KAFKA_BROKERS is left out for the same reason.
      const environment = { ...process.env, KAFKA_BROKERS: '' }
      const opened = await openKafka({ log: () => undefined, environment })
      if (opened.how !== 'none') kafka = opened
      else missing = missingKafka(opened.lookedFor)
    })
    beforeEach((context) => {
      if (missing !== null) context.skip(missing)
    })
    afterAll(() => kafka?.stop())

    test(
      'itself is killed under load and started again, without a restart of anything else',
      patiently,
      async () => {
        const random = openRandom('broker-kill')
        const roles = ['ingest', 'delivery', 'console'] as const
        await using cluster = await openCluster(processes, { brokers: kafka.brokers, roles })
        const load = loadOn(cluster, random)
        try {
          await load.progress(random.integer(50, 300))
          await sleep(random.next() * 50)
          await kafka.kill?.()
          await expect.poll(() => load.answers.get('503'), { timeout: 20_000 }).toBeGreaterThan(0)
          await kafka.restart?.()
          await load.progress(300, 40_000)
        } finally {
          await load.stop()
        }
        await expectNothingLost('broker-kill', { load, ...cluster })
        expect(cluster.members.map((member) => member.process.ended)).toEqual([null, null, null])
      },
    )
  })
})
