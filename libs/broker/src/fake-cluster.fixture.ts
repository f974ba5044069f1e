import { once } from 'node:events'
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net'

/** One batch of a produce request, as a broker reads it. */
export interface ReceivedBatch {
  readonly topic: string
  readonly partition: number
  readonly producerId: bigint
  readonly sequence: number
  readonly values: readonly string[]
}

export interface ReceivedProduce {
  /** The id of the broker that received the request. */
  readonly node: number
  readonly batches: readonly ReceivedBatch[]
}

/** The answer to one batch. `error` is Kafka's code; 0 is none. */
export interface BatchAnswer {
  readonly topic: string
  readonly partition: number
  readonly error: number
}

/** A broker's reaction to a produce request: an answer, a closed connection, or no answer at all. */
export type ProduceReply = readonly BatchAnswer[] | 'close' | 'silence'

export const NOT_LEADER = 6
export const UNKNOWN_TOPIC = 3
const OUT_OF_ORDER_SEQUENCE = 45
const LEADER_NOT_AVAILABLE = 5

/**
 * Brokers in this process, with the part of Kafka's protocol that a producer uses: ApiVersions, Metadata, InitProducerId and
 * Produce. They check sequence numbers as Kafka does. `onProduce` scripts their answers.
 */
export interface FakeCluster {
  /** `host:port` of each broker, in the order of their ids: 1, 2, … */
  readonly brokers: readonly string[]
  /** The id of the broker that leads each partition, by topic. A null partition has no leader. Tests change it. */
  readonly leaders: Record<string, (number | null)[]>
  /** Every produce request, in the order of arrival. */
  readonly received: readonly ReceivedProduce[]
  /** Default: calls `write` with all batches. */
  onProduce: (
    request: ReceivedProduce,
    write: (batches: readonly ReceivedBatch[]) => readonly BatchAnswer[],
  ) => ProduceReply | Promise<ProduceReply>
  /** The values in a partition's log. */
  log(topic: string, partition: number): readonly string[]
  /** Empties a topic's logs, as deleting and creating the topic does. */
  empty(topic: string): void
  /** Makes the broker hang: it accepts connections and bytes, and answers nothing until `wake`. */
  suspend(node: number): void
  /** Ends `suspend`. The broker then works through the requests that arrived meanwhile. */
  wake(node: number): void
  /** Removes the broker from the metadata, as the controller does with a dead broker. */
  fence(node: number): void
  /** Cuts the broker off from the controllers: it names the current leaders for ever. */
  cutOff(node: number): void
  close(): Promise<void>
}

interface PartitionLog {
  readonly values: string[]
  /** The sequence numbers of each producer id's last batch. */
  readonly producers: Map<bigint, { first: number; last: number }>
}

