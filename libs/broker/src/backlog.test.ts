import { describe, expect, it } from 'vitest'
import { createBacklog, type Read } from './backlog.ts'
import { markOf } from './mark.ts'

// Goal: the backlog loses no record, gives out no record twice at once and commits none too early, despite rebalances and losses
// in the log. Method: reads, rebalances and losses in the orders that kafkajs and Kafka produce.

/** @param log names the log: another log has other records at the same offsets. @param epoch the leader's epoch. */
function read(partition: number, from: number, count: number, { log = 'a', epoch = 0 } = {}): Read {
  return {
    partition,
    from: BigInt(from),
    next: BigInt(from + count),
    entries: Array.from({ length: count }, (_, index) => ({
      offset: BigInt(from + index),
      epoch,
      timestamp: '1000',
      readMs: 1_000,
      record: {
        lane: 'interactive',
        key: `p${partition}`,
        value: Buffer.from(`${log} ${from + index}`),
        headers: {},
        position: `${partition}@${from + index}`,
      },
    })),
  }
}

/** A commit of `next`, with the mark of the record before it. */
function commit(next: number, { log = 'a', epoch = 0 } = {}) {
  const [entry] = read(0, next - 1, 1, { log, epoch }).entries
  if (entry === undefined) throw new Error('the read has no record')
  return { next: BigInt(next), mark: markOf(entry) }
}

function open(...partitions: number[]) {
  const backlog = createBacklog()
  const take = (batchSize = 100) => {
    const batch = backlog.take(batchSize)
    if (batch === null) throw new Error('nothing to take')
    return batch
  }
  const positions = (batch: ReturnType<typeof take>) => backlog.records(batch).map(({ position }) => position)
  const finish = (batch: ReturnType<typeof take>) => {
    backlog.handled(batch)
    backlog.release(batch)
  }
  const due = () => backlog.dueCommits().map(({ partition, next }) => ({ partition, next: Number(next) }))
  /** Assigns and places partitions without a commit, so that they start at 0. */
  const assign = (...assigned: number[]) => {
    backlog.assign(assigned)
    for (const partition of assigned) backlog.place(partition, null)
  }
  assign(...partitions)
  return {
    ...backlog,
    assignOnly: backlog.assign,
    assign,
    next: take,
    positions,
    finish,
    due,
    nextOf: backlog.next,
  }
}

