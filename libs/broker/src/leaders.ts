import { type ConnectionOptions, within } from './client.ts'
import {
  addressOf,
  type BrokerAddress,
  type BrokerConnection,
  type Metadata,
  openConnection,
} from './connection.ts'

/** Reads from the cluster which broker leads each partition. */
export interface MetadataReader {
  /** @throws the last broker's error, if none answers in time. */
  read(topics: readonly string[]): Promise<Metadata>
  close(): void
}

/** Requests that follow each other within this time belong to one problem. */
const APART_MS = 2_000
/** How long a broker's answers may fail to help. Most elections take less time, and the next broker may be one that hangs. */
const HELPLESS_MS = 4_000

/**
 * Asks one broker over its own connection, and the next broker if it does not answer within `timeoutMs`. On a connection that
 * also carried records, the answer would wait until the replicas confirm them.
 *
 * A broker that is cut off from the controllers keeps naming the old leaders. If requests repeat for some seconds, the next
 * broker is asked.
 */
export function createMetadataReader(options: ConnectionOptions, timeoutMs: number): MetadataReader {
  const configured = options.brokers.map(addressOf)
  let known: readonly BrokerAddress[] = configured
  // A random start, so that processes ask different brokers.
  let asked = Math.floor(Math.random() * configured.length)
  const connections = new Map<string, BrokerConnection>()
  let closed = false
  /** When the current broker was first and last asked about the current problem. */
  let firstAskedAt = Number.NEGATIVE_INFINITY
  let lastAskedAt = Number.NEGATIVE_INFINITY

  async function ask(topics: readonly string[]): Promise<Metadata> {
    const address = known[asked % known.length]
    if (closed || address === undefined) throw new Error('no broker can be asked')
    const key = `${address.host}:${address.port}`
    const kept = connections.get(key)
    const isKept = kept?.isOpen() === true
    const connection = isKept ? kept : openConnection(options, address, timeoutMs)
    connections.set(key, connection)
    const answer = connection.metadata(topics)
    answer.catch(() => connection.close())
    const metadata = await within(answer, timeoutMs, 'asking Kafka for the leaders').catch(
      (error: unknown) => {
        // Opening takes longer than answering: the next request may find the connection open.
        if (isKept && !connection.isOpening()) connection.close()
        throw error
      },
    )
    if (metadata.nodes.size === 0) throw new Error('the broker has not joined a cluster yet')
    return metadata
  }

  function nextBroker(): void {
    asked++
    firstAskedAt = performance.now()
  }

  return {
    async read(topics) {
      const now = performance.now()
      if (now - lastAskedAt > APART_MS) firstAskedAt = now
      else if (now - firstAskedAt > HELPLESS_MS) nextBroker()
      lastAskedAt = now
      for (let tries = 1; ; tries++) {
        try {
          const metadata = await ask(topics)
          const learnt = [...metadata.nodes.values()].filter(
            ({ host, port }) => !configured.some((one) => one.host === host && one.port === port),
          )
          known = [...configured, ...learnt]
          return metadata
        } catch (error) {
          nextBroker()
          if (closed || tries >= known.length) throw error
        }
      }
    },
    close: () => {
      closed = true
      for (const connection of connections.values()) connection.close()
    },
  }
}
