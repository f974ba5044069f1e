import { expect, test } from 'vitest'
import { atLeast, LEVELS, weaker } from './level.ts'

test('a level is at least itself and everything weaker, and nothing stronger', () => {
  for (const [place, level] of LEVELS.entries()) {
    for (const [other, least] of LEVELS.entries()) expect(atLeast(level, least)).toBe(place <= other)
  }
})

test('of two levels the weaker one is that which asserts less, in either order', () => {
  expect(weaker('done', 'begun')).toBe('begun')
  expect(weaker('begun', 'done')).toBe('begun')
  expect(weaker('partial', 'received')).toBe('received')
})
