import type { EventId } from '@curfew/domain'
import { expect, test } from 'vitest'
import { createRecentIds } from './recent-ids.ts'

const id = (text: string) => text as EventId

test('finds what an id was last accepted with', () => {
  const recent = createRecentIds(10)
  recent.add(id('a'), 'one')
  recent.add(id('a'), 'two')
  expect(recent.find(id('a'))).toBe('two')
  expect(recent.find(id('b'))).toBeUndefined()
})

test('remembers the last so many, and forgets the oldest first; an id that came again is young again', () => {
  const recent = createRecentIds(3)
  for (const name of ['a', 'b', 'c', 'a', 'd']) recent.add(id(name), name)
  expect(['a', 'b', 'c', 'd'].filter((name) => recent.find(id(name)) !== undefined)).toEqual(['a', 'c', 'd'])
})
