import { type ConnectionOptions, within } from './client.ts'
import { type BrokerAddress, type BrokerConnection, openConnection } from './connection.ts'

/** Asks brokers whether they answer, over a connection to each that is kept. */
export interface RollCall {
  /** @returns the ids of those that answer soon. */
  answering(nodes: ReadonlyMap<number, BrokerAddress>): Promise<ReadonlySet<number>>
  close(): void
}

/** The connection is given up after that time, in milliseconds. */
const REQUEST_TIMEOUT_MS = 4_000

/** @param topic to ask about. @param soonMs how long an answer may take, in milliseconds. */
export function createRollCall(options: ConnectionOptions, topic: string, soonMs: number): RollCall {
  const connections = new Map<string, BrokerConnection>()

  async function answers(address: BrokerAddress): Promise<boolean> {
    const key = `${address.host}:${address.port}`
    const known = connections.get(key)
    const connection = known?.isOpen() === true ? known : openConnection(options, address, REQUEST_TIMEOUT_MS)
    connections.set(key, connection)
    const asked = connection.metadata([topic]).catch((error: unknown) => {
      connection.close()
      throw error
    })
    return within(asked, soonMs, 'asking a broker').then(
      () => true,
      () => false,
    )
  }

  return {
    async answering(nodes) {
      const all = await Promise.all(
        [...nodes].map(async ([id, address]) => ((await answers(address)) ? id : null)),
      )
      return new Set(all.filter((id) => id !== null))
    },
    close() {
      for (const connection of connections.values()) connection.close()
    },
  }
}
