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
  readonly log: number
}

/** Read and not yet taken. Without an offset where the log has lost it: it is handled, and moves no commit. */
type Waiting = Omit<Entry, 'offset'> & { readonly offset: bigint | null }

/** One partition from when the group gave it to us until it gives it to another consumer. */
interface Partition {
  readonly partition: number
  /** False from each join until the group's commit is known: other consumers may have gone on. */
  isPlaced: boolean
  waiting: Waiting[]
  /** The offset that must be taken next. */
  expected: bigint
  /** The last record read, which lies before `expected`; null where it is not known. */
  mark: Mark | null
  /** Nothing is taken until the marked record has been seen again. */
  checking: boolean
  /** Everything below has been handled. */
  handled: Place | null
  /** Everything below has been committed. */
  committed: bigint | null
  /** The group's commit may be one of the log before the rewind. */
  isRewound: boolean
  /** Everything below was handled, or given up, when reading was last placed. */
  placed: bigint
  /** A read that began beyond what was expected, seen once. */
  gap: bigint | null
  /** Counts the joins: a batch of an earlier one is not tried again. */
  generation: number
  /** Counts the logs: offsets of one say nothing of another. */
  log: number
}

/**
 * What one consumer has read and not yet handled, partition by partition. Pure bookkeeping, apart from kafkajs so that
 * it can be tested alone: order, what must not be handled twice at once, what may be committed, and where reading goes on.
 */
export interface Backlog {
  /**
   * The group gave us these. Nothing is taken of a partition until it is placed. The records that wait are kept where the partition was
   * ours before: if the log has lost its end, they are the last copies.
   */
  assign(partitions: readonly number[]): void
  /** We are no member of the group. Which partitions are ours, `assign` says. */
  leave(): void
  /** Where the group's commit is; null where there is none. The partition is read from `readFrom`. */
  place(partition: number, commit: Place | null): void
  /** Retention has removed what lay below `at`: reading goes on there. */
  skip(partition: number, at: bigint): void
  /** The log is another from `at` on. What waits is the last copy of what the log has lost, and is handled all the same. */
  rewind(partition: number, at: bigint): void
  /** The marked record must be seen again before more is taken: the log may have changed since it was read. */
  recheck(partition: number): void
  /** Whether the marked record must be seen again at `offset` before more is taken. */
  awaits(partition: number, offset: bigint): boolean
  /** Where a partition is to be read: from the marked record on, where it must be seen again. */
  readFrom(partition: number): bigint
  /** What is to be taken next, and the record before it; null where that is not known, or the partition is not ours. */
  next(partition: number): Place | null
  add(read: Read): Added
  /** The next batch, or null when nothing can be handed out now. */
  take(batchSize: number): Batch | null
  /** The records of a batch that are still ours to handle; none of a partition that was assigned since. */
  records(batch: Batch): readonly ConsumedRecord[]
  /** The batch has been handled. */
  handled(batch: Batch): void
  /** The batch's partitions may be handed out again. Its records wait again unless they were handled. */
  release(batch: Batch): void
  waiting(partition: number): number
  dueCommits(): readonly DueCommit[]
  committed(commits: readonly DueCommit[]): void
}

