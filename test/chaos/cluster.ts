import { randomBytes } from 'node:crypto'
import { type Client, createClient } from '@curfew/client'
import { expect } from 'vitest'
import { createTestDatabase } from '../support/database.ts'
import { type Gate, openGate } from '../support/gate.ts'
import { uniquePrefix } from '../support/kafka.ts'
import type { TestProcess, useProcesses } from '../support/processes.ts'
import { freePort, openTally, register, type Tally } from './load.ts'

export type Role = 'ingest' | 'delivery' | 'console'

/** One service in a process of its own, which comes back at the same address. */
export interface Member {
  readonly role: Role
  readonly name: string
  readonly url: string
  readonly process: TestProcess
  /** SIGKILL. */
  kill(): Promise<void>
  start(): void
  /** Resolves when all that it depends on answers. */
  ready(): Promise<void>
}

/** Services apart, over Kafka and one PostgreSQL, with two relying parties. */
export interface Cluster extends AsyncDisposable {
  readonly members: readonly Member[]
  readonly ingestUrls: readonly string[]
  readonly key: string
  readonly client: Client
  /** Speaks with an ingest, which knows what became of an event. */
  readonly tallies: readonly [Tally, Tally]
  /** The way to PostgreSQL. */
  readonly gate: Gate
}

/** Silence after which a delivery worker is taken for dead, in milliseconds. */
export const LEASE_MS = 1_000

export async function openCluster(
  processes: ReturnType<typeof useProcesses>,
  { brokers, roles }: { brokers: readonly string[]; roles: readonly Role[] },
): Promise<Cluster> {
  const database = await createTestDatabase()
  const gate = await openGate(database.url)
  const key = `cfw_${randomBytes(32).toString('base64url')}`
  const env = {
    LOG_LEVEL: 'warn',
    HOST: '127.0.0.1',
    DATABASE_URL: gate.url,
    KAFKA_BROKERS: brokers.join(','),
    KAFKA_REPLICATION_FACTOR: '1',
    KAFKA_TOPIC_PREFIX: uniquePrefix(),
    CURFEW_ADMIN_KEY: key,
    CURFEW_MASTER_KEY: randomBytes(32).toString('base64url'),
    CURFEW_ALLOWED_NETWORKS: '127.0.0.0/8',
    CURFEW_LEASE_MS: String(LEASE_MS),
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
      kill: () => current.kill(),
      start() {
        current = spawn()
      },
      async ready() {
        const look = async () => {
          if (current.ended !== null) throw new Error(`${name} ended: ${current.stderr}`)
          return (await fetch(`${url}/readyz`).catch(() => null))?.status
        }
        await expect.poll(look, { timeout: 30_000, interval: 20, message: name }).toBe(200)
      },
    }
  }

  const members = await Promise.all(roles.map((role, index) => open(role, index + 1)))
  const urlOf = (role: Role) => members.filter((member) => member.role === role).map(({ url }) => url)
  const client = createClient({ url: urlOf('console')[0] ?? '', key })
  const tallies = [await openTally('mail'), await openTally('wiki')] as const
  await Promise.all(members.map((member) => member.ready()))
  await register(client, tallies)
  return {
    members,
    ingestUrls: urlOf('ingest'),
    key,
    client,
    tallies,
    gate,
    async [Symbol.asyncDispose]() {
      await Promise.all(members.map((member) => member.kill()))
      await Promise.all(tallies.map((tally) => tally.close()))
      await gate.close()
      await database.drop()
    },
  }
}