describe('the backlog', () => {
  it('fills a batch from several partitions, and gives these to no other batch until its release', () => {
    const backlog = open(0, 1, 2)
    backlog.add(read(0, 0, 3))
    backlog.add(read(1, 0, 3))
    backlog.add(read(2, 0, 3))
    const first = backlog.next(4)
    expect(backlog.positions(first)).toEqual(['0@0', '0@1', '0@2', '1@0'])
    const second = backlog.next(100)
    expect(backlog.positions(second)).toEqual(['2@0', '2@1', '2@2'])
    expect(backlog.take(100)).toBeNull()
    backlog.finish(first)
    expect(backlog.positions(backlog.next(100))).toEqual(['1@1', '1@2'])
  })

  it('commits handled records once, and does not commit records that were only taken or rejected', () => {
    const backlog = open(0, 1)
    backlog.add(read(0, 0, 5))
    backlog.add(read(1, 0, 2))
    const first = backlog.next(3)
    const second = backlog.next(100)
    backlog.release(second)
    backlog.finish(first)
    expect(backlog.due()).toEqual([{ partition: 0, next: 3 }])
    expect(backlog.dueCommits()[0]?.mark).toEqual(commit(3).mark)
    backlog.committed(backlog.dueCommits())
    expect(backlog.dueCommits()).toEqual([])
  })

  it('forgets the records and commits of a partition that was assigned away', () => {
    const backlog = open(0, 1)
    backlog.add(read(0, 0, 2))
    backlog.add(read(1, 0, 2))
    const batch = backlog.next()
    backlog.assign(1)
    expect(backlog.positions(batch)).toEqual([])
    backlog.finish(batch)
    expect(backlog.due()).toEqual([{ partition: 1, next: 2 }])
    expect(backlog.add(read(0, 2, 1))).toBe('refused')
  })

  it('gives out no records of a reassigned partition while its earlier batch is under way', () => {
    const backlog = open(0)
    backlog.add(read(0, 0, 2))
    const before = backlog.next()
    backlog.assign()
    backlog.assign(0)
    backlog.add(read(0, 0, 4))
    expect(backlog.take(100)).toBeNull()
    backlog.finish(before)
    expect(backlog.dueCommits()).toEqual([])
    expect(backlog.positions(backlog.next())).toEqual(['0@0', '0@1', '0@2', '0@3'])
  })

  it('does not give out handled records again after a rebalance that kept their partition', () => {
    const backlog = open(0)
    backlog.add(read(0, 0, 4))
    const before = backlog.next(2)
    backlog.assign(0)
    backlog.add(read(0, 3, 1))
    backlog.finish(before)
    expect(backlog.due()).toEqual([{ partition: 0, next: 2 }])
    backlog.add(read(0, 4, 1))
    expect(backlog.positions(backlog.next())).toEqual(['0@2', '0@3', '0@4'])
  })

  it('gives out records that were not handled before a rebalance again, in order', () => {
    const backlog = open(0)
    backlog.add(read(0, 0, 4))
    const before = backlog.next(3)
    backlog.leave()
    expect(backlog.positions(before)).toEqual([])
    backlog.release(before)
    expect(backlog.take(100)).toBeNull()
    backlog.assign(0)
    expect(backlog.positions(backlog.next())).toEqual(['0@0', '0@1', '0@2', '0@3'])
  })

  it('commits nothing of a partition until it is placed at the commit of the group', () => {
    const backlog = open(0)
    backlog.add(read(0, 0, 4))
    const before = backlog.next(2)
    backlog.leave()
    backlog.finish(before)
    expect(backlog.due()).toEqual([])
    backlog.assign(0)
    expect(backlog.due()).toEqual([{ partition: 0, next: 2 }])
  })

  it('drops records that another consumer has handled', () => {
    const backlog = open(0)
    backlog.add(read(0, 0, 6))
    const before = backlog.next(2)
    backlog.leave()
    backlog.assignOnly([0])
    backlog.place(0, commit(4))
    backlog.release(before)
    expect(backlog.positions(backlog.next())).toEqual(['0@4', '0@5'])
  })

  it('takes no records of a partition until it is placed', () => {
    const backlog = createBacklog()
    backlog.assign([0])
    expect(backlog.add(read(0, 0, 3))).toBe('refused')
    backlog.place(0, commit(2))
    expect(backlog.readFrom(0)).toBe(1n)
    expect(backlog.add(read(0, 1, 2))).toBe('taken')
    expect(backlog.waiting(0)).toBe(1)
  })

  it('reads again if a read starts beyond the expected offset, and accepts the gap the second time', () => {
    const backlog = open(0)
    backlog.add(read(0, 0, 5))
    backlog.assign(0)
    expect(backlog.add(read(0, 5, 5))).toBe('again')
    expect(backlog.add(read(0, 4, 6))).toBe('taken')
    expect(backlog.positions(backlog.next())).toHaveLength(10)
    expect(backlog.add(read(0, 11, 2))).toBe('again')
    expect(backlog.readFrom(0)).toBe(10n)
    expect(backlog.add(read(0, 11, 2))).toBe('taken')
  })

  it('starts each batch at another partition, so that a full one does not block the rest', () => {
    const backlog = open(0, 1)
    backlog.add(read(0, 0, 50))
    backlog.add(read(1, 0, 1))
    const first = backlog.next(10)
    backlog.finish(first)
    expect(backlog.positions(backlog.next(10))).toContain('1@0')
  })
})

describe('a commit that is compared with the log', () => {
  it('reads the marked record again, and gives out the records after it', () => {
    const backlog = createBacklog()
    backlog.assign([0])
    backlog.place(0, commit(5))
    expect(backlog.add(read(0, 4, 4))).toBe('taken')
    expect(backlog.take(9)?.shares[0]?.entries.map(({ offset }) => offset)).toEqual([5n, 6n, 7n])
    expect(backlog.dueCommits()).toEqual([])
  })

  it('reports another record in the place of the marked one, and takes nothing', () => {
    const backlog = createBacklog()
    backlog.assign([0])
    backlog.place(0, commit(5))
    expect(backlog.add(read(0, 4, 4, { log: 'b' }))).toBe('other')
    expect(backlog.waiting(0)).toBe(0)
    expect(backlog.next(0)).toEqual(commit(5))
  })

  it('is accepted if it has no mark', () => {
    const backlog = createBacklog()
    backlog.assign([0])
    backlog.place(0, { next: 5n, mark: null })
    expect(backlog.add(read(0, 5, 2, { log: 'b' }))).toBe('taken')
  })

  it('yields to our own uncommitted position, unless another consumer has moved beyond it', () => {
    const backlog = open(0)
    backlog.add(read(0, 0, 4))
    backlog.finish(backlog.next())
    backlog.assign(0)
    backlog.place(0, commit(2))
    expect(backlog.readFrom(0)).toBe(3n)
    backlog.assign(0)
    backlog.place(0, commit(9))
    expect(backlog.readFrom(0)).toBe(8n)
    expect(backlog.dueCommits()).toEqual([])
  })

  it('is not undone by a batch from before another consumer moved the commit', () => {
    const backlog = open(0)
    backlog.add(read(0, 0, 4))
    const before = backlog.next()
    backlog.assign(0)
    backlog.place(0, commit(9))
    backlog.finish(before)
    expect(backlog.dueCommits()).toEqual([])
    expect(backlog.readFrom(0)).toBe(8n)
  })
})

