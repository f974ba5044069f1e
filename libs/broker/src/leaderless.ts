import type { Cluster } from 'kafkajs'
import { withoutLeaders } from './metadata.ts'

/** What the guard needs of kafkajs's broker pool, which kafkajs does not type. The version is pinned for this. */
interface BrokerPool {
  refreshMetadata(topics: readonly string[]): Promise<unknown>
  /** When kafkajs looks again by itself. */
  metadataExpireAt: number | null
}

/** Else kafkajs looks every five minutes. */
const LOOK_AGAIN_MS = 1_000
/** Elections are over sooner. */
const ELECTION_MS_MAX = 5_000

/**
 * Lets kafkajs consume the partitions that have a leader while others have none, and look for the leaders of those. It asks no broker
 * for a partition without a leader.
 *
 * @param onLook told of the partitions of `topic` without a leader at every look.
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

/** Which partitions of a topic have no leader, and for how long. */
export interface Leaderless {
  looked(leaderless: readonly number[]): void
  /** Says which of these partitions have had none for longer than an election takes; null: none of them. */
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
        : new Error(`no broker leads ${names.join(', ')}: a replica that has every record must come back`)
    },
  }
}
