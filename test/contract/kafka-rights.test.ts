import { randomBytes } from 'node:crypto'
import { createKafkaEventLog, createKafkaMonitor } from '@curfew/broker'
import kafkajs from 'kafkajs'
import { afterEach, expect, test } from 'vitest'
import { smallTopics, uniquePrefix } from '../support/kafka.ts'
import { useOwnKafka } from '../support/own-kafka.ts'

// Goal: the rights that docs/operate/kafka.md names are enough, and without the right to describe settings logouts are still accepted.
// Method: a real broker with ACLs, a user with only those rights, and an operator that grants them.

const password = () => randomBytes(12).toString('hex')
const users = { operator: password(), curfew: password() }
const kafka = useOwnKafka(() => ({
  brokers: 1,
  security: { users },
  settings: {
    'authorizer.class.name': 'org.apache.kafka.metadata.authorizer.StandardAuthorizer',
    // Brokers connect to one another without a user name.
    'super.users': 'User:operator;User:ANONYMOUS',
  },
}))
const patiently = { timeout: 30_000, interval: 100 }

const closers: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close()
})

const login = (username: keyof typeof users) => ({
  brokers: [...kafka().brokers],
  clientId: username,
  sasl: { mechanism: 'scram-sha-512', username, password: users[username] } as const,
})

const { AclOperationTypes: can, AclResourceTypes: kinds } = kafkajs

/** Grants the user rights on every resource whose name begins with `prefix`. */
async function allow(
  prefix: string,
  rights: readonly (readonly [resource: kafkajs.AclResourceTypes, operation: kafkajs.AclOperationTypes])[],
): Promise<void> {
  const admin = new kafkajs.Kafka({ ...login('operator'), logLevel: kafkajs.logLevel.NOTHING }).admin()
  await admin.connect()
  await admin.createAcls({
    acl: rights.map(([resourceType, operation]) => ({
      resourceType,
      resourceName: prefix,
      resourcePatternType: kafkajs.ResourcePatternTypes.PREFIXED,
      principal: 'User:curfew',
      host: '*',
      operation,
      permissionType: kafkajs.AclPermissionTypes.ALLOW,
    })),
  })
  await admin.disconnect()
}

const WORK = [
  [kinds.TOPIC, can.CREATE],
  [kinds.TOPIC, can.READ],
  [kinds.TOPIC, can.WRITE],
  [kinds.TOPIC, can.DESCRIBE],
  [kinds.GROUP, can.READ],
  [kinds.GROUP, can.DESCRIBE],
] as const

function open(prefix: string) {
  const options = {
    ...login('curfew'),
    groupId: `${prefix}curfew`,
    topics: smallTopics(prefix, { partitions: 2 }),
  }
  const log = createKafkaEventLog({ ...options, quarantine: async () => undefined })
  closers.push(() => log.close())
  return { log, monitor: createKafkaMonitor(options) }
}

test('without the right to describe settings everything works, and the monitor names the missing right', async () => {
  const prefix = uniquePrefix()
  await allow(prefix, WORK)
  const { log, monitor } = open(prefix)
  await expect.poll(() => log.check().then(() => 'ready', String), patiently).toBe('ready')
  await log.append([{ lane: 'interactive', key: 'a', value: new Uint8Array([1]), headers: {} }])
  const seen: string[] = []
  const consumer = log.consume(
    { lane: 'interactive', batchSize: 10, batchesInFlight: 1, onError: () => undefined },
    async (batch) => {
      seen.push(...batch.map(({ key }) => key))
      return []
    },
  )
  closers.push(() => consumer.stop())
  await expect.poll(() => seen, patiently).toEqual(['a'])
  await expect
    .poll(async () => (await monitor.look()).lanes[0], patiently)
    .toMatchObject({ unknown: null, waiting: 0, unassigned: [] })
  const { topics } = await monitor.look()
  const topic = `${prefix}logout.events`
  expect(topics[0]).toEqual({
    topic,
    faults: [
      {
        setting: 'settings',
        actual: 'unreadable',
        wanted: 'readable',
        why: 'Kafka refuses to describe them to this service',
        fix: `kafka-acls.sh --bootstrap-server ${kafka().brokers.join(',')} --command-config client.properties --add --allow-principal User:NAME --operation DescribeConfigs --topic ${topic}`,
        severe: false,
      },
    ],
  })
  await allow(prefix, [[kinds.TOPIC, can.DESCRIBE_CONFIGS]])
  await expect.poll(async () => (await monitor.look()).topics[0]?.faults, patiently).toEqual([])
})

test.each([
  ['any right', []],
  ['the right to create topics', [[kinds.TOPIC, can.DESCRIBE]]],
] as const)('without %s the check and the monitor report the refusal', async (_missing, rights) => {
  const prefix = uniquePrefix()
  if (rights.length > 0) await allow(prefix, rights)
  const { log, monitor } = open(prefix)
  const refused =
    /^Kafka refuses the user of KAFKA_SASL_USERNAME, which lacks a right .*: Not authorized to access topics/
  const why = () =>
    log.check().then(
      () => 'ready',
      (error: Error) => error.message,
    )
  await expect.poll(why, patiently).toMatch(refused)
  const seen = () =>
    monitor.look().then(
      ({ topics }) => topics[0]?.faults[0]?.actual,
      (error: Error) => error.message,
    )
  await expect.poll(seen, patiently).toMatch(rights.length > 0 ? /^missing$/ : refused)
})
