import { createRequire } from 'node:module'
import type { Leaders } from './connection.ts'
import { type Entry, PartitionQueue } from './partition-queue.ts'

interface Topic {
  readonly name: string
  /** By partition; empty while their number is unknown. */
  readonly partitions: PartitionQueue[]
  /** Records from before the number of partitions was known. */
  unrouted: Entry[]
}

/** The waiting records, by topic and partition. */
export interface Queues {
  /** @returns whether the leader of the record's partition is known. */
  push(entry: Entry): boolean
  topics(): readonly string[]
  /** Whether records wait for a partition without a known leader. */
  lackLeader(): boolean
  /** Notes the leaders of a topic's partitions, and so their number. */
  learn(topic: string, leaders: Leaders): void
  /** Forgets the leaders of a topic. */
  unlearn(topic: string): void
  /** Prepares the next batches for a leader, oldest records first, about `bytesMax` in all, and marks them as being sent. */
  take(leader: number, bytesMax: number): readonly PartitionQueue[]
  /** Removes the mark of `take`. */
  release(queue: PartitionQueue): void
}

export function createQueues(): Queues {
  const topics = new Map<string, Topic>()

  function topicOf(name: string): Topic {
    const known = topics.get(name)
    if (known !== undefined) return known
    const made: Topic = { name, partitions: [], unrouted: [] }
    topics.set(name, made)
    return made
  }

  function push(entry: Entry): boolean {
    const topic = topicOf(entry.topic)
    const queue = topic.partitions[partitionOf(entry, topic.partitions.length)]
    if (queue === undefined) topic.unrouted.push(entry)
    else queue.push(entry)
    return queue !== undefined && queue.leader !== null
  }

  function pushAll(entries: readonly Entry[]): void {
    for (const entry of entries) push(entry)
  }

  return {
    push,
    topics: () => [...topics.keys()],
    lackLeader() {
      let lacking = false
      for (const topic of topics.values()) {
        topic.unrouted = topic.unrouted.filter(({ append }) => !append.settled)
        if (topic.unrouted.length > 0) lacking = true
        for (const queue of topic.partitions) {
          // No early exit: `oldest` also drops records whose append has ended.
          if (queue.oldest() !== null && queue.leader === null) lacking = true
        }
      }
      return lacking
    },
    learn(name, leaders) {
      const topic = topicOf(name)
      const { partitions } = topic
      while (partitions.length < leaders.length) partitions.push(new PartitionQueue(name, partitions.length))
      // The topic was created again with fewer partitions. Batches under way return through `release`.
      const gone = partitions.splice(leaders.length)
      for (const queue of partitions) queue.leader = leaders[queue.partition] ?? null
      for (const queue of gone) if (!queue.sending) pushAll(queue.drain())
      const { unrouted } = topic
      topic.unrouted = []
      pushAll(unrouted)
    },
    unlearn(name) {
      for (const queue of topicOf(name).partitions) queue.leader = null
    },
    take(leader, bytesMax) {
      const waiting = Array.from(topics.values(), ({ partitions }) => partitions)
        .flat()
        .filter((queue) => queue.leader === leader && !queue.sending)
        .map((queue) => ({ queue, oldest: queue.oldest() ?? Number.POSITIVE_INFINITY }))
        .filter(({ oldest }) => Number.isFinite(oldest))
        .sort((one, other) => one.oldest - other.oldest)
      const taken: PartitionQueue[] = []
      let bytes = 0
      for (const { queue } of waiting) {
        if (bytes >= bytesMax) break
        bytes += queue.prepare(bytesMax - bytes)
        queue.sending = true
        taken.push(queue)
      }
      return taken
    },
    release(queue) {
      queue.sending = false
      if (topicOf(queue.topic).partitions[queue.partition] !== queue) pushAll(queue.drain())
    },
  }
}

/** Chooses the partition as Kafka's own producers do, so that keys keep their partitions. */
function partitionOf({ message }: Entry, partitions: number): number {
  return (murmur2(message.key ?? '') & 0x7fffffff) % partitions
}

const murmur2 = createRequire(import.meta.url)('kafkajs/src/producer/partitioners/default/murmur2.js') as (
  key: string | Buffer,
) => number
