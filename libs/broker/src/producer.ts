import type { Message } from 'kafkajs'
import { Append, unavailable } from './append.ts'
import { type ConnectionOptions, within } from './client.ts'
import {
  type BatchAnswer,
  type BrokerAddress,
  type BrokerConnection,
  isLeaders,
  type Leaders,
  type Metadata,
  openConnection,
  type ProtocolError,
} from './connection.ts'
import { createMetadataReader } from './leaders.ts'
import type { PartitionQueue } from './partition-queue.ts'
import { createQueues } from './queues.ts'
import { refusalOf } from './refusal.ts'

/** A message and its topic. */
export interface Outgoing {
  readonly topic: string
  readonly message: Message
}

export interface AppenderOptions {
  readonly connection: ConnectionOptions
  /** Creates the missing topics. Called when the cluster does not know a topic. */
  readonly ready: () => Promise<void>
  /** Makes the next `ready` check the topics again. */
  readonly lookAgain?: () => void
  /** Time from the call of `append` to its rejection, in milliseconds. */
  readonly timeoutMs: number
  /** Most bytes that wait for confirmation. A larger append is rejected at once. */
  readonly queueBytesMax: number
}

export interface Appender {
  /**
   * @throws {EventLogUnavailableError} if the messages were not confirmed in time, or too many wait.
   * @throws {RecordTooLargeError} if the topic refuses a message for its size.
   */
  append(messages: readonly Outgoing[]): Promise<void>
  /** Rejects waiting appends, and closes the connections. */
  close(): Promise<void>
}

/** One broker that leads partitions. At most one send to it is under way. */
interface Leader {
  readonly id: number
  address: BrokerAddress
  connection: BrokerConnection | null
  busy: boolean
}

/** Most bytes of one send. A partition's share must stay below the broker's default limit for a batch, 1 MiB. */
const SEND_BYTES_MAX = 900_000
/** Room for a record's framing and header names, in bytes. */
const RECORD_OVERHEAD_BYTES = 100
/** Least time between two requests for the leaders, and so between two sends of the same batch. */
const RETRY_PAUSE_MS = 200
/** A send that takes longer may wait for a broker that has lost its leadership. */
const SLOW_SEND_MS = 1_000
const METADATA_TIMEOUT_MS = 2_000
const NO_LEADERS = 'no Kafka broker named the leaders of the partitions'
const NO_TOPICS = 'missing Kafka topics could not be created'
/** The leaders are read at least this often, to use partitions that an operator adds. */
const METADATA_AGE_MAX_MS = 300_000

/**
 * Appends records to the event log. Each record goes to the leader of its partition, with one send at a time for each leader.
 * Appends of the same tick, and those that arrive during a send, go out together.
 *
 * A broker that hangs blocks the partitions that it leads. With acks=all it also blocks those that it follows, until the
 * controller removes it from the replicas in sync. No producer can change that.
 *
 * An append resolves when the leaders have confirmed each of its records by topic and partition. A batch that was refused, or
 * missing in an answer, is sent again to the leader at that time.
 */
