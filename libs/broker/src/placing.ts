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
  /** Reads the ledger that the records are for; null if commits name no ledger. */
  readonly readLedger: () => Promise<OwnLedger | null>
  /** Called for a partition that is not read, because its last commit names another ledger. */
  readonly onForeign: (partition: number, error: Error) => void
  /** Resolves after a pause, or when the membership has ended. */
  readonly pause: () => Promise<void>
  readonly ended: () => boolean
  /** Called when the partition may be fetched. */
  readonly onPlaced: (partition: number) => void
}

/**
 * Decides where to read each partition: at the group's commit, or elsewhere if the log shows that the commit does not fit. A
 * commit names the record before it, which is read again and compared. While the log is sound, only that record is read twice.
 */
export interface Placing {
  /** The group assigned exactly these partitions to us. */
  assigned(partitions: readonly number[]): void
  /** Whether the start of reading is still undecided. */
  isMoving(partition: number): boolean
  /** Reads a partition again from the backlog's position. */
  reread(partition: number): void
  /** The read position is outside the broker's log. */
  outOfRange(partition: number): void
  /** The log has another record at the offset of the marked one. */
  changed(partition: number): void
  /** The leader has no record at `offset`, the place of the marked one. A new leader may not know yet what is confirmed. */
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
  /** The partitions being placed. Fetches of them are ignored. */
  const moving = new Set<number>()
  /** The partitions whose end is being read. */
  const looking = new Set<number>()

  /** Retries `work` until it succeeds or the assignment has changed. */
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

  /** @returns whether the partition may be read. If not, its records may be owed to relying parties of another ledger. */
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

  /**
   * Moves reading. If the log begins after our position, retention removed unread records. Otherwise the log has lost its end.
   */
  async function replace(partition: number, why: 'out of range' | 'changed'): Promise<void> {
    if (moving.has(partition) || !assignment.includes(partition)) return
    moving.add(partition)
    membership.pause(partition)
    await persist(async (isCurrent) => {
      const place = backlog.next(partition)
      const start = await membership.readStart(partition)
      if (place === null || !isCurrent()) return
      const { next, mark } = place
      // Without a commit it is unknown how much has been handled: Kafka forgets the commits of groups that were empty for long.
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
      // Unlike a fetch, this request is answered only when the leader knows the end.
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
