import type { Cluster } from 'kafkajs'
import { withoutLeaders } from './metadata.ts'

/** The part of kafkajs's broker pool that is used here, which kafkajs does not type. Its version is pinned for this reason. */
interface BrokerPool {
  refreshMetadata(topics: readonly string[]): Promise<unknown>
  /** The time of kafkajs's next metadata refresh. */
  metadataExpireAt: number | null
}

/** By default kafkajs refreshes its metadata every five minutes. */
const LOOK_AGAIN_MS = 1_000
/** Elections take less time. */
const ELECTION_MS_MAX = 5_000

/**
 * Lets kafkajs consume the partitions that have a leader while others have none. It asks no broker for a partition without a
 * leader, and refreshes the metadata often until all have one.
 *
 * @param onLook called at every refresh with the partitions of `topic` that have no leader.
 */
export function guardLeaders(
  cluster: Cluster,
  topic: string,
  onLook: (leaderless: readonly number[]) => void,
): void {
  const { brokerPool } = cluster as Cluster & { readonly brokerPool?: BrokerPool }
  if (typeof brokerPool?.refreshMetadata !== 'function')
    throw new TypeError('kafkajs is not the version that libs/broker was written for')
  const refresh = brokerPool.refreshMetadata.bind(brokerPool)
  brokerPool.refreshMetadata = async (topics) => {
    await withoutLeaders(() => refresh(topics))
    const leaderless = cluster
      .findTopicPartitionMetadata(topic)
      .filter(({ leader }) => leader < 0)
      .map(({ partitionId }) => partitionId)
    if (leaderless.length > 0) brokerPool.metadataExpireAt = Date.now() + LOOK_AGAIN_MS
    onLook(leaderless)
  }
}

/** Tracks which partitions of a topic have no leader, and since when. */
export interface Leaderless {
  looked(leaderless: readonly number[]): void
  /** An error that names those of `partitions` without a leader for longer than an election takes; null if there are none. */
  errorOf(partitions: readonly number[]): Error | null
}

export function createLeaderless(topic: string): Leaderless {
  let sinceMs: ReadonlyMap<number, number> = new Map()
  return {
    looked(leaderless) {
      const now = performance.now()
      sinceMs = new Map(leaderless.map((partition) => [partition, sinceMs.get(partition) ?? now]))
    },
    errorOf(partitions) {
      const latest = performance.now() - ELECTION_MS_MAX
      const names = partitions
        .filter((partition) => (sinceMs.get(partition) ?? Number.POSITIVE_INFINITY) < latest)
        .sort((one, other) => one - other)
        .map((partition) => `${topic}/${partition}`)
      return names.length === 0
        ? null
        : new Error(`no broker leads ${names.join(', ')}: start a broker with an in-sync replica`)
    },
  }
}
