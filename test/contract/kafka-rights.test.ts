import { randomBytes } from 'node:crypto'
import { createKafkaEventLog, createKafkaMonitor } from '@curfew/broker'
import kafkajs from 'kafkajs'
import { afterEach, expect, test } from 'vitest'
import { smallTopics, uniquePrefix } from '../support/kafka.ts'
import { useOwnKafka } from '../support/own-kafka.ts'

// Goal: docs/operate/kafka.md names the rights that suffice, and a right to look that is missing keeps no logout out.
// Method: a real broker with ACLs, a user who has only those, and an operator who gives them.

const password = () => randomBytes(12).toString('hex')
const users = { operator: password(), curfew: password() }
const kafka = useOwnKafka(() => ({
  brokers: 1,
  security: { users },
  settings: {
    'authorizer.class.name': 'org.apache.kafka.metadata.authorizer.StandardAuthorizer',
    // Brokers reach each other without a name.
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

/** Gives the user rights on all whose name begins so. */
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

test('without the right to describe settings all work is done, and the missing right is named', async () => {
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
        actual: 'not told',
        wanted: 'told',
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
] as const)('without %s it is said what is refused', async (_missing, rights) => {
  const prefix = uniquePrefix()
  if (rights.length > 0) await allow(prefix, rights)
  const { log, monitor } = open(prefix)
  const refused =
    /^Kafka refuses the user of KAFKA_SASL_USERNAME, who lacks a right .*: Not authorized to access topics/
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
