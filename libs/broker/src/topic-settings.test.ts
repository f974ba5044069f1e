import { describe, expect, it } from 'vitest'
import { type FoundTopic, faultsOf, topicConfig } from './topic-settings.ts'
import { DEFAULT_TOPICS } from './topics.ts'

// Goal: a fault is severe only if it can lose or refuse records, and each fault comes with the command that corrects it.

const TOOLING = { brokers: ['kafka-1:9092', 'kafka-2:9092'], secured: false }
const BOOTSTRAP = '--bootstrap-server kafka-1:9092,kafka-2:9092'

function found({
  kind = 'interactive',
  changes = {},
  replicas = 3,
  count = 12,
}: {
  kind?: FoundTopic['kind']
  changes?: Readonly<Record<string, string>>
  replicas?: number
  count?: number
} = {}): FoundTopic {
  const config = topicConfig(kind, DEFAULT_TOPICS).map(({ name, value }) => [name, value] as const)
  return {
    topic: 'logout.events',
    kind,
    partitions: Array.from({ length: count }, (_, partition) => ({
      partition,
      led: true,
      replicas,
      inSync: replicas,
      isr: [],
      offline: [],
    })),
    config: new Map([...config, ...Object.entries(changes)]),
  }
}

const faults = (topic: FoundTopic) => faultsOf(topic, DEFAULT_TOPICS, TOOLING)

describe('the faults of a topic', () => {
  it('are none if its settings are those of a new topic', () => {
    expect(faults(found())).toEqual([])
  })

  it.each([
    ['cleanup.policy', 'compact', 'delete'],
    ['cleanup.policy', 'compact,delete', 'delete'],
    ['retention.ms', '3600000', '604800000'],
    ['retention.bytes', '1073741824', '-1'],
    ['max.message.bytes', '10000', '2097152'],
    ['min.insync.replicas', '1', '2'],
    ['min.insync.replicas', '4', '2'],
    ['unclean.leader.election.enable', 'true', 'false'],
  ])('are severe with %s=%s, and come with the command', (setting, actual, wanted) => {
    expect(faults(found({ changes: { [setting]: actual } }))).toEqual([
      {
        setting,
        actual,
        wanted,
        why: expect.any(String),
        fix: `kafka-configs.sh ${BOOTSTRAP} --alter --entity-type topics --entity-name logout.events --add-config ${setting}=${wanted}`,
        severe: true,
      },
    ])
  })

  it.each([
    ['retention.ms', '345600000'],
    ['min.insync.replicas', '3'],
    ['compression.type', 'zstd'],
    ['message.timestamp.type', 'CreateTime'],
  ])('are minor with %s=%s', (setting, actual) => {
    expect(faults(found({ changes: { [setting]: actual } }))).toMatchObject([
      { setting, actual, severe: false },
    ])
  })

  it.each([
    ['retention.ms', '-1'],
    ['retention.ms', '2419200000'],
    ['max.message.bytes', '10485760'],
  ])('are none with %s=%s, which is as good', (setting, actual) => {
    expect(faults(found({ changes: { [setting]: actual } }))).toEqual([])
  })

  it('are not severe if the ledger has the same data as the topic', () => {
    const topic = found({ kind: 'outcomes', changes: { 'cleanup.policy': 'compact' } })
    expect(faults(topic)).toMatchObject([{ setting: 'cleanup.policy', severe: false }])
  })

  it('have one command for all settings of a topic', () => {
    const both = faults(found({ changes: { 'cleanup.policy': 'compact', 'compression.type': 'zstd' } }))
    const fix = `kafka-configs.sh ${BOOTSTRAP} --alter --entity-type topics --entity-name logout.events --add-config cleanup.policy=delete,compression.type=producer`
    expect(both).toMatchObject([
      { setting: 'cleanup.policy', fix },
      { setting: 'compression.type', fix },
    ])
  })

  it('say that keys move if partitions are added', () => {
    expect(faults(found({ count: 6 }))).toEqual([
      {
        setting: 'partitions',
        actual: '6',
        wanted: '12',
        why: 'fewer workers share the records',
        fix: expect.stringMatching(
          /keys move .* kafka-topics\.sh --bootstrap-server \S+ --alter --topic logout\.events --partitions 12$/,
        ),
        severe: false,
      },
    ])
  })

  it('name too few replicas, and do not ask one replica for two in sync', () => {
    expect(faults(found({ replicas: 1, changes: { 'min.insync.replicas': '1' } }))).toMatchObject([
      { setting: 'replicas', actual: '1', wanted: '3', severe: true },
    ])
  })

  it('name the partitions that take no records', () => {
    const topic = found()
    const partitions = topic.partitions.map((each) => {
      if (each.partition === 4) return { ...each, led: false }
      return each.partition === 7 ? { ...each, inSync: 1 } : each
    })
    expect(faults({ ...topic, partitions })).toMatchObject([
      { actual: '4 (no leader), 7 (1 of 2 replicas in sync)', severe: true },
    ])
  })

  it('name a missing topic, and the command that creates it', () => {
    expect(faults({ ...found({ count: 0 }) })).toMatchObject([
      {
        setting: 'topic',
        actual: 'missing',
        fix: expect.stringContaining(
          `kafka-topics.sh ${BOOTSTRAP} --create --topic logout.events --partitions 12 --replication-factor 3 --config cleanup.policy=delete`,
        ),
        severe: true,
      },
    ])
  })

  it('name unreadable settings, and the options of commands for a secured cluster', () => {
    const topic = { ...found(), config: null }
    expect(faultsOf(topic, DEFAULT_TOPICS, { ...TOOLING, secured: true })).toMatchObject([
      {
        setting: 'settings',
        fix: `kafka-acls.sh ${BOOTSTRAP} --command-config client.properties --add --allow-principal User:NAME --operation DescribeConfigs --topic logout.events`,
        severe: false,
      },
    ])
  })
})