describe('a log that changes while it is read', () => {
  it('is compared when another leader has appended to it, and read on if it is the same', () => {
    const backlog = open(0)
    backlog.add(read(0, 0, 5))
    expect(backlog.add(read(0, 5, 2, { epoch: 1 }))).toBe('again')
    expect(backlog.readFrom(0)).toBe(4n)
    const whole = read(0, 4, 3)
    const [marked, ...others] = whole.entries
    if (marked === undefined) throw new Error('the read has no record')
    const later = others.map((entry) => ({ ...entry, epoch: 1 }))
    expect(backlog.add({ ...whole, entries: [marked, ...later] })).toBe('taken')
    expect(backlog.add(read(0, 7, 1, { epoch: 1 }))).toBe('taken')
    expect(backlog.positions(backlog.next())).toEqual(Array.from({ length: 8 }, (_, at) => `0@${at}`))
  })

  it('is handled again from the rewind on; lost records are handled too, and move no commit', () => {
    const backlog = open(0)
    backlog.add(read(0, 0, 6))
    const before = backlog.next(2)
    expect(backlog.add(read(0, 6, 2, { log: 'b', epoch: 1 }))).toBe('again')
    expect(backlog.add(read(0, 5, 3, { log: 'b', epoch: 1 }))).toBe('other')
    backlog.rewind(0, 1n)
    expect(backlog.due()).toEqual([{ partition: 0, next: 1 }])
    backlog.finish(before)
    expect(backlog.due()).toEqual([{ partition: 0, next: 1 }])
    expect(backlog.add(read(0, 1, 2, { log: 'b', epoch: 1 }))).toBe('taken')
    const batch = backlog.next()
    expect(backlog.records(batch).map(({ value }) => Buffer.from(value).toString())).toEqual([
      'a 2',
      'a 3',
      'a 4',
      'a 5',
      'b 1',
      'b 2',
    ])
    backlog.finish(batch)
    expect(backlog.due()).toEqual([{ partition: 0, next: 3 }])
  })

  it.each([
    ['a rebalance', () => undefined],
    ['another membership', (backlog: ReturnType<typeof open>) => backlog.leave()],
  ])('is compared after %s with the last record read', (_, between) => {
    const backlog = open(0)
    backlog.add(read(0, 0, 6))
    const before = backlog.next(4)
    between(backlog)
    backlog.assignOnly([0])
    backlog.place(0, commit(1))
    expect(backlog.readFrom(0)).toBe(5n)
    backlog.finish(before)
    expect(backlog.add(read(0, 5, 4, { log: 'b', epoch: 1 }))).toBe('other')
    backlog.rewind(0, 1n)
    expect(backlog.add(read(0, 1, 8, { log: 'b', epoch: 1 }))).toBe('taken')
    const batch = backlog.next()
    const values = backlog.records(batch).map(({ value }) => Buffer.from(value).toString())
    expect(values).toEqual(['a 4', 'a 5', ...Array.from({ length: 8 }, (_, at) => `b ${at + 1}`)])
    backlog.finish(batch)
    expect(backlog.due()).toEqual([{ partition: 0, next: 9 }])
  })

  it('has its waiting records handled after retention removed them, even after a rebalance', () => {
    const backlog = open(0)
    backlog.add(read(0, 0, 4))
    const before = backlog.next(2)
    backlog.skip(0, 50n)
    backlog.assign(0)
    backlog.release(before)
    expect(backlog.positions(backlog.next())).toEqual(['0@0', '0@1', '0@2', '0@3'])
  })

  it('continues after the records that retention removed', () => {
    const backlog = open(0)
    backlog.add(read(0, 0, 2))
    backlog.finish(backlog.next())
    backlog.skip(0, 50n)
    expect(backlog.due()).toEqual([{ partition: 0, next: 50 }])
    expect(backlog.add(read(0, 50, 1, { epoch: 3 }))).toBe('taken')
  })

  it('is compared again on request', () => {
    const backlog = open(0)
    backlog.add(read(0, 0, 2))
    backlog.recheck(0)
    expect(backlog.readFrom(0)).toBe(1n)
    expect(backlog.add(read(0, 1, 3))).toBe('taken')
    expect(backlog.waiting(0)).toBe(4)
  })
})
