import { createRequire } from 'node:module'
import type { ISocketFactory, Logger, Message } from 'kafkajs'
import { CONNECT_TIMEOUT_MS, type ConnectionOptions, createClient, within } from './client.ts'
import { type PartitionState, statesOf } from './metadata.ts'

/** The address of one broker. */
export interface BrokerAddress {
  readonly host: string
  readonly port: number
}

/** The leaders of a topic's partitions, by partition. Null: the partition has none at present. */
export type Leaders = readonly (number | null)[]

export interface Metadata {
  /** Null if the broker is too old to name it. */
  readonly clusterId: string | null
  readonly nodes: ReadonlyMap<number, BrokerAddress>
  /** The leaders of each topic, or the broker's error. */
  readonly topics: ReadonlyMap<string, Leaders | ProtocolError>
  /** The partitions of each topic in order; empty for a topic that does not exist. */
  readonly partitions: ReadonlyMap<string, readonly PartitionState[]>
}

/** Identifies a producer to Kafka. */
export interface ProducerId {
  readonly id: string
  readonly epoch: number
}

/** Records for one partition. Kafka recognises a repetition by producer id and sequence. */
export interface RecordBatch {
  readonly topic: string
  readonly partition: number
  readonly messages: readonly Message[]
  readonly producer: ProducerId
  /** The sequence number of the first message. */
  readonly sequence: number
}

/** A broker's answer for one batch. */
export interface BatchAnswer {
  readonly topic: string
  readonly partition: number
  /** Null: every replica in sync has confirmed the batch. */
  readonly error: ProtocolError | null
}

/** An error code in an answer of Kafka. */
export interface ProtocolError extends Error {
  /** Kafka's name of the error, such as `NOT_LEADER_FOR_PARTITION`. */
  readonly type: string
  readonly retriable: boolean
}

/** One connection to one broker. The broker answers its requests one after the other. */
export interface BrokerConnection {
  /** Whether requests may be sent: true while it opens, too. */
  isOpen(): boolean
  /** Whether it has not connected yet. Stays true if connecting failed. */
  isOpening(): boolean
  metadata(topics: readonly string[]): Promise<Metadata>
  initProducerId(): Promise<ProducerId>
  /**
   * @param timeoutMs how long the broker may wait for its replicas.
   * @returns one answer for each batch. A broker may leave batches out.
   */
  produce(batches: readonly RecordBatch[], timeoutMs: number): Promise<readonly BatchAnswer[]>
  /** Closes the connection at once and rejects requests under way. Idempotent. */
  close(): void
}

/**
 * Opens a connection. Requests wait until it is open, and reject if that fails.
 *
 * It uses kafkajs one layer below its producer, with the TLS, SASL, framing and encoding of kafkajs. The producer itself has
 * three faults. It resolves sends that no broker received, if a leader moves between its retries. It hides which partition of a
 * request failed. And one broker that hangs blocks all its sends.
 */
