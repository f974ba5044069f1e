import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { createRoundRobin, interleave, shareLeft } from './fair-share.ts'

// Goal: no consumer takes all of a stock, and no group waits longer than one round.
// Method: examples, and properties over random consumers and groups.

describe('the share of one consumer', () => {
  test.each([
    // has, free, part, left
    [0, 100, 3 / 4, 75],
    [75, 25, 3 / 4, 0],
    [60, 40, 3 / 4, 15],
    [0, 25, 3 / 4, 19],
    [0, 1, 1 / 16, 1],
    [5, 0, 3 / 4, 0],
    [5, -3, 3 / 4, 0],
  ])('with %d units, %d free units and the part %d, is %d more', (has, free, part, left) => {
    expect(shareLeft(has, free, part)).toBe(left)
  })

  test('is more than nothing for a new consumer if units are free, and never more than the free units', () => {
    fc.assert(
      fc.property(
        fc.nat(10_000),
        fc.nat(10_000),
        fc.double({ min: 0.01, max: 0.99, noNaN: true }),
        (has, free, part) => {
          const left = shareLeft(has, free, part)
          expect(left).toBeLessThanOrEqual(free)
          expect(shareLeft(0, free, part) > 0).toBe(free > 0)
        },
      ),
    )
  })

  test('is more than nothing for several consumers that take their full shares one after the other', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 100, max: 10_000 }),
        fc.integer({ min: 2, max: 4 }),
        (stock, consumers) => {
          let free = stock
          const shares: number[] = []
          for (let consumer = 0; consumer < consumers; consumer++) {
            shares.push(shareLeft(0, free, 3 / 4))
            free -= shares[consumer] ?? 0
          }
          expect(Math.min(...shares)).toBeGreaterThan(0)
          // A consumer that holds its share may take no more until others give units back.
          for (const share of shares) expect(shareLeft(share, free, 3 / 4)).toBe(0)
        },
      ),
    )
  })
})

describe('the round-robin queue', () => {
  const anyGroup = () => true
  function drain<Group, Member>(turns: ReturnType<typeof createRoundRobin<Group, Member>>, most = 1_000) {
    const taken: Member[] = []
    for (let next = turns.next(anyGroup); next !== null && taken.length < most; next = turns.next(anyGroup))
      taken.push(next)
    return taken
  }

  test('alternates between groups of any size, and keeps the order within a group', () => {
    const turns = createRoundRobin<string, string>()
    for (const member of ['a1', 'a2', 'a3', 'a4']) turns.add('a', member)
    for (const member of ['b1', 'b2']) turns.add('b', member)
    expect(drain(turns)).toEqual(['a1', 'b1', 'a2', 'b2', 'a3', 'a4'])
  })

  test('serves a new group within two steps, although another group has thousands of members', () => {
    const turns = createRoundRobin<string, number>()
    for (let member = 0; member < 10_000; member++) turns.add('a', member)
    turns.next(anyGroup)
    turns.add('b', -1)
    expect([turns.next(anyGroup), turns.next(anyGroup)]).toContain(-1)
  })

  test('contains a member once', () => {
    const turns = createRoundRobin<string, string>()
    for (const member of ['a1', 'a2', 'a1']) turns.add('a', member)
    expect(drain(turns)).toEqual(['a1', 'a2'])
  })

  test('sets a refused group aside with its members until it is recalled, and serves the other groups', () => {
    const turns = createRoundRobin<string, string>()
    turns.add('a', 'a1')
    turns.add('b', 'b1')
    const notA = (group: string) => group !== 'a'
    expect([turns.next(notA), turns.next(notA), turns.next(anyGroup)]).toEqual(['b1', null, null])
    turns.recall('c')
    turns.recall('a')
    expect(drain(turns)).toEqual(['a1'])
  })

  test('serves no waiting group twice before every other waiting group', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(4), fc.nat(20)), { maxLength: 200 }), (offers) => {
        const turns = createRoundRobin<number, string>()
        for (const [group, member] of offers) turns.add(group, `${group}:${member}`)
        const left = Map.groupBy(new Set(offers.map(([group, member]) => `${group}:${member}`)), (name) =>
          Number(name.split(':')[0]),
        )
        const groups = drain(turns).map((name) => Number(name.split(':')[0]))
        expect(groups).toHaveLength([...left.values()].flat().length)
        const had = new Map<number, number>()
        for (const group of groups) {
          had.set(group, (had.get(group) ?? 0) + 1)
          for (const [other, members] of left) {
            const waits = members.length - (had.get(other) ?? 0) > 0
            if (waits) expect((had.get(group) ?? 0) - (had.get(other) ?? 0)).toBeLessThanOrEqual(1)
          }
        }
      }),
    )
  })
})

test('interleaved items come round by round', () => {
  expect(interleave([['a1', 'a2', 'a3'], [], ['b1'], ['c1', 'c2']])).toEqual([
    'a1',
    'b1',
    'c1',
    'a2',
    'c2',
    'a3',
  ])
  expect(interleave([])).toEqual([])
})
