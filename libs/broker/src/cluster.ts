import { EventLogUnavailableError } from '@curfew/domain'
import type { Admin } from 'kafkajs'
import { type Client, type ConnectionOptions, createClient, type KafkaLog, within } from './client.ts'
import { ensureTopics, type TopicKind, type TopicsSettings, topicName } from './topics.ts'

const CHECK_TIMEOUT_MS = 5_000
const ADMIN_REQUEST_TIMEOUT_MS = 4_000
const READY_TIMEOUT_MS = 15_000

/** The cluster and our topics in it. */
export interface Cluster {
  /** Creates topics that are missing and looks at the others. Once they have been seen, they are taken to stay until `lookAgain`. */
  ready(): Promise<void>
  /** The next `ready` looks at the topics anew: one of them is gone. */
  lookAgain(): void
  /** Resolves when these topics take records. @throws {EventLogUnavailableError} */
  check(kinds: readonly TopicKind[]): Promise<void>
  close(): Promise<void>
}

/** Opens nothing until it is asked. */
export function createCluster({
  connection,
  topics,
  log,
}: {
  connection: ConnectionOptions
  topics: TopicsSettings
  log: KafkaLog | undefined
}): Cluster {
  const admins = createAdmins(connection)
  let settingUp: Promise<void> | null = null

  function ready(): Promise<void> {
    settingUp ??= admins
      .use((admin) => ensureTopics(admin, topics, log), READY_TIMEOUT_MS)
      .catch((error: unknown) => {
        settingUp = null
        throw error
      })
    return settingUp
  }

  return {
    ready,
    lookAgain: () => {
      settingUp = null
    },
    async check(kinds) {
      try {
        await ready()
        // Fails while a partition has no leader, so that "it answers" means "it takes records".
        const names = kinds.map((kind) => topicName(kind, topics))
        await admins.use((admin) => admin.fetchTopicMetadata({ topics: names }), CHECK_TIMEOUT_MS)
      } catch (error) {
        throw new EventLogUnavailableError('Kafka does not answer', { cause: error })
      }
    },
    close: () => admins.close(),
  }
}

/** One administrative connection, opened when it is needed and given up at the first failure. */
function createAdmins(connection: ConnectionOptions) {
  let open: { client: Client; admin: Admin; connected: Promise<void> } | null = null

  function close(): void {
    open?.client.kill()
    open = null
  }
  return {
    async use<Result>(work: (admin: Admin) => Promise<Result>, timeoutMs: number): Promise<Result> {
      if (open === null) {
        const client = createClient(connection, ADMIN_REQUEST_TIMEOUT_MS)
        const admin = client.kafka.admin()
        open = { client, admin, connected: admin.connect() }
      }
      const { admin, connected } = open
      try {
        return await within(
          connected.then(() => work(admin)),
          timeoutMs,
          'asking Kafka',
        )
      } catch (error) {
        if (open?.admin === admin) close()
        throw error
      }
    },
    async close(): Promise<void> {
      const admin = open?.admin
      // A gentle end first, so that the broker logs none; `close` makes sure of it.
      if (admin !== undefined) await within(admin.disconnect(), 1_000, 'disconnecting').catch(() => undefined)
      close()
    },
  }
}