export function openConnection(
  options: ConnectionOptions,
  address: BrokerAddress,
  requestTimeoutMs: number,
): BrokerConnection {
  // Every failure rejects a request, so kafkajs need not log it too.
  const { log: _log, ...silent } = options
  const client = createClient(silent, requestTimeoutMs)
  const broker = new Broker({
    logger: client.kafka.logger(),
    allowAutoTopicCreation: false,
    authenticationTimeout: CONNECT_TIMEOUT_MS * 2,
    connectionPool: new ConnectionPool({
      ...address,
      clientId: options.clientId,
      logger: client.kafka.logger(),
      socketFactory: client.socketFactory,
      ssl: options.ssl ?? null,
      // A copy, because kafkajs adds to it and our configuration is frozen.
      sasl: options.sasl === undefined ? null : { ...options.sasl },
      connectionTimeout: CONNECT_TIMEOUT_MS,
      requestTimeout: requestTimeoutMs,
      enforceRequestTimeout: true,
    }),
  })
  let closed = false
  let connected = false
  const connecting = within(
    broker.connect().then(() => {
      connected = true
    }),
    CONNECT_TIMEOUT_MS * 2,
    'connecting',
  )
  // Requests report the failure; without a request it is ignored.
  connecting.catch(() => undefined)

  /** Sends a request and decodes the answer, without kafkajs's own `parse`, which throws at the first error. */
  async function ask<Answer>(
    api: { readonly key: number; readonly protocol: RequestDefinition },
    input: object,
    encode?: () => Promise<Encoder>,
  ): Promise<Answer> {
    await connecting
    const { request, response } = broker.lookupRequest(api.key, api.protocol)(input)
    return (await broker.connectionPool.send({
      request: encode === undefined ? request : { ...request, encode },
      response: { decode: response.decode, parse: async (decoded) => decoded },
    })) as Answer
  }

  return {
    isOpen: () => !closed && (!connected || broker.isConnected()),
    isOpening: () => !closed && !connected,
    async metadata(topics) {
      const answer = await ask<MetadataAnswer>(METADATA, { topics, allowAutoTopicCreation: false })
      return {
        clusterId: answer.clusterId ?? null,
        nodes: new Map(answer.brokers.map(({ nodeId, host, port }) => [nodeId, { host, port }])),
        topics: new Map(
          answer.topicMetadata.map(({ topic, topicErrorCode, partitionMetadata }) => [
            topic,
            topicErrorCode === 0 ? leadersOf(partitionMetadata) : createErrorFromCode(topicErrorCode),
          ]),
        ),
        partitions: new Map(
          answer.topicMetadata.map(({ topic, partitionMetadata }) => [topic, statesOf(partitionMetadata)]),
        ),
      }
    },
    async initProducerId() {
      const input = { transactionalId: null, transactionTimeout: 60_000 }
      const answer = await ask<ProducerIdAnswer>(INIT_PRODUCER_ID, input)
      if (answer.errorCode !== 0) throw createErrorFromCode(answer.errorCode)
      return { id: answer.producerId, epoch: answer.producerEpoch }
    },
    async produce(batches, timeoutMs) {
      const input = { acks: ACKS_ALL, timeout: timeoutMs, topicData: [] }
      const answer = await ask<ProduceAnswer>(PRODUCE, input, () => encodeProduce(batches, timeoutMs))
      return answer.topics.flatMap(({ topicName, partitions }) =>
        partitions.map(({ partition, errorCode }) => ({
          topic: topicName,
          partition,
          error: errorCode === 0 ? null : createErrorFromCode(errorCode),
        })),
      )
    },
    close: () => {
      closed = true
      client.kill()
    },
  }
}

/** Parses `host:port`. */
export function addressOf(broker: string): BrokerAddress {
  const colon = broker.lastIndexOf(':')
  return { host: broker.slice(0, colon), port: Number(broker.slice(colon + 1)) }
}

/** Whether the broker named the leaders of a topic. */
export function isLeaders(found: Leaders | ProtocolError): found is Leaders {
  return Array.isArray(found)
}

function leadersOf(partitions: MetadataAnswer['topicMetadata'][number]['partitionMetadata']): Leaders {
  const leaders: (number | null)[] = partitions.map(() => null)
  for (const { partitionId, leader } of partitions) leaders[partitionId] = leader < 0 ? null : leader
  return leaders
}

/**
 * Encodes the body of a produce request, versions 3 to 7. kafkajs's own encoder gives all batches of a request the same producer
 * id; the protocol allows a different one for each batch.
 */
async function encodeProduce(batches: readonly RecordBatch[], timeoutMs: number): Promise<Encoder> {
  const topics: Encoder[] = []
  for (const [topic, ofTopic] of Map.groupBy(batches, (batch) => batch.topic)) {
    const partitions: Encoder[] = []
    for (const batch of ofTopic) {
      const encoded = await encodeBatch(batch)
      partitions.push(
        new Encoder().writeInt32(batch.partition).writeInt32(encoded.size()).writeEncoder(encoded),
      )
    }
    topics.push(new Encoder().writeString(topic).writeArray(partitions))
  }
  return new Encoder().writeString(null).writeInt16(ACKS_ALL).writeInt32(timeoutMs).writeArray(topics)
}

