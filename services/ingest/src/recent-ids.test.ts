import type { EventId } from '@curfew/domain'
import { expect, test } from 'vitest'
import { createRecentIds } from './recent-ids.ts'

// Goal: the last ids are found with their contents, in bounded memory.
// Method: the pure structure.

const id = (text: string) => text as EventId

test('find returns the last content of an id', () => {
  const recent = createRecentIds(10)
  recent.add(id('a'), 'one')
  recent.add(id('a'), 'two')
  expect(recent.find(id('a'))).toBe('two')
  expect(recent.find(id('b'))).toBeUndefined()
})

test('the oldest id is forgotten first, and a repeated id counts as new', () => {
  const recent = createRecentIds(3)
  for (const name of ['a', 'b', 'c', 'a', 'd']) recent.add(id(name), name)
  expect(['a', 'b', 'c', 'd'].filter((name) => recent.find(id(name)) !== undefined)).toEqual(['a', 'c', 'd'])
})
