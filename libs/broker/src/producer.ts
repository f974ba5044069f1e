import { EventLogUnavailableError } from '@curfew/domain'
import kafkajs, { type Message, type Producer } from 'kafkajs'
import { type Client, type ConnectionOptions, createClient, FEW_RETRIES, original, within } from './client.ts'

/** A message and the topic it goes to. */
export interface Outgoing {
  readonly topic: string
  readonly message: Message
}

export interface AppenderOptions {
  readonly connection: ConnectionOptions
  /** Resolves when the topics exist; called before every send until it has resolved once. */
  readonly ready: () => Promise<void>
  /** From the call of `append` to its rejection, in milliseconds. */
  readonly timeoutMs: number
  /** Most bytes waiting to be confirmed; an append beyond that is rejected at once. */
  readonly queueBytesMax: number
}

export interface Appender {
  /** @throws {EventLogUnavailableError} when the messages were not confirmed in time, or too many wait. */
  append(messages: readonly Outgoing[]): Promise<void>
  /** Rejects what waits and closes the connection. */
  close(): Promise<void>
}

/** As much of one call as fits into one send. */
interface Portion {
  readonly messages: readonly Outgoing[]
  readonly bytes: number
}

/** A portion that waits for its confirmation. */
interface Waiting extends Portion {
  settled: boolean
  settle(error?: EventLogUnavailableError): void
}

/** Most bytes of one send: one partition's share must stay below the broker's default for a batch, 1 MiB. */
const SEND_BYTES_MAX = 900_000
/** Room for a record's own framing and header names, in bytes. */
const RECORD_OVERHEAD_BYTES = 100
const RETRY_PAUSE_MS = 200
const DISCONNECT_TIMEOUT_MS = 2_000

/**
 * The way in. All appends of one tick, and all that come while a send is under way, go out together in the next send.
 *
 * Only one send is in flight at a time. kafkajs numbers the batches of an idempotent producer before it knows the
 * fate of earlier ones, so two at once end in OUT_OF_ORDER_SEQUENCE_NUMBER or in records that the broker drops as
 * duplicates (its issues 598 and 1005).
 */
export function createAppender({ connection, ready, timeoutMs, queueBytesMax }: AppenderOptions): Appender {
  const queue: Waiting[] = []
  let queuedBytes = 0
  let pumping = false
  let closed = false
  let lastError: unknown = null
  let open: { client: Client; producer: Producer; connected: Promise<void> } | null = null

  function producer() {
    if (open === null) {
      // A broker that holds its answer back must fail before the appends that wait for it do.
      const client = createClient(connection, Math.ceil(timeoutMs / 3))
      const made = client.kafka.producer({
        idempotent: true,
        maxInFlightRequests: 1,
        allowAutoTopicCreation: false,
        createPartitioner: kafkajs.Partitioners.DefaultPartitioner,
        // The least that kafkajs allows; `deliver` repeats the same batch around it, and can be stopped.
        retry: { ...FEW_RETRIES, retries: 1 },
      })
      open = { client, producer: made, connected: made.connect() }
    }
    return open
  }

  /**
   * Gives up a producer whose last send failed for good. kafkajs takes the sequence numbers of a failed send back, and
   * gives them to the next one. If the failed batch had reached the broker after all, it would take other
   * records for a repetition of it and drop them, confirmed. A new producer has a new id and begins anew.
   * A fault of its sequence numbers' wrap at 2^31 ends here too: the broker refuses, and a new producer sends again.
   */
  async function discard(): Promise<void> {
    if (open === null) return
    const { client, producer: old } = open
    open = null
    client.kill()
    // Its sockets are gone already; this only ends its timers, and how that ends changes nothing.
    await within(old.disconnect(), DISCONNECT_TIMEOUT_MS, 'disconnecting').catch(() => undefined)
  }

  /** Sends until it is confirmed or nobody waits any more. The same batch each time: the broker knows a repetition by its number. */
  async function deliver(batch: readonly Waiting[]): Promise<void> {
    const topicMessages = byTopic(batch)
    while (!closed && batch.some(({ settled }) => !settled)) {
      try {
        await ready()
        const { producer: current, connected } = producer()
        await within(connected, timeoutMs, 'connecting')
        const sending = current.sendBatch({ acks: -1, timeout: Math.ceil(timeoutMs / 3), topicMessages })
        await within(sending, timeoutMs, 'sending')
        for (const { settle } of batch) settle()
        return
      } catch (error) {
        lastError = error
        if (isTooLarge(error)) {
          for (const { settle } of batch)
            settle(unavailable('a record is larger than the topic allows', error))
        } else if (!isRetriable(error) || open === null || (await failedToConnect(open.connected))) {
          // A producer that never connected has no id yet: kafkajs would send without numbers.
          await discard()
        } else if (isTimeout(error)) {
          // kafkajs keeps a connection on which answers no longer come, and would never open another.
          open.client.drop()
        }
        if (!closed) await new Promise((resolve) => setTimeout(resolve, RETRY_PAUSE_MS))
      }
    }
    await discard()
  }

  async function pump(): Promise<void> {
    pumping = true
    // The end of this turn of the event loop: what other requests of the same turn append goes out with it.
    await new Promise((resolve) => setImmediate(resolve))
    while (queue.length > 0 && !closed) {
      const batch = take(queue)
      if (batch.length > 0) await deliver(batch)
    }
    pumping = false
  }

  function enqueue({ messages, bytes }: Portion): Promise<void> {
    return new Promise((resolve, reject) => {
      queuedBytes += bytes
      const timer = setTimeout(
        () => waiting.settle(unavailable(`Kafka did not confirm within ${timeoutMs} ms`, lastError)),
        timeoutMs,
      )
      const waiting: Waiting = {
        messages,
        bytes,
        settled: false,
        settle: (error) => {
          if (waiting.settled) return
          waiting.settled = true
          clearTimeout(timer)
          queuedBytes -= bytes
          if (error === undefined) resolve()
          else reject(error)
        },
      }
      queue.push(waiting)
    })
  }

  return {
    append: async (messages) => {
      const portions = portionsOf(messages)
      const bytes = portions.reduce((sum, portion) => sum + portion.bytes, 0)
      if (closed) throw unavailable('the event log is closed', null)
      if (queuedBytes > 0 && queuedBytes + bytes > queueBytesMax) {
        throw unavailable('too many appends wait for Kafka', lastError)
      }
      const confirmed = Promise.all(portions.map(enqueue))
      if (!pumping) void pump()
      await confirmed
    },
    close: async () => {
      closed = true
      for (const { settle } of queue.splice(0)) settle(unavailable('the event log is closed', null))
      await discard()
    },
  }
}