function encodeBatch({ messages, producer, sequence }: RecordBatch): Promise<Encoder> {
  const now = Date.now()
  return recordBatch.RecordBatch({
    records: messages.map((message, offsetDelta) => encodeRecord({ ...message, offsetDelta })),
    firstTimestamp: now,
    maxTimestamp: now,
    producerId: producer.id,
    producerEpoch: producer.epoch,
    firstSequence: sequence,
    lastOffsetDelta: messages.length - 1,
  })
}

// The parts of kafkajs used here that it does not export. Its version is pinned for this reason.

interface Encoder {
  size(): number
  writeInt16(value: number): Encoder
  writeInt32(value: number): Encoder
  writeString(value: string | null): Encoder
  writeArray(items: readonly Encoder[]): Encoder
  writeEncoder(value: Encoder): Encoder
}

interface ProtocolRequest {
  readonly request: { readonly apiVersion: number; encode(): Promise<Encoder> }
  readonly response: {
    decode(payload: Buffer): Promise<unknown>
    parse(decoded: unknown): Promise<unknown>
  }
}

interface RequestDefinition {
  readonly versions: readonly string[]
}

interface ConnectionPool {
  send(request: ProtocolRequest): Promise<unknown>
}

interface Broker {
  readonly connectionPool: ConnectionPool
  connect(): Promise<void>
  isConnected(): boolean
  lookupRequest(key: number, definition: RequestDefinition): (input: object) => ProtocolRequest
}

interface MetadataAnswer {
  readonly clusterId?: string | null
  readonly brokers: readonly (BrokerAddress & { readonly nodeId: number })[]
  readonly topicMetadata: readonly {
    readonly topicErrorCode: number
    readonly topic: string
    readonly partitionMetadata: Parameters<typeof statesOf>[0]
  }[]
}

interface ProducerIdAnswer {
  readonly errorCode: number
  readonly producerId: string
  readonly producerEpoch: number
}

interface ProduceAnswer {
  readonly topics: readonly {
    readonly topicName: string
    readonly partitions: readonly { readonly partition: number; readonly errorCode: number }[]
  }[]
}

const load = createRequire(import.meta.url)
const Broker = load('kafkajs/src/broker/index.js') as new (options: {
  logger: Logger
  allowAutoTopicCreation: boolean
  authenticationTimeout: number
  connectionPool: ConnectionPool
}) => Broker
const ConnectionPool = load('kafkajs/src/network/connectionPool.js') as new (
  options: BrokerAddress & {
    clientId: string
    logger: Logger
    socketFactory: ISocketFactory
    ssl: ConnectionOptions['ssl'] | null
    sasl: ConnectionOptions['sasl'] | null
    connectionTimeout: number
    requestTimeout: number
    enforceRequestTimeout: boolean
  },
) => ConnectionPool
const Encoder = load('kafkajs/src/protocol/encoder.js') as new () => Encoder
const encodeRecord = load('kafkajs/src/protocol/recordBatch/record/v0/index.js') as (
  record: Message & { readonly offsetDelta: number },
) => Encoder
const recordBatch = load('kafkajs/src/protocol/recordBatch/v0/index.js') as {
  RecordBatch(batch: {
    readonly records: readonly Encoder[]
    readonly firstTimestamp: number
    readonly maxTimestamp: number
    readonly producerId: string
    readonly producerEpoch: number
    readonly firstSequence: number
    readonly lastOffsetDelta: number
  }): Promise<Encoder>
}
const { requests } = load('kafkajs/src/protocol/requests/index.js') as {
  readonly requests: Readonly<Record<'Produce' | 'Metadata' | 'InitProducerId', RequestDefinition>>
}
const { createErrorFromCode } = load('kafkajs/src/protocol/error.js') as {
  createErrorFromCode(code: number): ProtocolError
}

const PRODUCE = { key: 0, protocol: requests.Produce }
const METADATA = { key: 3, protocol: requests.Metadata }
const INIT_PRODUCER_ID = { key: 22, protocol: requests.InitProducerId }
/** A record is confirmed once every replica in sync has it. */
const ACKS_ALL = -1
