import { describe, expect, it } from 'vitest'
import { createBacklog, type Read } from './backlog.ts'
import { markOf } from './mark.ts'

// Goal: no record is lost, handed out twice at once or committed too early, whatever a rebalance or a loss in the log does in between.
// Method: reads, rebalances and losses in the orders in which kafkajs and Kafka can produce them.

/** @param log which log it was: another has other records at the same offsets. @param epoch of its leader. */
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

/** A commit of `next`, with the record before it. */
function commit(next: number, { log = 'a', epoch = 0 } = {}) {
  const [entry] = read(0, next - 1, 1, { log, epoch }).entries
  if (entry === undefined) throw new Error('a record')
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
  /** As the group does it: a partition without a commit begins at 0. */
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
  it('fills a batch from several partitions and keeps these to itself until it is released', () => {
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

  it('commits what has been handled, once, and not what has only been taken or was rejected', () => {
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

  it('forgets a partition that was taken away: no records, no commit', () => {
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

  it('does not hand out a partition that came back while what was begun before goes on', () => {
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

  it('does not handle again what it handled through a rebalance that left it the partition', () => {
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

  it('hands out again what was not handled before a rebalance, in its order', () => {
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

  it('commits nothing of a partition before it is known where the commit of the group is', () => {
    const backlog = open(0)
    backlog.add(read(0, 0, 4))
    const before = backlog.next(2)
    backlog.leave()
    backlog.finish(before)
    expect(backlog.due()).toEqual([])
    backlog.assign(0)
    expect(backlog.due()).toEqual([{ partition: 0, next: 2 }])
  })

  it('drops what others handled since', () => {
    const backlog = open(0)
    backlog.add(read(0, 0, 6))
    const before = backlog.next(2)
    backlog.leave()
    backlog.assignOnly([0])
    backlog.place(0, commit(4))
    backlog.release(before)
    expect(backlog.positions(backlog.next())).toEqual(['0@4', '0@5'])
  })

  it('takes nothing of a partition before it is known where it is to be read', () => {
    const backlog = createBacklog()
    backlog.assign([0])
    expect(backlog.add(read(0, 0, 3))).toBe('refused')
    backlog.place(0, commit(2))
    expect(backlog.readFrom(0)).toBe(1n)
    expect(backlog.add(read(0, 1, 2))).toBe('taken')
    expect(backlog.waiting(0)).toBe(1)
  })

  it('reads again where a read begins beyond what was expected, and takes the gap where nothing is in it', () => {
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

  it('lets no full partition keep the others waiting', () => {
    const backlog = open(0, 1)
    backlog.add(read(0, 0, 50))
    backlog.add(read(1, 0, 1))
    const first = backlog.next(10)
    backlog.finish(first)
    expect(backlog.positions(backlog.next(10))).toContain('1@0')
  })
})

describe('a commit that is compared with the log', () => {
  it('reads the marked record once more, and hands out what follows it', () => {
    const backlog = createBacklog()
    backlog.assign([0])
    backlog.place(0, commit(5))
    expect(backlog.add(read(0, 4, 4))).toBe('taken')
    expect(backlog.take(9)?.shares[0]?.entries.map(({ offset }) => offset)).toEqual([5n, 6n, 7n])
    expect(backlog.dueCommits()).toEqual([])
  })

  it('says so where the log has another record there, and takes nothing', () => {
    const backlog = createBacklog()
    backlog.assign([0])
    backlog.place(0, commit(5))
    expect(backlog.add(read(0, 4, 4, { log: 'b' }))).toBe('other')
    expect(backlog.waiting(0)).toBe(0)
    expect(backlog.next(0)).toEqual(commit(5))
  })

  it('is believed where it has no mark', () => {
    const backlog = createBacklog()
    backlog.assign([0])
    backlog.place(0, { next: 5n, mark: null })
    expect(backlog.add(read(0, 5, 2, { log: 'b' }))).toBe('taken')
  })

  it('gives way to what was handled and could not be committed yet, and goes before what others handled since', () => {
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

  it('is not undone by what was begun before others went on', () => {
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
  it('is compared where another leader has appended to it, and read on where it is the same', () => {
    const backlog = open(0)
    backlog.add(read(0, 0, 5))
    expect(backlog.add(read(0, 5, 2, { epoch: 1 }))).toBe('again')
    expect(backlog.readFrom(0)).toBe(4n)
    const whole = read(0, 4, 3)
    const [marked, ...others] = whole.entries
    if (marked === undefined) throw new Error('a record')
    const later = others.map((entry) => ({ ...entry, epoch: 1 }))
    expect(backlog.add({ ...whole, entries: [marked, ...later] })).toBe('taken')
    expect(backlog.add(read(0, 7, 1, { epoch: 1 }))).toBe('taken')
    expect(backlog.positions(backlog.next())).toEqual(Array.from({ length: 8 }, (_, at) => `0@${at}`))
  })

  it('is handled anew from where it was rewound to; what it has lost is handled too, and moves no commit', () => {
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
  ])('is compared after %s by the last record that was read', (_, between) => {
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

  it('has what waits handled when retention has removed it, also after a rebalance', () => {
    const backlog = open(0)
    backlog.add(read(0, 0, 4))
    const before = backlog.next(2)
    backlog.skip(0, 50n)
    backlog.assign(0)
    backlog.release(before)
    expect(backlog.positions(backlog.next())).toEqual(['0@0', '0@1', '0@2', '0@3'])
  })

  it('goes on behind what retention removed', () => {
    const backlog = open(0)
    backlog.add(read(0, 0, 2))
    backlog.finish(backlog.next())
    backlog.skip(0, 50n)
    expect(backlog.due()).toEqual([{ partition: 0, next: 50 }])
    expect(backlog.add(read(0, 50, 1, { epoch: 3 }))).toBe('taken')
  })

  it('is compared once more on request', () => {
    const backlog = open(0)
    backlog.add(read(0, 0, 2))
    backlog.recheck(0)
    expect(backlog.readFrom(0)).toBe(1n)
    expect(backlog.add(read(0, 1, 3))).toBe('taken')
    expect(backlog.waiting(0)).toBe(4)
  })
})
