import type { ConsumeOptions, LogLane, OwnLedger } from '@curfew/domain'
import type { Backlog } from './backlog.ts'
import { isTooEarly } from './failures.ts'
import { foreignText, lostSince, otherLedger } from './mark.ts'
import type { Commit, Membership } from './membership.ts'

export interface PlacingDeps {
  readonly lane: LogLane
  readonly topic: string
  readonly backlog: Backlog
  readonly membership: Membership
  readonly onFault: NonNullable<ConsumeOptions['onFault']>
  readonly onError: (error: unknown) => void
  /** The ledger whose records are read; null where commits name none. */
  readonly readLedger: () => Promise<OwnLedger | null>
  /** The partition is not read, because the last commit is of another ledger. */
  readonly onForeign: (partition: number, error: Error) => void
  /** Resolves after a while, or when the membership has ended. */
  readonly pause: () => Promise<void>
  readonly ended: () => boolean
  /** The partition may be fetched. */
  readonly onPlaced: (partition: number) => void
}

/**
 * Decides where each partition is read: from the group's commit, or from elsewhere where the log shows that the commit does not fit. A
 * commit names the record before it, which is read once more and compared. Nothing else is read twice as long as the log is sound.
 */
export interface Placing {
  /** The group gave us these, and none else. */
  assigned(partitions: readonly number[]): void
  /** Whether it is not known yet where the partition is to be read. */
  isMoving(partition: number): boolean
  /** Reads a partition from where the backlog wants it. */
  reread(partition: number): void
  /** The broker has no record where the partition was to be read. */
  outOfRange(partition: number): void
  /** The log has another record where the marked one lay. */
  changed(partition: number): void
  /** The leader has no record at `offset`, where the marked one lay. It may be new, and not know yet what is confirmed. */
  missing(partition: number, offset: bigint): void
}

export function createPlacing(deps: PlacingDeps): Placing {
  const {
    lane,
    topic,
    backlog,
    membership,
    onFault,
    onError,
    pause,
    ended,
    onPlaced,
    readLedger,
    onForeign,
  } = deps
  let assignment: readonly number[] = []
  /** Being placed: what is still fetched of them says nothing. */
  const moving = new Set<number>()
  /** It is being asked where these end. */
  const looking = new Set<number>()

  /** Does `work` until it succeeds, or is about an assignment that has passed. */
  async function persist(work: (isCurrent: () => boolean) => Promise<void>): Promise<void> {
    const ours = assignment
    const isCurrent = () => ours === assignment && !ended()
    while (isCurrent()) {
      try {
        return await work(isCurrent)
      } catch (error) {
        if (!isTooEarly(error)) onError(error)
        await pause()
      }
    }
  }

  function goOn(partition: number): void {
    moving.delete(partition)
    membership.seek(partition, backlog.readFrom(partition))
    onPlaced(partition)
  }

  async function placeAll(partitions: readonly number[]): Promise<void> {
    let left = partitions
    await persist(async (isCurrent) => {
      while (left.length > 0 && isCurrent()) {
        const ledger = await readLedger()
        const commits = await membership.readCommits(left)
        if (!isCurrent()) return
        left = left.filter((partition) => !place(partition, commits.get(partition), ledger))
        if (left.length > 0) await pause()
      }
    })
  }

  /** @returns whether the partition may be read. Its records may be owed to relying parties of another ledger. */
  function place(partition: number, commit: Commit | undefined, ledger: OwnLedger | null): boolean {
    const other = ledger && otherLedger(commit?.metadata, ledger)
    if (other !== null) {
      onForeign(partition, new Error(foreignText(`${topic}/${partition}`, other)))
      return false
    }
    backlog.place(partition, commit?.place ?? null)
    goOn(partition)
    return true
  }

  /** Where the log begins after what was to be read next, that was removed unread. Else the log has lost its end. */
  async function replace(partition: number, why: 'out of range' | 'changed'): Promise<void> {
    if (moving.has(partition) || !assignment.includes(partition)) return
    moving.add(partition)
    membership.pause(partition)
    await persist(async (isCurrent) => {
      const place = backlog.next(partition)
      const start = await membership.readStart(partition)
      if (place === null || !isCurrent()) return
      const { next, mark } = place
      // Without a commit nothing says how much has been handled: Kafka forgets those of groups that were empty for long.
      const fault = { lane, partition: `${topic}/${partition}`, from: next === 0n ? null : Number(next) }
      if (why === 'out of range' && start > backlog.readFrom(partition)) {
        const unread = start > next
        if (unread) await onFault({ ...fault, kind: 'removed', to: Number(start) })
        if (!isCurrent()) return
        backlog.skip(partition, unread ? start : next)
      } else {
        const first = mark === null ? null : await membership.readFirstSince(partition, lostSince(mark))
        const to = first !== null && first <= next ? first : start
        await onFault({ ...fault, kind: 'rewound', to: Number(to) })
        if (!isCurrent()) return
        backlog.rewind(partition, to)
      }
      goOn(partition)
    })
  }

  async function lookForEnd(partition: number, offset: bigint): Promise<void> {
    if (looking.has(partition)) return
    looking.add(partition)
    await persist(async (isCurrent) => {
      // Unlike a fetch, this question is answered only when the leader knows.
      const end = await membership.readEnd(partition)
      if (isCurrent() && end <= offset && backlog.awaits(partition, offset))
        void replace(partition, 'changed')
    })
    looking.delete(partition)
  }

  return {
    assigned(partitions) {
      assignment = [...partitions]
      moving.clear()
      for (const partition of partitions) moving.add(partition)
      if (partitions.length > 0) void placeAll(partitions)
    },
    isMoving: (partition) => moving.has(partition),
    reread(partition) {
      if (!moving.has(partition)) membership.seek(partition, backlog.readFrom(partition))
    },
    outOfRange: (partition) => void replace(partition, 'out of range'),
    changed: (partition) => void replace(partition, 'changed'),
    missing: (partition, offset) => void lookForEnd(partition, offset),
  }
}
