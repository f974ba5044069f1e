import type { Broker, Cluster } from 'kafkajs'
import { failureType } from './failures.ts'

type FetchRequest = Parameters<Broker['fetch']>[0]
type AskedTopic = FetchRequest['topics'][number]
/** The fetch request for one partition. */
type Asked = Pick<AskedTopic, 'topic'> & AskedTopic['partitions'][number]

/** The events of a fetch. */
export interface FetchListener {
  /** The requested offset is outside the partition's log and stays outside. The partition must be read from elsewhere. */
  outOfRange(partition: number): void
  /** The partition's records cannot be read, or access is denied. It must be left out of fetches. */
  unreadable(partition: number, error: Error): void
  /** These partitions have been read. */
  read(partitions: readonly number[]): void
  /** The partition has no record at the requested offset or beyond. */
  atEnd(partition: number, offset: bigint): void
}

/** The part of an answer that is used here. */
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
 * Intercepts the fetches of one topic by kafkajs, to handle three answers:
 *
 * - At an offset out of range kafkajs commits the beginning of the log and continues there, without an error.
 * - At a batch that it cannot decode kafkajs ends the consumer, for the sake of one partition.
 * - If an answer has no records although the partition has more, kafkajs asks again for ever. A batch with a damaged length
 *   causes it.
 *
 * The listener gets the first two, and kafkajs gets an empty answer.
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

const SILENT = 'the broker returns none of the records that the partition has: a record batch may be damaged'

/** Other partitions with many records may crowd a partition out of the answers for this long, in milliseconds. */
const CROWDED_MS = 2_000

/**
 * The silent partitions to fetch alone: all of them if the answer has no record at all, otherwise those that were silent for a
 * while. Fetching them alone each time would read a long backlog once for each partition.
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

/** The partitions with records that the broker does not return even if they are fetched alone. */
async function findSilent(
  fetch: Broker['fetch'],
  request: FetchRequest,
  suspects: readonly Asked[],
): Promise<readonly number[]> {
  const found: number[] = []
  for (const { topic, ...asked } of suspects) {
    // With a limit of one byte the broker still returns the first batch whole.
    const alone = { ...request, topics: [{ topic, partitions: [{ ...asked, maxBytes: 1 }] }] }
    if (emptyOf(alone, await fetch(alone)).silent.length > 0) found.push(asked.partition)
  }
  return found
}

/** The partitions without records in an answer. The broker has more records for the `silent` ones, and none for those `atEnd`. */
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

/** The partitions that made a fetch fail. Fetches each partition alone. */
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

/**
 * Errors that concern one partition and that an immediate retry does not cure. kafkajs would end the consumer of all partitions.
 */
const UNREADABLE =
  /^(?:CORRUPT_MESSAGE|KAFKA_STORAGE_ERROR|UNKNOWN|UNSUPPORTED_COMPRESSION_TYPE|.*_AUTHORIZATION_FAILED)$/

/**
 * Whether an answer could not be decoded, or denies access. Errors of kafkajs without a type concern connections, the cluster, or
 * a missing codec. All other errors come from decoding.
 */
function isUnreadable(error: unknown): error is Error {
  if (!(error instanceof Error)) return false
  const type = failureType(error)
  if (type !== null) return UNREADABLE.test(type)
  return !error.name.startsWith('KafkaJS') || error.name === 'KafkaJSNotImplemented'
}
