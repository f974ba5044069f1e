import { describe, expect, it } from 'vitest'
import { createBacklog, type Read } from './backlog.ts'

// Goal: no record is lost, handed out twice at once or committed too early, whatever a rebalance does in between.
// Method: reads and rebalances in the orders in which kafkajs can produce them.

function read(partition: number, from: number, count: number): Read {
  return {
    partition,
    from: BigInt(from),
    next: BigInt(from + count),
    entries: Array.from({ length: count }, (_, index) => ({
      offset: BigInt(from + index),
      record: {
        lane: 'interactive',
        key: `p${partition}`,
        value: new Uint8Array(),
        headers: {},
        position: `${partition}@${from + index}`,
      },
    })),
  }
}

function open(...partitions: number[]) {
  const backlog = createBacklog()
  backlog.assign(partitions)
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
  return { ...backlog, next: take, positions, finish }
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
    backlog.add(read(0, 10, 5))
    backlog.add(read(1, 0, 2))
    const first = backlog.next(3)
    const second = backlog.next(100)
    backlog.release(second)
    backlog.finish(first)
    expect(backlog.dueCommits()).toEqual([{ partition: 0, next: 13n }])
    backlog.committed(backlog.dueCommits())
    expect(backlog.dueCommits()).toEqual([])
  })

  it('forgets a partition that was taken away: no records, no commit', () => {
    const backlog = open(0, 1)
    backlog.add(read(0, 0, 2))
    backlog.add(read(1, 0, 2))
    const batch = backlog.next()
    backlog.assign([1])
    expect(backlog.positions(batch)).toEqual(['1@0', '1@1'])
    backlog.finish(batch)
    expect(backlog.dueCommits()).toEqual([{ partition: 1, next: 2n }])
    expect(backlog.add(read(0, 2, 1))).toBe('refused')
  })

  it('does not hand out a partition that came back while what was begun before goes on', () => {
    const backlog = open(0)
    backlog.add(read(0, 0, 2))
    const before = backlog.next()
    backlog.assign([])
    backlog.assign([0])
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
    backlog.assign([0])
    backlog.add(read(0, 0, 3))
    backlog.finish(before)
    expect(backlog.dueCommits()).toEqual([{ partition: 0, next: 2n }])
    backlog.add(read(0, 3, 2))
    expect(backlog.positions(backlog.next())).toEqual(['0@2', '0@3', '0@4'])
  })

  it('skips repetitions that are read only after the handling ended', () => {
    const backlog = open(0)
    backlog.add(read(0, 0, 4))
    const before = backlog.next(3)
    backlog.assign([0])
    backlog.finish(before)
    backlog.add(read(0, 0, 2))
    expect(backlog.take(100)).toBeNull()
    backlog.add(read(0, 2, 3))
    expect(backlog.positions(backlog.next())).toEqual(['0@3', '0@4'])
  })

  it('refuses a read from before a rebalance, behind records that were forgotten in it', () => {
    const backlog = open(0)
    backlog.add(read(0, 0, 5))
    backlog.assign([0])
    expect(backlog.add(read(0, 5, 5))).toBe('refused')
    expect(backlog.add(read(0, 0, 10))).toBe('taken')
    expect(backlog.positions(backlog.next())).toHaveLength(10)
  })

  it('takes a gap that stays: retention has removed what lay there', () => {
    const backlog = open(0)
    backlog.add(read(0, 0, 5))
    expect(backlog.add(read(0, 50, 5))).toBe('refused')
    expect(backlog.add(read(0, 50, 5))).toBe('taken')
  })

  it('takes a log that began anew, and does not mistake it for a repetition', () => {
    const backlog = open(0)
    backlog.add(read(0, 100, 5))
    backlog.finish(backlog.next())
    expect(backlog.add(read(0, 0, 3))).toBe('taken')
    expect(backlog.positions(backlog.next())).toEqual(['0@0', '0@1', '0@2'])
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
