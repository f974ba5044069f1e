import type { ConsumedRecord } from '@curfew/domain'

/** A record and where it lies in its partition. */
export interface Entry {
  readonly offset: bigint
  readonly record: ConsumedRecord
}

/** What was read from one partition at one go. */
export interface Read {
  readonly partition: number
  /** The offset that was asked for. */
  readonly from: bigint
  /** The offset after the last one read. */
  readonly next: bigint
  readonly entries: readonly Entry[]
}

/** One partition's share in a batch. */
interface Share {
  readonly owned: Partition
  readonly generation: number
  readonly entries: readonly Entry[]
}

/** Records that were taken together. No other batch has records of the same partitions until it is released. */
export interface Batch {
  readonly shares: readonly Share[]
}

/** A commit that is due: everything below `next` has been handled. */
export interface DueCommit {
  readonly partition: number
  readonly next: bigint
}

/** One partition from when the group gave it to us until it takes it away. */
interface Partition {
  readonly partition: number
  /** Read and not yet taken. */
  waiting: Entry[]
  /** The offset that must be read next; null before the first read. */
  expected: bigint | null
  /** The first offset that was ever read here: where reading begins again while nothing has been handled. */
  first: bigint | null
  /** Everything below has been handled. */
  handled: bigint | null
  /** Everything below has been committed. */
  committed: bigint | null
  /** Just after a rebalance the group reads again from the last commit. */
  mayRepeat: boolean
  /** A read that began beyond `expected`, seen once. */
  gap: bigint | null
  /** Counts the rebalances since. */
  generation: number
}

/**
 * What one consumer has read and not yet handled, partition by partition. Pure bookkeeping, apart from kafkajs so that
 * it can be tested alone: order, what must not be handled twice at once, and what may be committed.
 */
export interface Backlog {
  /** The group gave us these. What waits is forgotten, because all is read again from the last commit. */
  assign(partitions: readonly number[]): void
  /** Says whether the read was taken: no, when it belongs to another time or place. Then it must be read again. */
  add(read: Read): 'taken' | 'refused'
  /** The next batch, or null when nothing can be handed out now. */
  take(batchSize: number): Batch | null
  /** The records of a batch that are still ours to handle. */
  records(batch: Batch): readonly ConsumedRecord[]
  /** The batch has been handled. */
  handled(batch: Batch): void
  /** The batch's partitions may be handed out again. */
  release(batch: Batch): void
  waiting(partition: number): number
  dueCommits(): readonly DueCommit[]
  committed(commits: readonly DueCommit[]): void
}

export function createBacklog(): Backlog {
  let partitions = new Map<number, Partition>()
  /** Outlives ownership: a partition that comes back must wait for what was begun before it went. */
  const busy = new Set<number>()
  let cursor = 0

  const isOwned = ({ owned }: Share) => partitions.get(owned.partition) === owned

  return {
    assign: (assigned) => {
      const next = new Map<number, Partition>()
      for (const partition of assigned) {
        const kept = partitions.get(partition)
        next.set(partition, kept === undefined ? newPartition(partition) : restarted(kept))
      }
      partitions = next
    },

    add: ({ partition, from, next: after, entries }) => {
      const owned = partitions.get(partition)
      if (owned === undefined) return 'refused'
      if (owned.expected !== null && from > owned.expected && owned.gap !== from) {
        // With several brokers kafkajs may hand over what it asked for before a rebalance, behind records that we have
        // forgotten in it. Taken, those would be lost. Refused, the right ones are read. If the same
        // gap comes again it is real: retention has removed what lay there.
        owned.gap = from
        return 'refused'
      }
      owned.gap = null
      const skipBelow = owned.mayRepeat && owned.expected !== null ? owned.expected : from
      for (const entry of entries) if (entry.offset >= skipBelow) owned.waiting.push(entry)
      owned.first ??= from
      // Everything read had been handled before: what is new begins where we were.
      const onlyRepeats = after <= skipBelow
      if (!onlyRepeats) owned.mayRepeat = false
      owned.expected = onlyRepeats ? skipBelow : after
      return 'taken'
    },

    take: (batchSize) => {
      const order = [...partitions.values()]
      const shares: Share[] = []
      let room = batchSize
      for (let index = 0; index < order.length && room > 0; index++) {
        const owned = order[(cursor + index) % order.length]
        if (owned === undefined || owned.waiting.length === 0 || busy.has(owned.partition)) continue
        const entries = owned.waiting.splice(0, room)
        room -= entries.length
        busy.add(owned.partition)
        shares.push({ owned, generation: owned.generation, entries })
      }
      // The next batch begins elsewhere, so that a full partition does not keep the others waiting.
      cursor = order.length === 0 ? 0 : (cursor + 1) % order.length
      return shares.length === 0 ? null : { shares }
    },

    records: ({ shares }) =>
      shares.filter(isOwned).flatMap(({ entries }) => entries.map(({ record }) => record)),

    handled: ({ shares }) => {
      for (const share of shares) {
        const last = share.entries.at(-1)
        if (last === undefined || !isOwned(share)) continue
        const { owned } = share
        const next = last.offset + 1n
        owned.handled = next
        if (share.generation === owned.generation) continue
        // A rebalance came in between and the partition stayed ours: the same records are on their way again.
        owned.waiting = owned.waiting.filter(({ offset }) => offset >= next)
        if (owned.expected === null || owned.expected < next) owned.expected = next
      }
    },

    release: ({ shares }) => {
      for (const { owned } of shares) busy.delete(owned.partition)
    },

    waiting: (partition) => partitions.get(partition)?.waiting.length ?? 0,

    dueCommits: () => {
      const due: DueCommit[] = []
      for (const { partition, handled, committed } of partitions.values()) {
        if (handled !== null && handled !== committed) due.push({ partition, next: handled })
      }
      return due
    },

    committed: (commits) => {
      for (const { partition, next } of commits) {
        const owned = partitions.get(partition)
        if (owned !== undefined) owned.committed = next
      }
    },
  }
}

function newPartition(partition: number): Partition {
  return {
    partition,
    waiting: [],
    expected: null,
    first: null,
    handled: null,
    committed: null,
    mayRepeat: false,
    gap: null,
    generation: 0,
  }
}

/** A partition that stayed ours through a rebalance: it is read again from the last commit, which is at or before `handled`. */
function restarted(kept: Partition): Partition {
  kept.waiting = []
  kept.expected = kept.handled ?? kept.first
  kept.mayRepeat = true
  kept.gap = null
  kept.generation += 1
  return kept
}
