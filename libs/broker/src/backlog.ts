import type { ConsumedRecord } from '@curfew/domain'
import { type Entry, isMarked, type Mark, markOf, type Place } from './mark.ts'

/** What was read from one partition at one go. */
export interface Read {
  readonly partition: number
  /** The offset that was asked for. */
  readonly from: bigint
  /** The offset after the last one read. */
  readonly next: bigint
  readonly entries: readonly Entry[]
}

/**
 * What became of a read. `refused`: it belongs to another time. `again`: the partition is read again, from `readFrom`. `other`: the
 * log has other records than those that were handled.
 */
export type Added = 'taken' | 'refused' | 'again' | 'other'

/** One partition's share in a batch. */
interface Share {
  readonly owned: Partition
  readonly generation: number
  readonly log: number
  readonly entries: readonly Waiting[]
}

/** Records that were taken together. No other batch has records of the same partitions until it is released. */
export interface Batch {
  readonly shares: readonly Share[]
}

/** A commit that is due: everything below `next` has been handled. */
export interface DueCommit extends Place {
  readonly partition: number
}

/** Read and not yet taken. Without an offset where the log has lost it: it is handled, and moves no commit. */
type Waiting = Omit<Entry, 'offset'> & { readonly offset: bigint | null }

/** One partition from when the group gave it to us until it takes it away. */
interface Partition {
  readonly partition: number
  waiting: Waiting[]
  /** The offset that must be taken next; null until it is known. */
  expected: bigint | null
  /** The last record read, which lies before `expected`; null where it is not known. */
  mark: Mark | null
  /** Nothing is taken until the marked record has been seen again. */
  checking: boolean
  /** Everything below has been handled. */
  handled: Place | null
  /** Everything below has been committed. */
  committed: bigint | null
  /** Where reading last began by other means than taking: what is below was handled by others. */
  placed: bigint | null
  /** A read that began beyond what was expected, seen once. */
  gap: bigint | null
  /** Counts the rebalances since. */
  generation: number
  /** Counts the logs: offsets of one say nothing of another. */
  log: number
}

/**
 * What one consumer has read and not yet handled, partition by partition. Pure bookkeeping, apart from kafkajs so that
 * it can be tested alone: order, what must not be handled twice at once, what may be committed, and where reading goes on.
 */
export interface Backlog {
  /** The group gave us these. What waits is forgotten, and nothing is taken of a partition until it is placed. */
  assign(partitions: readonly number[]): void
  /** Where the group's commit is; null where there is none. The partition is read from `readFrom`. */
  place(partition: number, commit: Place | null): void
  /** Retention has removed what lay below `at`: reading goes on there. */
  skip(partition: number, at: bigint): void
  /** The log is another from `at` on. What waits is the last copy of what the log has lost, and is handled all the same. */
  rewind(partition: number, at: bigint): void
  /** The marked record must be seen again before more is taken: the log may have changed since it was read. */
  recheck(partition: number): void
  /** Where a partition is to be read: from the marked record on, where it must be seen again. */
  readFrom(partition: number): bigint
  /** What is to be taken next, and the record before it; null where that is not known, or the partition is not ours. */
  next(partition: number): Place | null
  add(read: Read): Added
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

    place: (partition, commit) => {
      const owned = partitions.get(partition)
      if (owned === undefined) return
      const own = owned.handled
      const ours = own !== null && (commit === null || own.next >= commit.next)
      // Where another consumer went on meanwhile, what we handled before it says nothing any more.
      if (!ours) owned.handled = null
      const { next, mark } = ours ? own : (commit ?? { next: 0n, mark: null })
      moveTo(owned, next, mark)
      owned.committed = commit?.next ?? null
    },

    skip: (partition, at) => {
      const owned = partitions.get(partition)
      if (owned === undefined) return
      moveTo(owned, at, null)
      if (owned.waiting.length === 0 && !busy.has(partition)) owned.handled = { next: at, mark: null }
    },

    rewind: (partition, at) => {
      const owned = partitions.get(partition)
      if (owned === undefined) return
      owned.waiting = owned.waiting.map((entry) => ({ ...entry, offset: null }))
      owned.log += 1
      moveTo(owned, at, null)
      owned.handled = { next: at, mark: null }
      owned.committed = null
    },

