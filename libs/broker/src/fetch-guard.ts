import type { Broker, Cluster } from 'kafkajs'
import { failureType } from './failures.ts'

type FetchRequest = Parameters<Broker['fetch']>[0]
type AskedTopic = FetchRequest['topics'][number]
/** What is asked of one partition. */
type Asked = Pick<AskedTopic, 'topic'> & AskedTopic['partitions'][number]

/** What the guard tells of a fetch. */
export interface FetchListener {
  /** The partition has no record at the offset that was asked for, neither now nor later. It is to be read from elsewhere. */
  outOfRange(partition: number): void
  /** Records of the partition cannot be read, or may not be. It is to be left out of what is fetched. */
  unreadable(partition: number, error: Error): void
  /** These partitions have been read. */
  read(partitions: readonly number[]): void
  /** The partition had no record at the offset that was asked for, nor beyond. */
  atEnd(partition: number, offset: bigint): void
}

/** As much of an answer as is looked at here. */
interface Answer {
  readonly responses: readonly {
    readonly partitions: readonly {
      readonly partition: number
      readonly lastStableOffset: string
      readonly messages: readonly unknown[]
    }[]
  }[]
}

const NOTHING = { responses: [] }

/**
 * Stands between kafkajs and its fetches of one topic, to hear of three answers. At an offset out of range kafkajs commits the
 * beginning of the log and reads on there, without a word. At a batch that it cannot decode it ends the consumer, for the sake of one
 * partition. Both come to us, and kafkajs is given an empty answer. Where an answer has no records though the partition has more,
 * kafkajs asks again for ever: a broker answers so at a batch whose length is damaged.
 */
export function guardFetches(cluster: Cluster, listener: FetchListener): void {
  const guarded = new WeakSet<Broker>()
  const silentSince = new Map<number, number>()
  const findBroker = cluster.findBroker.bind(cluster)
  cluster.findBroker = async (node) => {
    const broker = await findBroker(node)
    if (!guarded.has(broker)) {
      guarded.add(broker)
      const fetch = broker.fetch.bind(broker)
      broker.fetch = (request) => guardedFetch(fetch, request, { listener, silentSince })
    }
    return broker
  }
}

async function guardedFetch(
  fetch: Broker['fetch'],
  request: FetchRequest,
  { listener, silentSince }: { listener: FetchListener; silentSince: Map<number, number> },
): Promise<unknown> {
  try {
    const answer: Answer = await fetch(request)
    const { silent, atEnd } = emptyOf(request, answer)
    const found = await findSilent(fetch, request, suspectsOf(answer, silent, silentSince))
    const isSilent = (partition: number) => silent.some((each) => each.partition === partition)
    const read = partitionsOf(request).filter((partition) => !isSilent(partition))
    for (const partition of read) silentSince.delete(partition)
    listener.read(read)
    for (const partition of found) listener.unreadable(partition, new Error(SILENT))
    for (const { partition, fetchOffset } of atEnd) listener.atEnd(partition, BigInt(fetchOffset))
    return answer
  } catch (error) {
    const outside = outOfRange(error)
    if (outside !== null) {
      listener.outOfRange(outside)
      return NOTHING
    }
    if (!isUnreadable(error)) throw error
    const found = await findUnreadable(fetch, request)
    if (found.size === 0) throw error
    for (const [partition, each] of found) listener.unreadable(partition, each)
    return NOTHING
  }
}

const SILENT = 'the broker hands out none of the records that it has: a record batch may be damaged'

/** For so long a partition may be crowded out of the answers by others that have much, in milliseconds. */
const CROWDED_MS = 2_000

/**
 * The silent partitions that are to be fetched by themselves: where the answer has no record at all, or had none of theirs for a while.
 * To ask each time would read a long backlog once for each partition.
 */