export async function openFakeCluster(
  nodes: number,
  leaders: Record<string, (number | null)[]>,
): Promise<FakeCluster> {
  const logs = new Map<string, PartitionLog>()
  const received: ReceivedProduce[] = []
  const sockets = new Set<Socket>()
  const suspended = new Map<number, (() => void)[]>()
  const fenced = new Set<number>()
  const known = new Map<number, FakeCluster['leaders']>()
  let producers = 1_000n

  function logOf(topic: string, partition: number): PartitionLog {
    const name = `${topic}/${partition}`
    const known = logs.get(name)
    if (known !== undefined) return known
    const made: PartitionLog = { values: [], producers: new Map() }
    logs.set(name, made)
    return made
  }

  function write(
    node: number,
    { topic, partition, producerId, sequence, values }: ReceivedBatch,
  ): BatchAnswer {
    const leader = leaders[topic]?.[partition]
    if (leader === undefined) return { topic, partition, error: UNKNOWN_TOPIC }
    if (leader !== node) return { topic, partition, error: NOT_LEADER }
    const log = logOf(topic, partition)
    const known = log.producers.get(producerId)
    const last = sequence + values.length - 1
    if (known !== undefined && known.first === sequence && known.last === last)
      return { topic, partition, error: 0 }
    if (known !== undefined && known.last + 1 !== sequence)
      return { topic, partition, error: OUT_OF_ORDER_SEQUENCE }
    log.producers.set(producerId, { first: sequence, last })
    log.values.push(...values)
    return { topic, partition, error: 0 }
  }

  async function answer(node: number, request: Reader): Promise<Buffer | 'close' | 'silence'> {
    const api = request.i16()
    request.i16()
    const correlation = i32(request.i32())
    request.text()
    if (api === 18) return Buffer.concat([correlation, apiVersions()])
    if (api === 3) {
      const topics = request.list(() => request.text() ?? '')
      return Buffer.concat([correlation, metadata(topics, known.get(node) ?? leaders)])
    }
    if (api === 22) return Buffer.concat([correlation, i32(0), i16(0), i64(producers++), i16(0)])
    if (api !== 0) throw new Error(`the fake broker does not know API ${api}`)
    const produce = { node, batches: readProduce(request) }
    received.push(produce)
    const reply = await cluster.onProduce(produce, (batches) => batches.map((batch) => write(node, batch)))
    if (typeof reply === 'string') return reply
    return Buffer.concat([correlation, produceAnswer(reply)])
  }

  function metadata(topics: readonly string[], named: FakeCluster['leaders']): Buffer {
    const errorOf = (leader: number | null) => (leader === null ? LEADER_NOT_AVAILABLE : 0)
    return Buffer.concat([
      i32(0),
      list(
        servers
          .map((server, index) => ({ node: index + 1, port: portOf(server) }))
          .filter(({ node }) => !fenced.has(node))
          .map(({ node, port }) => [i32(node), text('127.0.0.1'), i32(port), text(null)]),
      ),
      text(null),
      i32(1),
      list(
        topics.map((topic) => [
          i16(named[topic] === undefined ? UNKNOWN_TOPIC : 0),
          text(topic),
          Buffer.from([0]),
          list(
            (named[topic] ?? []).map((leader, partition) => [
              i16(errorOf(leader)),
              i32(partition),
              i32(leader ?? -1),
              list([]),
              list([]),
              list([]),
            ]),
          ),
        ]),
      ),
    ])
  }

  function serve(node: number, socket: Socket): void {
    sockets.add(socket)
    // A client that gives up resets the connection. The fake broker ignores that.
    socket.on('error', () => sockets.delete(socket))
    let buffered = Buffer.alloc(0)
    // A broker answers the requests of one connection one after the other.
    let turn: Promise<void> = Promise.resolve()
    const respond = async (frame: Buffer) => {
      const reply = await answer(node, new Reader(frame))
      if (reply === 'close') socket.destroy()
      else if (reply !== 'silence') socket.write(Buffer.concat([i32(reply.length), reply]))
    }
    const take = (frame: Buffer) => {
      turn = turn.then(() => respond(frame))
    }
    socket.on('data', (chunk: Buffer) => {
      buffered = Buffer.concat([buffered, chunk])
      while (buffered.length >= 4 && buffered.length >= 4 + buffered.readInt32BE(0)) {
        const end = 4 + buffered.readInt32BE(0)
        const frame = buffered.subarray(4, end)
        buffered = buffered.subarray(end)
        const waiting = suspended.get(node)
        if (waiting === undefined) take(frame)
        else waiting.push(() => take(frame))
      }
    })
  }

  const servers: Server[] = []
  for (let node = 1; node <= nodes; node++) {
    const server = createServer((socket) => serve(node, socket))
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    servers.push(server)
  }
  const cluster: FakeCluster = {
    brokers: servers.map((server) => `127.0.0.1:${portOf(server)}`),
    leaders,
    received,
    onProduce: ({ batches }, writeAll) => writeAll(batches),
    log: (topic, partition) => logOf(topic, partition).values,
    empty: (topic) => {
      for (const name of logs.keys()) if (name.startsWith(`${topic}/`)) logs.delete(name)
    },
    suspend: (node) => {
      suspended.set(node, [])
    },
    cutOff: (node) => {
      known.set(node, { ...leaders })
    },
    fence: (node) => {
      fenced.add(node)
    },
    wake: (node) => {
      const waiting = suspended.get(node) ?? []
      suspended.delete(node)
      for (const work of waiting) work()
    },
    close: async () => {
      for (const socket of sockets) socket.destroy()
      await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))))
    },
  }
  return cluster
}