    recheck: (partition) => {
      const owned = partitions.get(partition)
      if (owned !== undefined) owned.checking = owned.mark !== null
    },

    readFrom: (partition) => {
      const owned = partitions.get(partition)
      return owned === undefined ? 0n : readFrom(owned)
    },

    next: (partition) => {
      const owned = partitions.get(partition)
      return owned === undefined || owned.expected === null
        ? null
        : { next: owned.expected, mark: owned.mark }
    },

    add: (read) => {
      const owned = partitions.get(read.partition)
      if (owned === undefined || owned.expected === null) return 'refused'
      const start = readFrom(owned)
      if (read.from > start) {
        // kafkajs may hand over what it asked for before a rebalance or a seek: the right records are read then. If the same
        // gap comes again it is real, for kafkajs keeps control records to itself.
        const seen = owned.gap === read.from
        owned.gap = read.from
        if (!seen) return 'again'
        if (owned.checking) return 'other'
      }
      owned.gap = null
      const [first] = read.entries
      if (owned.mark !== null && owned.checking) {
        if (read.from < start) return 'again'
        if (first === undefined || !isMarked(first, owned.mark)) return 'other'
        owned.checking = false
      } else if (owned.mark !== null && first !== undefined && first.epoch !== owned.mark.epoch) {
        owned.checking = true
        return 'again'
      }
      take(owned, read)
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
        shares.push({ owned, generation: owned.generation, log: owned.log, entries })
      }
      // The next batch begins elsewhere, so that a full partition does not keep the others waiting.
      cursor = order.length === 0 ? 0 : (cursor + 1) % order.length
      return shares.length === 0 ? null : { shares }
    },

    records: ({ shares }) =>
      shares.filter(isOwned).flatMap(({ entries }) => entries.map(({ record }) => record)),

    handled: ({ shares }) => {
      for (const share of shares) {
        const { owned, log, generation } = share
        const last = share.entries.findLast(isInLog)
        if (last === undefined || !isOwned(share) || log !== owned.log) continue
        const next = last.offset + 1n
        if (owned.placed !== null && next <= owned.placed) continue
        owned.handled = { next, mark: markOf(last) }
        if (generation === owned.generation) continue
        // A rebalance came in between and the partition stayed ours: the same records are on their way again.
        owned.waiting = owned.waiting.filter(({ offset }) => offset === null || offset >= next)
      }
    },

    release: ({ shares }) => {
      for (const { owned } of shares) busy.delete(owned.partition)
    },

    waiting: (partition) => partitions.get(partition)?.waiting.length ?? 0,

    dueCommits: () => {
      const due: DueCommit[] = []
      for (const { partition, handled, committed } of partitions.values()) {
        if (handled !== null && handled.next !== committed) due.push({ partition, ...handled })
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
    ...{ partition, waiting: [], expected: null, mark: null, checking: false, handled: null },
    ...{ committed: null, placed: null, gap: null, generation: 0, log: 0 },
  }
}

/** A partition that stayed ours through a rebalance. It is read again from what was handled or committed. */
function restarted(kept: Partition): Partition {
  kept.waiting = kept.waiting.filter(({ offset }) => offset === null)
  kept.expected = null
  kept.placed = null
  kept.generation += 1
  return kept
}

function moveTo(owned: Partition, next: bigint, mark: Mark | null): void {
  owned.expected = next
  owned.placed = next
  owned.mark = mark
  owned.checking = mark !== null
  owned.gap = null
}

function readFrom({ expected, mark, checking }: Partition): bigint {
  return checking && mark !== null ? mark.offset : (expected ?? 0n)
}

/** Takes what is new. What is below was taken before, or was being handled when the group read it again. */
function take(owned: Partition, { next, entries }: Read): void {
  const expected = owned.expected ?? 0n
  const handled = owned.handled?.next ?? 0n
  const fresh = handled > expected ? handled : expected
  for (const entry of entries) if (entry.offset >= fresh) owned.waiting.push(entry)
  const last = entries.at(-1)
  if (next <= expected) return
  owned.expected = next
  if (last !== undefined) owned.mark = markOf(last)
}

function isInLog(entry: Waiting): entry is Entry {
  return entry.offset !== null
}
