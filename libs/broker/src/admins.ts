import type { Admin } from 'kafkajs'
import { type Client, type ConnectionOptions, createClient, within } from './client.ts'
import { tolerant } from './metadata.ts'

const REQUEST_TIMEOUT_MS = 4_000
/** kafkajs asks a broker that hangs again and again. The next connection starts with another broker. */
const CONNECT_TIMEOUT_MS = 4_000
const DISCONNECT_TIMEOUT_MS = 1_000

export interface Admins {
  /** @throws whatever `work` throws, or an error that it took longer than `timeoutMs`. */
  use<Result>(work: (admin: Admin) => Promise<Result>, timeoutMs: number): Promise<Result>
  close(): Promise<void>
}

/** One administrative connection. It opens on first use and closes at the first failure. */
export function createAdmins(connection: ConnectionOptions): Admins {
  let open: { client: Client; admin: Admin; connected: Promise<void> } | null = null

  function drop(): void {
    open?.client.kill()
    open = null
  }
  return {
    async use(work, timeoutMs) {
      if (open === null) {
        const client = createClient(connection, REQUEST_TIMEOUT_MS)
        const admin = client.kafka.admin()
        open = { client, admin, connected: tolerant(() => admin.connect()) }
      }
      const { admin, connected } = open
      try {
        return await within(
          within(connected, CONNECT_TIMEOUT_MS, 'connecting to Kafka').then(() =>
            tolerant(() => work(admin)),
          ),
          timeoutMs,
          'asking Kafka',
        )
      } catch (error) {
        if (open?.admin === admin) drop()
        throw error
      }
    },
    async close() {
      const admin = open?.admin
      // Disconnecting first keeps the broker from logging an error. `drop` closes the sockets in any case.
      if (admin !== undefined)
        await within(admin.disconnect(), DISCONNECT_TIMEOUT_MS, 'disconnecting').catch(() => undefined)
      drop()
    },
  }
}