export function createBacklog(): Backlog {
  let partitions = new Map<number, Partition>()
  /** Outlives ownership: a partition that comes back must wait for what was begun before it went. */
  const busy = new Map<number, Share>()
  let cursor = 0

  const isOwned = ({ owned }: Share) => partitions.get(owned.partition) === owned

  return {
    assign: (assigned) => {
      partitions = new Map(
        assigned.map((partition) => [
          partition,
          unplaced(partitions.get(partition) ?? newPartition(partition)),
        ]),
      )
    },

    leave: () => {
      for (const owned of partitions.values()) unplaced(owned)
    },

    place: (partition, commit) => {
      const owned = partitions.get(partition)
      if (owned === undefined) return
      const own = owned.handled
      const ours = own !== null && (commit === null || own.next >= commit.next || owned.isRewound)
      // Where another consumer went on meanwhile, what we handled before it says nothing any more.
      if (!ours) owned.handled = null
      const { next, mark } = ours ? own : (commit ?? { next: 0n, mark: null })
      owned.isPlaced = true
      owned.committed = commit?.next ?? null
      owned.waiting = owned.waiting.filter(({ offset }) => offset === null || offset >= next)
      // The commit's mark shows a loss behind it, and only the last record read shows a loss before that record.
      if (next < owned.expected && owned.mark !== null) moveTo(owned, next, owned)
      else moveTo(owned, next, { expected: next, mark })
    },

    skip: (partition, at) => {
      const owned = partitions.get(partition)
      if (owned === undefined) return
      restart(owned, at)
      if (owned.waiting.length === 0 && !busy.has(partition)) owned.handled = { next: at, mark: null }
    },

    rewind: (partition, at) => {
      const owned = partitions.get(partition)
      if (owned === undefined) return
      restart(owned, at)
      owned.handled = { next: at, mark: null }
      owned.committed = null
      owned.isRewound = true
    },

    recheck: (partition) => {
      const owned = partitions.get(partition)
      if (owned !== undefined) owned.checking = owned.mark !== null
    },

    awaits: (partition, offset) => {
      const owned = partitions.get(partition)
      return owned?.isPlaced === true && owned.checking && owned.mark?.offset === offset
    },

    readFrom: (partition) => {
      const owned = partitions.get(partition)
      return owned === undefined ? 0n : readFrom(owned)
    },

    next: (partition) => {
      const owned = partitions.get(partition)
      return owned?.isPlaced ? { next: owned.expected, mark: owned.mark } : null
    },

    add: (read) => {
      const owned = partitions.get(read.partition)
      if (!owned?.isPlaced) return 'refused'
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
        if (!owned?.isPlaced || owned.waiting.length === 0 || busy.has(owned.partition)) continue
        const entries = owned.waiting.splice(0, room)
        room -= entries.length
        const share = { owned, generation: owned.generation, log: owned.log, entries }
        busy.set(owned.partition, share)
        shares.push(share)
      }
      // The next batch begins elsewhere, so that a full partition does not keep the others waiting.
      cursor = order.length === 0 ? 0 : (cursor + 1) % order.length
      return shares.length === 0 ? null : { shares }
    },

    records: ({ shares }) =>
      shares
        .filter((share) => isOwned(share) && share.generation === share.owned.generation)
        .flatMap(({ entries }) => entries.map(({ record }) => record)),

    handled: ({ shares }) => {
      for (const share of shares) {
        const { owned, log, entries } = share
        busy.delete(owned.partition)
        const last = entries.findLast(isInLog)
        if (last === undefined || !isOwned(share) || log !== owned.log) continue
        const next = last.offset + 1n
        if (next > owned.placed) owned.handled = { next, mark: markOf(last) }
      }
    },

    release: ({ shares }) => {
      for (const share of shares) {
        const { owned, log, entries } = share
        if (busy.get(owned.partition) !== share) continue
        busy.delete(owned.partition)
        if (!isOwned(share)) continue
        const again =
          log === owned.log
            ? entries.filter(({ offset }) => offset === null || offset >= owned.placed)
            : entries.map(withoutOffset)
        owned.waiting.unshift(...again)
      }
    },

    waiting: (partition) => partitions.get(partition)?.waiting.length ?? 0,

    dueCommits: () => {
      const due: DueCommit[] = []
      for (const { partition, isPlaced, handled, committed, log } of partitions.values()) {
        if (isPlaced && handled !== null && handled.next !== committed)
          due.push({ partition, log, ...handled })
      }
      return due
    },

    committed: (commits) => {
      for (const { partition, next, log } of commits) {
        const owned = partitions.get(partition)
        if (owned === undefined || owned.log !== log) continue
        owned.committed = next
        owned.isRewound = false
      }
    },
  }
}

function newPartition(partition: number): Partition {
  return {
    ...{ partition, isPlaced: false, waiting: [], expected: 0n, mark: null, checking: false, handled: null },
    ...{ committed: null, isRewound: false, placed: 0n, gap: null, generation: 0, log: 0 },
  }
}

function unplaced(owned: Partition): Partition {
  owned.isPlaced = false
  owned.generation += 1
  return owned
}

/** Reading goes on from `expected`, once the marked record has been seen again. */
function moveTo(
  owned: Partition,
  placed: bigint,
  { expected, mark }: Pick<Partition, 'expected' | 'mark'>,
): void {
  owned.expected = expected
  owned.placed = placed
  owned.mark = mark
  owned.checking = mark !== null
  owned.gap = null
}

/** Reading begins again at `at`. What was read before keeps no place in the log. */
function restart(owned: Partition, at: bigint): void {
  owned.waiting = owned.waiting.map(withoutOffset)
  owned.log += 1
  moveTo(owned, at, { expected: at, mark: null })
}

function withoutOffset(entry: Waiting): Waiting {
  return { ...entry, offset: null }
}

function readFrom({ expected, mark, checking }: Partition): bigint {
  return checking && mark !== null ? mark.offset : expected
}

/** Takes what is new. What is below was taken before. */
function take(owned: Partition, { next, entries }: Read): void {
  const { expected } = owned
  for (const entry of entries) if (entry.offset >= expected) owned.waiting.push(entry)
  const last = entries.at(-1)
  if (next <= expected) return
  owned.expected = next
  if (last !== undefined) owned.mark = markOf(last)
}

function isInLog(entry: Waiting): entry is Entry {
  return entry.offset !== null
}