function portionsOf(messages: readonly Outgoing[]): Portion[] {
  const portions: { messages: Outgoing[]; bytes: number }[] = []
  for (const outgoing of messages) {
    const bytes = sizeOf(outgoing.message)
    const last = portions.at(-1)
    if (last === undefined || last.bytes + bytes > SEND_BYTES_MAX)
      portions.push({ messages: [outgoing], bytes })
    else {
      last.messages.push(outgoing)
      last.bytes += bytes
    }
  }
  return portions
}

/** Takes what goes out next: as many portions as fit into one send, at least one, without those that gave up. */
function take(queue: Waiting[]): Waiting[] {
  const batch: Waiting[] = []
  let bytes = 0
  for (let next = queue[0]; next !== undefined; next = queue[0]) {
    if (batch.length > 0 && bytes + next.bytes > SEND_BYTES_MAX) break
    queue.shift()
    if (next.settled) continue
    batch.push(next)
    bytes += next.bytes
  }
  return batch
}

function byTopic(batch: readonly Waiting[]): { topic: string; messages: Message[] }[] {
  const topics = new Map<string, Message[]>()
  for (const { messages } of batch) {
    for (const { topic, message } of messages) {
      const list = topics.get(topic)
      if (list === undefined) topics.set(topic, [message])
      else list.push(message)
    }
  }
  return Array.from(topics, ([topic, messages]) => ({ topic, messages }))
}

function sizeOf({ key, value, headers }: Message): number {
  let bytes = RECORD_OVERHEAD_BYTES + (key?.length ?? 0) + (value?.length ?? 0)
  for (const [name, text] of Object.entries(headers ?? {})) bytes += name.length + (text?.length ?? 0)
  return bytes
}

async function failedToConnect(connected: Promise<void>): Promise<boolean> {
  return connected.then(
    () => false,
    () => true,
  )
}

/** The same batch may be sent again by the same producer. Whatever is not known to be so needs a new one. */
function isRetriable(error: unknown): boolean {
  const cause = original(error)
  return typeof cause === 'object' && cause !== null && 'retriable' in cause && cause.retriable === true
}

function isTimeout(error: unknown): boolean {
  const cause = original(error)
  return cause instanceof Error && cause.name === 'KafkaJSRequestTimeoutError'
}

function isTooLarge(error: unknown): boolean {
  const cause = original(error)
  if (typeof cause !== 'object' || cause === null || !('type' in cause)) return false
  return cause.type === 'MESSAGE_TOO_LARGE' || cause.type === 'RECORD_LIST_TOO_LARGE'
}

function unavailable(why: string, cause: unknown): EventLogUnavailableError {
  return new EventLogUnavailableError(why, cause === null ? undefined : { cause })
}