export function createAppender(options: AppenderOptions): Appender {
  const { connection, timeoutMs, queueBytesMax } = options
  const reader = createMetadataReader(connection, Math.min(METADATA_TIMEOUT_MS, Math.ceil(timeoutMs / 3)))
  const queues = createQueues()
  const leaders = new Map<number, Leader>()
  const appends = new Set<Append>()
  let queuedBytes = 0
  let entries = 0
  let closed = false
  let lastError: unknown = null
  /** The current failures: the reason by name. */
  const failing = new Map<string, string>()
  /** Topics that refused a record for its size, and have confirmed none since. */
  const tooLarge = new Set<string>()
  let scheduled = false
  let looking = false
  /** Whether the leaders must be read although all are known. */
  let lookWanted = false
  let lookedAt = Number.NEGATIVE_INFINITY
  let makingTopics = false
  let topicsMade = false

  /** Sends after this tick of the event loop, together with the other appends in it. */
  function schedule(): void {
    if (scheduled) return
    scheduled = true
    setImmediate(() => {
      scheduled = false
      for (const leader of leaders.values()) void pump(leader)
    })
  }

  async function pump(leader: Leader): Promise<void> {
    if (leader.busy) return
    leader.busy = true
    while (!closed) {
      const due = queues.take(leader.id, SEND_BYTES_MAX)
      if (due.length === 0) break
      await send(leader, due)
    }
    leader.busy = false
  }

  /** Sends once. An unconfirmed batch is sent again after its leader has been read. */
  async function send(leader: Leader, due: readonly PartitionQueue[]): Promise<void> {
    const slow = setInterval(wantLook, SLOW_SEND_MS)
    let answers: readonly BatchAnswer[] = []
    let failure: unknown = new Error('Kafka left a batch out of its answer')
    try {
      answers = await produce(leader, due)
    } catch (error) {
      failure = error
      // The request may still arrive. That does no harm: the batch is sent again with the same sequence.
      leader.connection?.close()
    }
    clearInterval(slow)
    const errors = due.map((queue) => {
      const answer = answers.find((one) => one.topic === queue.topic && one.partition === queue.partition)
      return settle(queue, answer === undefined ? failure : answer.error)
    })
    const { host, port } = leader.address
    report(
      `Kafka broker ${host}:${port} did not confirm records, which are sent again`,
      errors.find((error) => error !== null) ?? null,
    )
    void look()
  }

  async function produce(leader: Leader, due: readonly PartitionQueue[]): Promise<readonly BatchAnswer[]> {
    if (leader.connection?.isOpen() !== true) {
      leader.connection?.close()
      leader.connection = openConnection(connection, leader.address, Math.ceil(timeoutMs / 3))
    }
    const fresh = due.filter((queue) => queue.needsProducer())
    if (fresh.length > 0) {
      const id = await within(leader.connection.initProducerId(), timeoutMs, 'asking for a producer id')
      for (const queue of fresh) queue.begin(id)
    }
    // Shorter than our own timeout: a partition that waits for its replicas must not cost the others their confirmation.
    const replicasTimeoutMs = Math.ceil(timeoutMs / 4)
    const sending = leader.connection.produce(
      due.map((queue) => queue.prepared()),
      replicasTimeoutMs,
    )
    // kafkajs measures by the time of day, which may be set back.
    return within(sending, timeoutMs, 'sending')
  }

  /** @returns the reason to send the batch again; null if there is none. */
  function settle(queue: PartitionQueue, error: unknown): unknown {
    if (error === null) {
      queue.confirm()
      tooLarge.delete(queue.topic)
    } else if (isTooLarge(error)) {
      const refusal = queue.split(error)
      if (refusal !== null) {
        if (!tooLarge.has(queue.topic)) connection.log?.('error', refusal.message, { topic: queue.topic })
        tooLarge.add(queue.topic)
      }
      // The rest is sent again in smaller batches.
      error = null
    } else {
      // A non-retriable error may concern the sequence.
      if (isProtocolError(error) && !error.retriable) queue.renumber()
      queue.leader = null
    }
    queues.release(queue)
    return error
  }

  /** Logs a failure once. The same failure is logged again only after a success, which is a null error. */
  function report(name: string, error: unknown): void {
    if (error === null) {
      failing.delete(name)
      return
    }
    lastError = error
    const why = refusalOf(error) ?? (error instanceof Error ? error.message : String(error))
    if (failing.get(name) !== why) connection.log?.('warn', `${name}: ${why}`, {})
    failing.set(name, why)
  }

  function wantLook(): void {
    lookWanted = true
    void look()
  }

  /** Reads the leaders until each partition with waiting records has one. */
  async function look(): Promise<void> {
    if (looking) return
    looking = true
    while (!closed && (queues.lackLeader() || lookWanted)) {
      const pauseMs = lookedAt + RETRY_PAUSE_MS - performance.now()
      if (pauseMs > 0) await new Promise((resolve) => setTimeout(resolve, pauseMs))
      lookedAt = performance.now()
      lookWanted = false
      try {
        learn(await reader.read(queues.topics()))
        report(NO_LEADERS, null)
      } catch (error) {
        report(NO_LEADERS, error)
      }
    }
    looking = false
  }

  function learn({ nodes, topics }: Metadata): void {
    for (const [id, leader] of leaders) {
      const address = nodes.get(id)
      if (address?.host === leader.address.host && address.port === leader.address.port) continue
      // A broker that left the cluster leads no partition. Its records go to the next leader.
      leader.connection?.close()
      if (address !== undefined) leader.address = address
      else if (!leader.busy) leaders.delete(id)
    }
    for (const [id, address] of nodes) {
      if (!leaders.has(id)) leaders.set(id, { id, address, connection: null, busy: false })
    }
    for (const [name, partitions] of topics) {
      if (isLeaders(partitions)) {
        queues.learn(
          name,
          partitions.map((leader) => (leader !== null && nodes.has(leader) ? leader : null)),
        )
      } else {
        queues.unlearn(name)
      }
      report(`Kafka does not know the leaders of topic ${name}`, isLeaders(partitions) ? null : partitions)
    }
    if ([...topics.values()].some(isUnknownTopic)) void makeTopics()
    schedule()
  }

  /** Creates the missing topics. Its caller does not wait, because a broker may hang. */
  async function makeTopics(): Promise<void> {
    if (makingTopics) return
    makingTopics = true
    // The topics existed and were deleted.
    if (topicsMade) options.lookAgain?.()
    topicsMade = false
    try {
      await options.ready()
      topicsMade = true
      report(NO_TOPICS, null)
    } catch (error) {
      report(NO_TOPICS, error)
    }
    makingTopics = false
  }

  const onTimeout = (append: Append) => {
    append.reject(unavailable(`Kafka did not confirm within ${timeoutMs} ms`, lastError))
  }
  const onSettled = (append: Append) => {
    appends.delete(append)
    queuedBytes -= append.bytes
  }

  return {
    append: async (messages) => {
      if (messages.length === 0) return
      const sizes = messages.map(({ message }) => sizeOf(message))
      const bytes = sizes.reduce((sum, size) => sum + size, 0)
      if (closed) throw unavailable('the event log is closed', null)
      if (queuedBytes > 0 && queuedBytes + bytes > queueBytesMax) {
        throw unavailable('too many appends wait for Kafka', lastError)
      }
      const append = new Append({ records: messages.length, bytes, timeoutMs }, onTimeout, onSettled)
      appends.add(append)
      queuedBytes += bytes
      for (const [index, { topic, message }] of messages.entries()) {
        const entry = { topic, message, bytes: sizes[index] ?? 0, number: entries++, append }
        if (!queues.push(entry)) void look()
      }
      if (performance.now() - lookedAt > METADATA_AGE_MAX_MS) wantLook()
      schedule()
      await append.confirmed
    },
    close: async () => {
      closed = true
      for (const append of appends) append.reject(unavailable('the event log is closed', null))
      reader.close()
      for (const leader of leaders.values()) leader.connection?.close()
    },
  }
}

function sizeOf({ key, value, headers }: Message): number {
  let bytes = RECORD_OVERHEAD_BYTES + (key?.length ?? 0) + (value?.length ?? 0)
  for (const [name, text] of Object.entries(headers ?? {})) bytes += name.length + (text?.length ?? 0)
  return bytes
}

function isUnknownTopic(found: Leaders | ProtocolError): boolean {
  return !isLeaders(found) && found.type === 'UNKNOWN_TOPIC_OR_PARTITION'
}

function isProtocolError(error: unknown): error is ProtocolError {
  return error instanceof Error && 'type' in error && 'retriable' in error
}

function isTooLarge(error: unknown): boolean {
  return (
    isProtocolError(error) && (error.type === 'MESSAGE_TOO_LARGE' || error.type === 'RECORD_LIST_TOO_LARGE')
  )
}
