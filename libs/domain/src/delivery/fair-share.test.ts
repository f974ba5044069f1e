import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { createFairTurns, interleave, shareLeft } from './fair-share.ts'

// Goal: no taker gets all, and none waits for longer than the others' turns. Method: examples, and random takers against a
// plain model.

describe('the share of one taker', () => {
  test.each([
    // has, free, part, left
    [0, 100, 3 / 4, 75],
    [75, 25, 3 / 4, 0],
    [60, 40, 3 / 4, 15],
    [0, 25, 3 / 4, 19],
    [0, 1, 1 / 16, 1],
    [5, 0, 3 / 4, 0],
    [5, -3, 3 / 4, 0],
  ])('who has %d of which %d are free may have, with the part %d, %d more', (has, free, part, left) => {
    expect(shareLeft(has, free, part)).toBe(left)
  })

  test('a newcomer gets something as long as anything is free, and no more than is free', () => {
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

  test('takers that take all they may, one after the other, each find something, until there are many', () => {
    fc.assert(
      fc.property(fc.integer({ min: 100, max: 10_000 }), fc.integer({ min: 2, max: 4 }), (stock, takers) => {
        let free = stock
        const has: number[] = []
        for (let taker = 0; taker < takers; taker++) {
          has.push(shareLeft(0, free, 3 / 4))
          free -= has[taker] ?? 0
        }
        expect(Math.min(...has)).toBeGreaterThan(0)
        // A taker that has its share may take no more until others give back.
        for (const taken of has) expect(shareLeft(taken, free, 3 / 4)).toBe(0)
      }),
    )
  })
})

describe('turns', () => {
  const anyone = () => true
  function drain<Group, Member>(turns: ReturnType<typeof createFairTurns<Group, Member>>, most = 1_000) {
    const taken: Member[] = []
    for (let next = turns.next(anyone); next !== null && taken.length < most; next = turns.next(anyone))
      taken.push(next)
    return taken
  }

  test('groups take turns, however many members one has; members come in order', () => {
    const turns = createFairTurns<string, string>()
    for (const member of ['a1', 'a2', 'a3', 'a4']) turns.add('a', member)
    for (const member of ['b1', 'b2']) turns.add('b', member)
    expect(drain(turns)).toEqual(['a1', 'b1', 'a2', 'b2', 'a3', 'a4'])
  })

  test('a group that comes while another has thousands is next but one', () => {
    const turns = createFairTurns<string, number>()
    for (let member = 0; member < 10_000; member++) turns.add('a', member)
    turns.next(anyone)
    turns.add('b', -1)
    expect([turns.next(anyone), turns.next(anyone)]).toContain(-1)
  })

  test('a member that waits is not put in twice', () => {
    const turns = createFairTurns<string, string>()
    for (const member of ['a1', 'a2', 'a1']) turns.add('a', member)
    expect(drain(turns)).toEqual(['a1', 'a2'])
  })

  test('a group that may not is set aside, holds up no other, and keeps its members until it is recalled', () => {
    const turns = createFairTurns<string, string>()
    turns.add('a', 'a1')
    turns.add('b', 'b1')
    const notA = (group: string) => group !== 'a'
    expect([turns.next(notA), turns.next(notA), turns.next(anyone)]).toEqual(['b1', null, null])
    turns.recall('c')
    turns.recall('a')
    expect(drain(turns)).toEqual(['a1'])
  })

  test('between two turns of a group that waits, every other that waits has at most one', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(4), fc.nat(20)), { maxLength: 200 }), (offers) => {
        const turns = createFairTurns<number, string>()
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

test('interleaved groups each come with their first before any comes with its second', () => {
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
