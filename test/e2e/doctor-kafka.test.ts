import { createKafkaEventLog, createKafkaMonitor, topicName } from '@curfew/broker'
import type { EventLogMonitor } from '@curfew/domain'
import kafkajs from 'kafkajs'
import { expect, test } from 'vitest'
import { openCurfew } from '../support/curfew.ts'
import { describeWithKafka, smallTopics, uniquePrefix } from '../support/kafka.ts'
import { runCurfew, useProcesses } from '../support/processes.ts'

// Goal: an operator at a terminal sees the faults of Kafka, and the commands that fix them.
// Method: the real command against the real API, over a real broker, without a delivery worker.

const processes = useProcesses()

await describeWithKafka('doctor over Kafka', (brokers) => {
  async function openOver(monitor: EventLogMonitor) {
    const curfew = await openCurfew({ workers: 0, monitor })
    const doctor = async (...args: readonly string[]) =>
      runCurfew(processes, ['doctor', ...args], { CURFEW_URL: curfew.url, CURFEW_KEY: curfew.adminKey })
    return { doctor, keyFor: curfew.keyFor, [Symbol.asyncDispose]: () => curfew.stop() }
  }

  test('reports wrong topic settings and the backlog, and how to fix them', async () => {
    const prefix = uniquePrefix()
    const options = {
      brokers,
      clientId: 'test',
      groupId: `${prefix}curfew`,
      topics: smallTopics(prefix, { partitions: 2 }),
    }
    const topic = topicName('interactive', { prefix })
    const kafka = new kafkajs.Kafka({
      brokers: [...brokers],
      clientId: 'operator',
      logLevel: kafkajs.logLevel.NOTHING,
    })
    const admin = kafka.admin()
    await admin.connect()
    const configEntries = [{ name: 'cleanup.policy', value: 'compact' }]
    await admin.createTopics({
      topics: [{ topic, numPartitions: 2, replicationFactor: 1, configEntries }],
      waitForLeaders: true,
    })
    await admin.disconnect()
    const log = createKafkaEventLog({ ...options, quarantine: async () => undefined })
    await log.append([{ lane: 'sessions', key: 'a', value: Buffer.from('{}'), headers: {} }])
    await log.close()

    await using curfew = await openOver(createKafkaMonitor(options))
    const { code, stdout } = await curfew.doctor()
    expect(code).toBe(1)
    expect(stdout).toMatch(/^WRONG +lane interactive +partitions 0, 1 without a worker; no record waits$/m)
    expect(stdout).toMatch(
      /^WRONG +lane sessions +partitions 0, 1 without a worker; 1 record waits, the oldest for \d+ s$/m,
    )
    expect(stdout).toContain(`cleanup.policy is compact and must be delete: compaction removes`)
    expect(stdout).toContain(
      `topic ${topic}: kafka-configs.sh --bootstrap-server ${brokers.join(',')} --alter --entity-type topics --entity-name ${topic} --add-config cleanup.policy=delete,`,
    )
    expect(stdout).toMatch(new RegExp(`^note +topic ${topic} +message\\.timestamp\\.type is CreateTime`, 'm'))
    expect(stdout).toMatch(
      new RegExp(`^ok +topic ${topicName('bulk', { prefix })} +has the wanted settings$`, 'm'),
    )
    expect(stdout).toMatch(
      new RegExp(
        `^note +topic ${topicName('outcomes', { prefix })} +topic is missing and should be present`,
        'm',
      ),
    )
  })

  test('reports that Kafka does not answer', async () => {
    const monitor = createKafkaMonitor({ brokers: ['127.0.0.1:1'], clientId: 'test', groupId: 'curfew' })
    await using curfew = await openOver(monitor)
    const { code, stdout } = await curfew.doctor()
    expect(code).toBe(1)
    expect(stdout).toMatch(/^WRONG +lanes of the event log +Kafka does not answer: /m)
    expect(stdout).toContain('the same KAFKA_ settings')
  })

  test('reports a key without access to the event log, which is only a note with --issuer', async () => {
    const monitor = createKafkaMonitor({ brokers, clientId: 'test', groupId: 'curfew' })
    await using curfew = await openOver(monitor)
    const key = curfew.keyFor('clients:read', 'deadletters:read')
    const all = await curfew.doctor('--key', key)
    expect(all.stdout).toMatch(/^WRONG +lanes of the event log +were not checked: Curfew answered 403/m)
    const one = await curfew.doctor('--key', key, '--issuer', 'main')
    expect(one.stdout).toMatch(/^note +lanes of the event log +were not checked: Curfew answered 403/m)
    const unknown = await curfew.doctor('--key', 'cfw_unknown')
    expect(unknown.stdout).toMatch(/^lanes of the event log: Set CURFEW_KEY, or --key, to a valid key\.$/m)
  })
})
