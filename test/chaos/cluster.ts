import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { type Client, createClient } from '@curfew/client'
import { openEmbeddedPostgres } from '@curfew/embedded'
import { migrate, openDatabase } from '@curfew/ledger'
import { expect } from 'vitest'
import { freePort } from '../../deploy/server/ports.ts'
import { type Gate, openGate } from '../support/gate.ts'
import { uniquePrefix } from '../support/kafka.ts'
import { endServers, type Processes, type TestProcess } from '../support/processes.ts'
import { openTally, register, type Tally } from './load.ts'

export type Role = 'ingest' | 'delivery' | 'console' | 'bookkeeper'

/** One service in its own process. It keeps its address when it is started again. */
export interface Member {
  readonly role: Role
  readonly name: string
  readonly url: string
  readonly process: TestProcess
  /** Sends SIGKILL. @throws {Error} if the process had ended by itself. */
  kill(): Promise<void>
  /** Sends SIGTERM, and waits until the service has drained. @throws {Error} if the process had ended by itself. */
  stop(): Promise<void>
  start(): void
  /** Resolves when the service is ready. */
  ready(): Promise<void>
}

/** A migrated database on its own PostgreSQL, because the case kills it. */
export interface Ledger extends AsyncDisposable {
  readonly url: string
  /** Sends SIGKILL to the postmaster, which is started again at the same address. */
  kill(): void
}

export async function openLedger(processes: Processes): Promise<Ledger> {
  const folder = await processes.dataFolder()
  const postgres = await openEmbeddedPostgres({ dataDir: join(folder, 'postgres'), log: () => undefined })
  const db = await openDatabase(postgres.url)
  await migrate(db)
  await db.end()
  return {
    url: postgres.url,
    kill() {
      expect(endServers(folder, 'SIGKILL')).toBe(true)
    },
    [Symbol.asyncDispose]: () => postgres.stop(),
  }
}

/** Services in separate processes, over Kafka and one PostgreSQL, with two relying parties. */
export interface Cluster extends AsyncDisposable {
  readonly members: readonly Member[]
  readonly ingestUrls: readonly string[]
  readonly key: string
  readonly client: Client
  /** Calls an ingest, which answers about events. */
  readonly events: Client
  readonly tallies: readonly [Tally, Tally]
  /** The proxy in front of PostgreSQL. */
  readonly gate: Gate
  /** The prefix of the topics in Kafka. */
  readonly topicPrefix: string
}

/** Silence after which a delivery worker counts as dead, in milliseconds. */
export const LEASE_MS = 1_000
/** A stopping worker finishes its deliveries under way. */
const STOP_TIMEOUT_MS = 60_000
/** Silence after which Kafka assigns a worker's partitions to other workers, in milliseconds. */
export const SESSION_MS = 6_000

export async function openCluster(
  processes: Processes,
  {
    brokers,
    replicationFactor = 1,
    database,
    roles,
    topicPrefix = uniquePrefix(),
    env: more = {},
  }: {
    brokers: readonly string[]
    replicationFactor?: number
    database: { readonly url: string }
    roles: readonly Role[]
    /** Default: a unique prefix. */
    topicPrefix?: string
    /** More variables for every service. */
    env?: Readonly<Record<string, string>>
  },
): Promise<Cluster> {
  const gate = await openGate(database.url)
  const key = `cfw_${randomBytes(32).toString('base64url')}`
  const env = {
    LOG_LEVEL: 'warn',
    HOST: '127.0.0.1',
    DATABASE_URL: gate.url,
    KAFKA_BROKERS: brokers.join(','),
    KAFKA_REPLICATION_FACTOR: String(replicationFactor),
    KAFKA_TOPIC_PREFIX: topicPrefix,
    CURFEW_ADMIN_KEY: key,
    CURFEW_MASTER_KEY: randomBytes(32).toString('base64url'),
    CURFEW_ALLOWED_NETWORKS: '127.0.0.0/8',
    CURFEW_LEASE_MS: String(LEASE_MS),
    ...more,
  }

  async function open(role: Role, number: number): Promise<Member> {
    const port = await freePort()
    const name = `${role}-${number}`
    const url = `http://127.0.0.1:${port}`
    const spawn = () =>
      processes.start({ name, file: `services/${role}/src/main.ts`, env: { ...env, PORT: String(port) } })
    let current = spawn()
    return {
      role,
      name,
      url,
      get process() {
        return current
      },
      async kill() {
        expect(current.ended, `${name} ended by itself: ${current.stderr}`).toBeNull()
        await current.kill()
      },
      async stop() {
        expect(current.ended, `${name} ended by itself: ${current.stderr}`).toBeNull()
        current.signal('SIGTERM')
        await current.exit(STOP_TIMEOUT_MS)
      },
      start() {
        current = spawn()
      },
      async ready() {
        const look = async () => {
          if (current.ended !== null) throw new Error(`${name} ended: ${current.stderr}`)
          return (await fetch(`${url}/readyz`).catch(() => null))?.status
        }
        await expect.poll(look, { timeout: 90_000, interval: 50, message: name }).toBe(200)
      },
    }
  }

  const members = await Promise.all(roles.map((role, index) => open(role, index + 1)))
  const urlOf = (role: Role) => members.filter((member) => member.role === role).map(({ url }) => url)
  const client = createClient({ url: urlOf('console')[0] ?? '', key })
  const events = createClient({ url: urlOf('ingest')[0] ?? '', key })
  const tallies = [await openTally('mail'), await openTally('wiki')] as const
  await Promise.all(members.map((member) => member.ready()))
  await register(client, tallies)
  return {
    members,
    ingestUrls: urlOf('ingest'),
    key,
    client,
    events,
    tallies,
    gate,
    topicPrefix,
    async [Symbol.asyncDispose]() {
      await Promise.all(members.map((member) => member.process.kill()))
      await Promise.all(tallies.map((tally) => tally.close()))
      await gate.close()
    },
  }
}
