import { createKafkaEventLog, topicName } from '@curfew/broker'
import kafkajs, { type AclEntry } from 'kafkajs'
import { afterEach, expect, it, vi } from 'vitest'
import { smallTopics, uniquePrefix } from '../support/kafka.ts'
import { useOwnKafka } from '../support/own-kafka.ts'

// Goal: a consumer without the right to read reports it, and continues when it has the right again.
// Method: a real broker with ACLs, which are revoked and granted again.

const USERS = { admin: 'admin-password', worker: 'worker-password' }
const kafka = useOwnKafka(() => ({
  brokers: 1,
  security: { users: USERS },
  settings: {
    'authorizer.class.name': 'org.apache.kafka.metadata.authorizer.StandardAuthorizer',
    // Brokers connect to one another without a user name.
    'super.users': 'User:admin;User:ANONYMOUS',
    'allow.everyone.if.no.acl.found': 'true',
  },
}))
const patiently = { timeout: 40_000, interval: 20 }

const closers: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close()
})

async function openAdmin() {
  const { brokers } = kafka()
  const sasl = { mechanism: 'plain', username: 'admin', password: USERS.admin } as const
  const admin = new kafkajs.Kafka({ brokers: [...brokers], sasl, logLevel: kafkajs.logLevel.NOTHING }).admin()
  await admin.connect()
  closers.push(() => admin.disconnect())
  return admin
}

it.each([
  ['topic', kafkajs.AclResourceTypes.TOPIC],
  ['group', kafkajs.AclResourceTypes.GROUP],
])(
  'a consumer without the right to read its %s reports it, and continues when it has the right again',
  async (kind, resourceType) => {
    const prefix = uniquePrefix()
    const groupId = `${prefix}delivery`
    const log = createKafkaEventLog({
      ...{ brokers: kafka().brokers, clientId: 'test', groupId, sessionTimeoutMs: 3_000 },
      sasl: { mechanism: 'plain', username: 'worker', password: USERS.worker },
      topics: smallTopics(prefix, { partitions: 2 }),
      quarantine: async () => undefined,
    })
    closers.push(() => log.close())
    const seen: string[] = []
    const consumer = log.consume(
      { lane: 'interactive', batchSize: 10, batchesInFlight: 1, onError: () => undefined },
      async (batch) => {
        seen.push(...batch.map(({ key }) => key))
        return []
      },
    )
    closers.push(() => consumer.stop())
    const append = (key: string) =>
      log.append([{ lane: 'interactive', key, value: Buffer.from('x'), headers: {} }])
    await append('before')
    await vi.waitFor(() => expect(seen).toEqual(['before']), patiently)

    const admin = await openAdmin()
    const rule: AclEntry = {
      ...{ resourceType, resourceName: kind === 'topic' ? topicName('interactive', { prefix }) : groupId },
      resourcePatternType: kafkajs.ResourcePatternTypes.LITERAL,
      ...{ principal: 'User:worker', host: '*', operation: kafkajs.AclOperationTypes.READ },
      permissionType: kafkajs.AclPermissionTypes.DENY,
    }
    await admin.createAcls({ acl: [rule] })
    await vi.waitFor(
      () =>
        expect(consumer.status()).toEqual({
          state: 'unreadable',
          error: expect.objectContaining({ message: expect.stringMatching(/not authorized/i) }),
        }),
      patiently,
    )
    await admin.deleteAcls({ filters: [rule] })
    await vi.waitFor(() => append('after'), patiently)
    await vi.waitFor(() => expect(seen).toContain('after'), patiently)
    await vi.waitFor(() => expect(consumer.status()).toEqual({ state: 'consuming' }), patiently)
  },
  120_000,
)
