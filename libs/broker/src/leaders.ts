import { type ConnectionOptions, within } from './client.ts'
import {
  addressOf,
  type BrokerAddress,
  type BrokerConnection,
  type Metadata,
  openConnection,
} from './connection.ts'

/** Asks the cluster which broker leads which partition. */
export interface MetadataReader {
  /** @throws whatever the last broker said, when none answers in time. */
  read(topics: readonly string[]): Promise<Metadata>
  close(): void
}

/** Questions that follow each other by less are about one trouble. */
const APART_MS = 2_000
/** How long the answers of one broker may be of no help. Most elections are over sooner, and the next broker may be one that hangs. */
const HELPLESS_MS = 4_000

/**
 * Asks one broker over a connection of its own, and the next where that one does not answer within `timeoutMs`. A
 * connection that also carried records would keep the answer back while they wait for their replicas.
 *
 * A broker that is cut off from the controllers names the leaders of before for ever. Where question follows question, the next
 * broker is asked.
 */
export function createMetadataReader(options: ConnectionOptions, timeoutMs: number): MetadataReader {
  const configured = options.brokers.map(addressOf)
  let known: readonly BrokerAddress[] = configured
  // Processes ask different brokers.
  let asked = Math.floor(Math.random() * configured.length)
  const connections = new Map<string, BrokerConnection>()
  let closed = false
  /** When the broker that is asked was first asked about the trouble of this time, and when it was last. */
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
        // To open it takes longer than to answer: the next question may find it open.
        if (isKept && !connection.isOpening()) connection.close()
        throw error
      },
    )
    if (metadata.nodes.size === 0) throw new Error('the broker knows no cluster yet')
    return metadata
  }

  function turn(): void {
    asked++
    firstAskedAt = performance.now()
  }

  return {
    async read(topics) {
      const now = performance.now()
      if (now - lastAskedAt > APART_MS) firstAskedAt = now
      else if (now - firstAskedAt > HELPLESS_MS) turn()
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
          turn()
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
