import { expect, test } from 'vitest'
import { atLeast, LEVELS, weaker } from './level.ts'

test('a level is at least itself and every weaker level, and no stronger one', () => {
  for (const [place, level] of LEVELS.entries()) {
    for (const [other, least] of LEVELS.entries()) expect(atLeast(level, least)).toBe(place <= other)
  }
})

test('the weaker of two levels does not depend on their order', () => {
  expect(weaker('done', 'begun')).toBe('begun')
  expect(weaker('begun', 'done')).toBe('begun')
  expect(weaker('partial', 'received')).toBe('received')
})