function suspectsOf(
  { responses }: Answer,
  silent: readonly Asked[],
  silentSince: Map<number, number>,
): readonly Asked[] {
  const nowMs = performance.now()
  const isFull = responses.some(({ partitions }) => partitions.some(({ messages }) => messages.length > 0))
  return silent.filter(({ partition }) => {
    const sinceMs = silentSince.get(partition) ?? nowMs
    const isSuspect = !isFull || nowMs - sinceMs > CROWDED_MS
    silentSince.set(partition, isSuspect ? nowMs : sinceMs)
    return isSuspect
  })
}

/** Which partitions have records that the broker does not hand out when they are fetched by themselves. */
async function findSilent(
  fetch: Broker['fetch'],
  request: FetchRequest,
  suspects: readonly Asked[],
): Promise<readonly number[]> {
  const found: number[] = []
  for (const { topic, ...asked } of suspects) {
    // One byte brings the first batch whole.
    const alone = { ...request, topics: [{ topic, partitions: [{ ...asked, maxBytes: 1 }] }] }
    if (emptyOf(alone, await fetch(alone)).silent.length > 0) found.push(asked.partition)
  }
  return found
}

/** The partitions of which an answer has no record: `silent` have more at the broker, and `atEnd` do not. */
function emptyOf(
  { topics }: FetchRequest,
  { responses }: Answer,
): Readonly<Record<'silent' | 'atEnd', readonly Asked[]>> {
  const ends = new Map<number, bigint>()
  for (const { partitions } of responses)
    for (const { partition, lastStableOffset, messages } of partitions)
      if (messages.length === 0) ends.set(partition, BigInt(lastStableOffset))
  const asked = topics.flatMap(({ topic, partitions }) => partitions.map((each) => ({ topic, ...each })))
  const empty = asked.filter(({ partition }) => ends.has(partition))
  const isSilent = ({ partition, fetchOffset }: Asked) => (ends.get(partition) ?? 0n) > BigInt(fetchOffset)
  return { silent: empty.filter(isSilent), atEnd: empty.filter((each) => !isSilent(each)) }
}

/** Which partitions of a failed fetch it failed for: each is fetched by itself. */
async function findUnreadable(
  fetch: Broker['fetch'],
  request: FetchRequest,
): Promise<ReadonlyMap<number, Error>> {
  const found = new Map<number, Error>()
  for (const { topic, partitions } of request.topics) {
    for (const partition of partitions) {
      try {
        await fetch({ ...request, maxWaitTime: 0, topics: [{ topic, partitions: [partition] }] })
      } catch (error) {
        if (isUnreadable(error)) found.set(partition.partition, error)
        else if (outOfRange(error) === null) throw error
      }
    }
  }
  return found
}

function partitionsOf({ topics }: FetchRequest): readonly number[] {
  return topics.flatMap(({ partitions }) => partitions.map(({ partition }) => partition))
}

function outOfRange(error: unknown): number | null {
  if (failureType(error) !== 'OFFSET_OUT_OF_RANGE') return null
  const { partition } = error as { readonly partition?: unknown }
  return typeof partition === 'number' ? partition : null
}

/** Answers of brokers that tell of one partition, and that no try at once mends. kafkajs would end the consumer of all partitions. */
const UNREADABLE =
  /^(?:CORRUPT_MESSAGE|KAFKA_STORAGE_ERROR|UNKNOWN|UNSUPPORTED_COMPRESSION_TYPE|.*_AUTHORIZATION_FAILED)$/

/**
 * Whether an answer came and could not be read, or says that we may not read. Errors of kafkajs without a type are about connections
 * and the cluster, or about a codec that it lacks. All other errors come from decoding.
 */
function isUnreadable(error: unknown): error is Error {
  if (!(error instanceof Error)) return false
  const type = failureType(error)
  if (type !== null) return UNREADABLE.test(type)
  return !error.name.startsWith('KafkaJS') || error.name === 'KafkaJSNotImplemented'
}