function portOf(server: Server): number {
  return (server.address() as AddressInfo).port
}

function apiVersions(): Buffer {
  const apis = [
    [0, 7],
    [3, 6],
    [18, 2],
    [22, 1],
  ] as const
  return Buffer.concat([i16(0), list(apis.map(([api, max]) => [i16(api), i16(0), i16(max)])), i32(0)])
}

function readProduce(request: Reader): ReceivedBatch[] {
  request.text()
  request.i16()
  request.i32()
  return request
    .list(() => {
      const topic = request.text() ?? ''
      return request.list(() => {
        const partition = request.i32()
        return { topic, partition, ...readBatch(new Reader(request.bytes(request.i32()))) }
      })
    })
    .flat()
}

/** The batch format of Kafka 0.11 and later (magic 2), uncompressed. */
function readBatch(batch: Reader): Pick<ReceivedBatch, 'producerId' | 'sequence' | 'values'> {
  // Offset, length, leader epoch, magic, checksum, attributes, last offset and two times.
  batch.bytes(43)
  const producerId = batch.i64()
  batch.i16()
  const sequence = batch.i32()
  const values = batch.list(() => {
    const record = new Reader(batch.bytes(batch.varint()))
    record.bytes(1)
    record.varint()
    record.varint()
    record.bytes(record.varint())
    return record.bytes(record.varint()).toString()
  })
  return { producerId, sequence, values }
}

function produceAnswer(answers: readonly BatchAnswer[]): Buffer {
  const topics = Map.groupBy(answers, ({ topic }) => topic)
  return Buffer.concat([
    list(
      Array.from(topics, ([topic, batches]) => [
        text(topic),
        list(batches.map(({ partition, error }) => [i32(partition), i16(error), i64(0n), i64(-1n), i64(0n)])),
      ]),
    ),
    i32(0),
  ])
}

class Reader {
  readonly #buffer: Buffer
  #at = 0

  constructor(buffer: Buffer) {
    this.#buffer = buffer
  }

  bytes(length: number): Buffer {
    this.#at += length
    return this.#buffer.subarray(this.#at - length, this.#at)
  }

  i16(): number {
    return this.bytes(2).readInt16BE()
  }

  i32(): number {
    return this.bytes(4).readInt32BE()
  }

  i64(): bigint {
    return this.bytes(8).readBigInt64BE()
  }

  varint(): number {
    let value = 0
    for (let shift = 0; ; shift += 7) {
      const byte = this.bytes(1).readUInt8()
      value |= (byte & 0x7f) << shift
      if (byte < 0x80) return (value >>> 1) ^ -(value & 1)
    }
  }

  text(): string | null {
    const length = this.i16()
    return length < 0 ? null : this.bytes(length).toString()
  }

  list<Item>(item: () => Item): Item[] {
    return Array.from({ length: this.i32() }, item)
  }
}

function i16(value: number): Buffer {
  const buffer = Buffer.alloc(2)
  buffer.writeInt16BE(value)
  return buffer
}

function i32(value: number): Buffer {
  const buffer = Buffer.alloc(4)
  buffer.writeInt32BE(value)
  return buffer
}

function i64(value: bigint): Buffer {
  const buffer = Buffer.alloc(8)
  buffer.writeBigInt64BE(value)
  return buffer
}

function text(value: string | null): Buffer {
  return value === null ? i16(-1) : Buffer.concat([i16(Buffer.byteLength(value)), Buffer.from(value)])
}

function list(items: readonly (readonly Buffer[])[]): Buffer {
  return Buffer.concat([i32(items.length), ...items.flat()])
}
