import { type ConnectionOptions, within } from './client.ts'
import { type BrokerAddress, type BrokerConnection, openConnection } from './connection.ts'

/** Asks brokers whether they answer, over one kept connection to each. */
export interface RollCall {
  /**
   * A broker is gone if other brokers answer in time and it misses two roll calls in a row. A late answer resets the count. If no
   * broker answers in time, this process itself may be slow, and no broker counts as gone.
   *
   * @returns the ids of the brokers that are not gone.
   */
  present(nodes: ReadonlyMap<number, BrokerAddress>): Promise<ReadonlySet<number>>
  close(): void
}

/** A connection without an answer is closed after this time, in milliseconds. */
const REQUEST_TIMEOUT_MS = 4_000
/** A broker counts as unavailable after this number of missed roll calls in a row. */
const GONE_AFTER = 2

/** @param topic the topic to ask about. @param soonMs how long a roll call waits for answers, in milliseconds. */
export function createRollCall(options: ConnectionOptions, topic: string, soonMs: number): RollCall {
  const connections = new Map<string, BrokerConnection>()
  /** How many roll calls each broker missed since its last answer. */
  const missed = new Map<number, number>()
  let calling: Promise<ReadonlySet<number>> | null = null

  async function answersSoon(id: number, address: BrokerAddress): Promise<boolean> {
    const key = `${address.host}:${address.port}`
    const known = connections.get(key)
    const connection = known?.isOpen() === true ? known : openConnection(options, address, REQUEST_TIMEOUT_MS)
    connections.set(key, connection)
    const asked = connection.metadata([topic]).then(
      () => void missed.delete(id),
      (error: unknown) => {
        connection.close()
        throw error
      },
    )
    return within(asked, soonMs, 'asking a broker').then(
      () => true,
      () => false,
    )
  }

  async function call(nodes: ReadonlyMap<number, BrokerAddress>): Promise<ReadonlySet<number>> {
    const ids = [...nodes.keys()]
    const answers = await Promise.all([...nodes].map(([id, address]) => answersSoon(id, address)))
    if (!answers.includes(true)) return new Set(ids)
    for (const id of ids.filter((_, index) => !answers[index])) missed.set(id, (missed.get(id) ?? 0) + 1)
    return new Set(ids.filter((id) => (missed.get(id) ?? 0) < GONE_AFTER))
  }

  return {
    present(nodes) {
      // Concurrent probes share a roll call, so that one late answer counts as one miss.
      calling ??= call(nodes).finally(() => {
        calling = null
      })
      return calling
    },
    close() {
      for (const connection of connections.values()) connection.close()
    },
  }
}
