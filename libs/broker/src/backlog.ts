import type { ConsumedRecord } from '@curfew/domain'
import { type Entry, isMarked, type Mark, markOf, type Place } from './mark.ts'

/** The records of one fetch of one partition. */
export interface Read {
  readonly partition: number
  /** The requested offset. */
  readonly from: bigint
  /** The offset after the last one read. */
  readonly next: bigint
  readonly entries: readonly Entry[]
}

/**
 * The result of a read. `refused`: the partition is not placed, so the read is stale. `again`: the partition must be read again
 * from `readFrom`. `other`: the log has another record at the offset of the marked one.
 */
export type Added = 'taken' | 'refused' | 'again' | 'other'

/** One partition's share in a batch. */
interface Share {
  readonly owned: Partition
  readonly generation: number
  readonly log: number
  readonly entries: readonly Waiting[]
}

/** Records taken together. Until its release, no other batch has records of the same partitions. */
export interface Batch {
  readonly shares: readonly Share[]
}

/** A commit that is due: all records below `next` are handled. */
export interface DueCommit extends Place {
  readonly partition: number
  readonly log: number
}

/** A record that was read and not yet taken. Its offset is null if the log has lost it: it is handled, but moves no commit. */
type Waiting = Omit<Entry, 'offset'> & { readonly offset: bigint | null }

/** One partition, from its assignment to us until its assignment to another consumer. */
interface Partition {
  readonly partition: number
  /** False from each join until the group's commit is known. Another consumer may have moved the commit. */
  isPlaced: boolean
  waiting: Waiting[]
  /** The offset of the next record to take. */
  expected: bigint
  /** The last record read, below `expected`; null if unknown. */
  mark: Mark | null
  /** While true, no records are taken: the marked record must be seen again first. */
  checking: boolean
  /** All records below it are handled. */
  handled: Place | null
  /** All records below it are committed. */
  committed: bigint | null
  /** The group's commit may be from the log before the rewind. */
  isRewound: boolean
  /** All records below it were handled or skipped at the last placement. */
  placed: bigint
  /** The start of a read beyond `expected`, seen once. */
  gap: bigint | null
  /** Counts joins. A batch from an earlier join is not retried. */
  generation: number
  /** Counts logs. Offsets of different logs cannot be compared. */
  log: number
}

/**
 * The records that one consumer has read and not yet handled, by partition. It does no I/O and does not know kafkajs, so that
 * tests cover it alone. It decides order, exclusion between batches, which commits are due, and where reading continues.
 */
export interface Backlog {
  /**
   * Sets the partitions that the group assigned to us. No records of a partition are taken until it is placed. A partition that
   * was ours before keeps its waiting records: if the log has lost its end, they are the last copies.
   */
  assign(partitions: readonly number[]): void
  /** Notes that we left the group. The next `assign` says which partitions are ours. */
  leave(): void
  /** Sets the group's commit; null if there is none. The partition must then be read from `readFrom`. */
  place(partition: number, commit: Place | null): void
  /** Continues at `at`, because retention removed all records below it. */
  skip(partition: number, at: bigint): void
  /**
   * Starts over at `at`, because the log differs from there on. The waiting records are still handled: they are the last copies.
   */
  rewind(partition: number, at: bigint): void
  /** Takes no more records until the marked record is seen again, because the log may have changed since it was read. */
  recheck(partition: number): void
  /** Whether the record at `offset` must be seen again before more records are taken. */
  awaits(partition: number, offset: bigint): boolean
  /** Where to read a partition: at the marked record if it must be seen again, otherwise at the next record. */
  readFrom(partition: number): bigint
  /** The next offset to take and the record before it; null if the partition is not ours or not placed. */
  next(partition: number): Place | null
  add(read: Read): Added
  /** The next batch, or null if there is none to handle at present. */
  take(batchSize: number): Batch | null
  /** The records of a batch that are still ours to handle. It leaves out partitions assigned again since. */
  records(batch: Batch): readonly ConsumedRecord[]
  /** Marks the batch as handled. */
  handled(batch: Batch): void
  /** Frees the partitions of the batch for other batches. Its records wait again unless they were handled. */
  release(batch: Batch): void
  waiting(partition: number): number
  dueCommits(): readonly DueCommit[]
  committed(commits: readonly DueCommit[]): void
}

export function createBacklog(): Backlog {
  let partitions = new Map<number, Partition>()
  /** Outlives ownership: a partition that returns to us waits for its earlier batch. */
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
      // Another consumer has moved the commit, so our own position is out of date.
      if (!ours) owned.handled = null
      const { next, mark } = ours ? own : (commit ?? { next: 0n, mark: null })
      owned.isPlaced = true
      owned.committed = commit?.next ?? null
      owned.waiting = owned.waiting.filter(({ offset }) => offset === null || offset >= next)
      // The commit's mark shows a loss behind it. Only the last record read shows a loss before that record.
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
        // kafkajs may deliver a fetch from before a rebalance or a seek, so the partition is read again. If the same gap comes
        // again it is real: kafkajs filters control records out.
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
      // The next batch starts at another partition, so that a full partition does not block the others.
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

/** Continues reading at `expected`, once the marked record has been seen again. */
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

/** Starts reading at `at`. Earlier records lose their place in the log. */
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

/** Takes the new records. Records below `expected` were taken before. */
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
